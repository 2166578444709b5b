"""Manages the bucket's rules as code: parses `policies/bucket/`, compares the bucket with it, and applies it."""
