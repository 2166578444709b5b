"""The data keys of recordings in the database, and the escrow file with the root keys."""
