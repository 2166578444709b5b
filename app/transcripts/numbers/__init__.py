"""Reads numbers, units and temperatures in English and Spanish text, so that a search with one spelling finds the
other spellings.
"""
