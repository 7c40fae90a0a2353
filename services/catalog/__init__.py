"""What: networks, coverage, profiles, zones, tariffs and plans."""
