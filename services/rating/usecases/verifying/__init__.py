"""Holds journal, books and balances against each other, on a system that may be running."""
