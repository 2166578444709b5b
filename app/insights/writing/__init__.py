"""Requests to a language service about a transcript, and the validation of its answers. All of it is pure."""
