"""Progress, pace, timing and trackers."""
