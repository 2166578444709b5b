"""The formats of a transparency log: the Merkle tree of RFC 6962, and C2SP's tiles, checkpoints, proofs and policies.

Pure. The package reads no file, no database and no clock. Every error is a ValueError of `errors.py`, and no error
contains a part of the rejected content.
"""
