"""Files, locks, checkpoints, memory, precision, compilation, clocks and progress."""
