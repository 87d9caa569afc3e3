"""Files and facts of synthetic sets."""
