"""Who: companies, the account tree, users and keys."""
