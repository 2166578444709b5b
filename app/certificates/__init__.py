"""Certificates of destruction, which state what was destroyed, under which rule, and that no hold covered it."""
