"""Notes: the draft of a SOAP note that a doctor edits, and the signed note."""
