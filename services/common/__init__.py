"""The vocabulary that all services share: pure values and rules, standard library only."""
