"""Talks to Cloudflare's API about the bucket: its locks and its public addresses."""
