"""SIMs, endpoints and assignments in SQL: tables, and the repositories that satisfy the ports."""
