"""The HTTP/JSON door: translates to gRPC from the contracts' own annotations, with no code for any endpoint."""
