"""Files of other tools: read with care, written as they expect them."""
