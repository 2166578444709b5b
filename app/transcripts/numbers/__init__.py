"""Reads numbers, units and temperatures in English and Spanish text, so that each spelling finds the others."""
