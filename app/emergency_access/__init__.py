"""Emergency access ("break-glass") to a patient of another doctor."""
