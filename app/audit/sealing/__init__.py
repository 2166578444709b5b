"""Seals the audit log: gives each event a leaf in the Merkle tree of its year, and signs checkpoints of the trees."""
