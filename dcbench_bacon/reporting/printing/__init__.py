"""Tables as pages, and pages as text."""
