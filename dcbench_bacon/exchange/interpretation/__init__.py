"""The meaning of a foreign file: its format, values, classes and names."""
