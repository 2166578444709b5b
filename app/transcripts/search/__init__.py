"""Searches a doctor's own transcripts, with an index of hashed words."""
