"""Evaluation of synthetic sets."""
