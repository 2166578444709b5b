"""The restore drill: restores a dump on this machine, compares it with the bucket, and removes it again."""
