"""The verbs of the catalogue: one function each, over the ports."""
