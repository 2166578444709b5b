"""Exports of the audit log: encrypted archives with the events that a filter selects, and with a receipt."""
