"""Accounts in SQL: tables, and the repositories that satisfy the ports."""
