"""Networks of the literature and of hubs, and their flat parameters."""
