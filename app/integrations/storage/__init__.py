"""Talks to the bucket over the S3 protocol."""
