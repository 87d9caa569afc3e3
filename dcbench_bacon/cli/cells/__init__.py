"""The commands that distil, evaluate and train, and what they do."""
