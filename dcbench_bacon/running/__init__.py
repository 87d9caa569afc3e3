"""Cells, grids, and what they share while they run."""
