"""What distilled sets are good for: continual learning, architecture search."""
