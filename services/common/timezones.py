"""Names of time zones: those that exist on every host, whatever its own database has."""

from functools import cache
from importlib import resources

NOT_ZONES = frozenset({"Factory"})
"""A name of the database that stands for no place."""


@cache
def time_zones() -> frozenset[str]:
    """Names of the IANA time zone database, as the `tzdata` package brings it."""
    listed = resources.files("tzdata").joinpath("zones").read_text(encoding="utf-8").split()
    return frozenset(listed) - NOT_ZONES
