"""Reads numbers, units and temperatures in English and Spanish text, so that a search with one spelling also finds
every other spelling of the same value.
"""
