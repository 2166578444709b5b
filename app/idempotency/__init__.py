"""Idempotency keys, with which a client repeats a mutation without repeating its effect."""
