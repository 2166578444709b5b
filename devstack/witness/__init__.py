"""A test witness that follows C2SP tlog-witness strictly: it persists each checkpoint before it answers, and checks and
persists under one lock.

`witness.py` decides, `app.py` speaks HTTP, and `python -m devstack.witness --config FILE` serves it. Tests replace its
clock and change its record as a restore of its disk would.
"""
