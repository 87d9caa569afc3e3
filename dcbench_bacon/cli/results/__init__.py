"""The commands that show records, recipes and what exists."""
