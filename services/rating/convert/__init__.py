"""Between the contract and the domain, pure."""
