"""The servicers: from_proto, use case, to_proto."""
