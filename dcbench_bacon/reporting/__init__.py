"""Tables, comparisons with the literature, and figures."""
