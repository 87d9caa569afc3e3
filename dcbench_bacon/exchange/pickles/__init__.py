"""A bounded reader of pickles that runs no code."""
