"""Training on real images and on synthetic sets."""
