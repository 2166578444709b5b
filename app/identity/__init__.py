"""Identifies callers: access tokens, signing keys, permissions, and the MACs of sessions."""
