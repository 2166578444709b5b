"""The restore drill: a dump becomes a database on this machine, is compared with the bucket, and is gone again."""
