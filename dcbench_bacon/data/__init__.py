"""Data sets, and synthetic sets with their files."""
