"""The reports that patients read about themselves: who looked at the record, and what was recorded."""
