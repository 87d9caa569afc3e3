"""Files, locks, checkpoints and caches."""
