"""Destroys recordings, and proves each destruction with a signed certificate."""
