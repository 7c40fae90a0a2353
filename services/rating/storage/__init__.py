"""The journal, which is the truth, and the ledger that is folded from it."""
