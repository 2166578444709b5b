"""Answers a doctor's questions about one transcript, with lines that cite it."""
