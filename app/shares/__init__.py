"""Shares of consultations with colleagues, and the authorizations that sensitive consultations need."""
