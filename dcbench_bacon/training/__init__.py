"""Training on real images and on synthetic sets, and the networks that result."""
