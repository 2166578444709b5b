"""Resguardo: consultation recordings, kept the way a court would want them kept."""
