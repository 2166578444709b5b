"""Session notes: the lines that a doctor writes during or after a consultation, each on one of its recordings."""
