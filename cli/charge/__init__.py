"""``meterline charge FILE``: usage records, streamed over gRPC and charged at every level."""

from cli.charge.command import charge

__all__ = ["charge"]
