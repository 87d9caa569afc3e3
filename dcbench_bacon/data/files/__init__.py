"""The files of data sets and images: found, opened and decoded."""
