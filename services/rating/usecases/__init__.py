"""One verb a function or class: charge, sessions, balances, fold, rebuild, verify."""
