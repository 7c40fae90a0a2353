"""How much, and may it: balances, charges, usage and the ledger."""
