"""Reading and writing of synthetic sets in the formats of other tools."""
