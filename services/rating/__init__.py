"""rating: how much, and may it. Balances, sessions, usage, charges at every level, the ledger."""
