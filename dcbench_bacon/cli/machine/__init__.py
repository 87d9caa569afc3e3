"""The commands about this machine and its files."""
