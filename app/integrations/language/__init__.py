"""Asks a language model for text that follows a JSON schema."""
