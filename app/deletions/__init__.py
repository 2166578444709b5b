"""Destroys recordings and proves it."""
