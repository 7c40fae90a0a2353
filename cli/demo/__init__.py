"""``meterline demo``: a month of roaming for a whole tree of accounts, charged, stated and checked."""

from cli.demo.command import demo

__all__ = ["demo"]
