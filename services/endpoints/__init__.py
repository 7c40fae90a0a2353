"""Where: SIMs, endpoints and what is assigned to them."""
