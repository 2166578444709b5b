"""Attacks on a sealed audit log by the superuser of the database, and the audit that must name each attack:
`make attack-audit` (docs/audit-attacks.md).
"""
