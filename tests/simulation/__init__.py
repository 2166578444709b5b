"""Simulates two years of a practice in a few minutes, and checks that every recording is retained and destroyed as
the rules demand.
"""
