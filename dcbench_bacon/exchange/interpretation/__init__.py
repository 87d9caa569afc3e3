"""What a foreign file means: its format, values, classes and names."""
