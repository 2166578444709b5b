"""Breach assessments (45 CFR 164.402 to 164.414) and sanctions (164.530(e))."""
