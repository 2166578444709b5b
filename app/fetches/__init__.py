"""Fetches: the reads in the bucket's access log, compared with the issued URLs."""
