"""Figures, made from records alone."""
