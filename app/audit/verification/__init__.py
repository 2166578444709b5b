"""Verifies the audit log: the database against the published tiles, and both against the signed checkpoints."""
