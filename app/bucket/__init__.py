"""Manages the bucket's rules as code: parses the files of `policies/bucket/`, compares the bucket with these files,
and writes their rules to the bucket.
"""
