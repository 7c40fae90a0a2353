"""The command line."""

import os

# Children are programs, they inherit no gRPC. Where gRPC minds forks nevertheless, one may crash between fork and exec.
# It looks here when it is imported first.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
