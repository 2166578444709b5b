"""Review of the audit log: cases that officers decide, and the rules that open them."""
