"""Outgoing webhooks (Standard Webhooks): signed messages with ids only, to the endpoints of the practice."""
