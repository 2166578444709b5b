"""Alerts: conditions that an operator or a compliance officer must look at."""
