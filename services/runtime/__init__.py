"""The one kit for input and output: servers, channels, databases, changes, identity, telemetry, settings."""
