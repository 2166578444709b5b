"""Talks to LiveKit: rooms, egress and webhooks."""
