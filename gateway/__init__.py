"""The HTTP door: it translates, authenticates, limits and documents; it decides nothing."""
