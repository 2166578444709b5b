"""Quarterly reviews of the access of staff: who has which role since when, and when each login was last used."""
