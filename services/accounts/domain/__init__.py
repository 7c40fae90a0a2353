"""Pure rules of the account tree, companies and API keys."""
