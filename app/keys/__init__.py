"""The data keys of recordings in the database, and the escrow of what opens them."""
