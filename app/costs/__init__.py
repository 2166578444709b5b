"""The cost of recordings: the ledger's report, an estimate, and the daily budget of language models."""
