"""The tests of Meterline."""

import os

# As in cli/__init__.py: what tests start are programs, they inherit no gRPC.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
