"""The restore drill: restores a dump on this machine, compares the restored database with the bucket, and removes
it again.
"""
