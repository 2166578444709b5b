"""Flags differences between a line and its quotes."""
