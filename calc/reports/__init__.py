"""Estimates, records and comparisons to text, one file per output format or subject."""
