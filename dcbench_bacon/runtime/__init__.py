"""Files, locks, checkpoints, memory, precision, compilation, timing and progress."""
