"""Plans of cells and grids: checked recipes, estimates and probes."""
