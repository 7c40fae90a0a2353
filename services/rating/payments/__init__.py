"""Companies that collect money: a sandbox, which pretends, and Stripe."""
