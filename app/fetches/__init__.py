"""Fetches: the reads in the bucket's access log, beside the URLs that were issued."""
