"""Talks to a speech service that is compatible with OpenAI's."""
