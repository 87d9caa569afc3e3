"""Augmentations, with explicit random draws."""
