"""Load: what the system does in a second, measured on a running system over gRPC."""
