"""Attestations of the monthly review of the audit log, signed with a fresh second factor and sealed."""
