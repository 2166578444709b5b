"""Clips: short parts of a recording that its doctor cuts out."""
