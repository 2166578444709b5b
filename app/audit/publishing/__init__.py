"""Publishes the audit log to the bucket, to a second bucket and to witnesses, and adopts the bucket's log after a
restore of the database.
"""
