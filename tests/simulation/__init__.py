"""Simulates two years of a practice in a few minutes, and checks every retention and every destruction."""
