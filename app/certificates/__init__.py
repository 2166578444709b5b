"""Certificates of destruction: what was destroyed, under which rule, that no hold covered it, and the proof."""
