"""The client of a transparency log witness (C2SP tlog-witness), which cosigns the checkpoints of the audit log."""
