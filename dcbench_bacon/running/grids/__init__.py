"""Running of many cells, here and elsewhere."""
