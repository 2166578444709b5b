"""Destroying recordings, and proving it."""
