"""The servicers: from_proto, a use case, to_proto."""
