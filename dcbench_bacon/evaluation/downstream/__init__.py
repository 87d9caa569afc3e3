"""Downstream uses of synthetic sets: continual learning, architecture search."""
