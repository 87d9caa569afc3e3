"""The report: one HTML file with tables, figures and the record of every number."""
