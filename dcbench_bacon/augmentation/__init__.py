"""Augmentations whose random numbers come from explicit generators."""
