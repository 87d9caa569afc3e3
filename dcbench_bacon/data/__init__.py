"""Data sets, synthetic sets and the files of both."""
