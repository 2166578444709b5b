"""Certificates of destruction: what was destroyed, by which rule, that nothing held it, and proof that this says so."""
