"""Image files that are decoded when they are needed."""
