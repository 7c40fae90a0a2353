"""Between the contract and the domain: `to_proto` and `from_proto` pairs, pure."""
