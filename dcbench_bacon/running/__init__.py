"""Running of cells and grids, and the resources that cells share."""
