"""Networks of the literature and of hubs, and their parameters as vectors."""
