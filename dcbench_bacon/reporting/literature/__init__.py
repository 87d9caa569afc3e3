"""Numbers of the literature, and when a measurement may be compared with them."""
