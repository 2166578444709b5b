"""Who asks: tokens, signing keys, permissions, and the MACs of sessions."""
