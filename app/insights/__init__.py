"""Insights into a consultation: lines about a transcript, their evidence, and flags for the doctor."""
