"""Two years of a practice in some minutes: what is kept, what is destroyed, and whether it was right."""
