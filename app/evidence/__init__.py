"""Evidence packs: a folder that an auditor reads offline (`resguardo evidence`)."""
