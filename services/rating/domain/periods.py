"""Periods over which prices count, as an account's or a tariff's clock has them: days, weeks, months and windows."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from itertools import pairwise
from zoneinfo import ZoneInfo

from services.common.clock import DAY_MS
from services.rating.domain.cycles import boundaries

Window = tuple[int, int]
"""Usage times, milliseconds since 1970; the end is not included."""
ALWAYS: Window = (0, 1 << 62)
SECOND_MS = 1000
DAILY, WEEKLY = 0, -1
_KEPT_MAX = 4096


class Period(IntEnum):
    """Where a count begins anew, if not with a period of a program's clock: those are numbered from 1."""

    SESSION = -1
    RECORD = 0


@dataclass(frozen=True, slots=True)
class Clock:
    """Where periods begin.

    Attributes:
        day: day of the month on which a cycle begins, 1 to 28; DAILY or WEEKLY (on Mondays).
        time_zone: IANA name.
        window_s: of windows, how long they are: the first use that lies in none begins one. 0 for the others.
    """

    day: int
    time_zone: str
    window_s: int = 0


_present: dict[Clock, tuple[int, int]] = {}


def place_of(clock: Clock, clocks: list[Clock]) -> int:
    """The place of a clock among those of a program, from 1; it is added if it is not there."""
    if clock not in clocks:
        clocks.append(clock)
    return clocks.index(clock) + 1


def period(clock: Clock, at_ms: int) -> int:
    """Begin of the period in which a moment lies, in seconds since 1970.

    Of windows, whose begins the Function knows, minus how long they are.
    """
    if clock.window_s:
        return -clock.window_s
    start, end = _present.get(clock, (0, 0))
    if not start <= at_ms < end:
        start, end = bounds(clock, at_ms)
        if len(_present) >= _KEPT_MAX:
            _present.clear()
        _present[clock] = (start, end)
    return start // SECOND_MS


def following(clock: Clock, after_ms: int, count: int) -> list[int]:
    """The first `count` begins of periods after a moment."""
    if clock.day > DAILY:
        return boundaries(after_ms, clock.day, clock.time_zone, count)
    found: list[int] = []
    while len(found) < count:
        found.append(bounds(clock, found[-1] if found else after_ms)[1])
    return found


def bounds(clock: Clock, at_ms: int) -> tuple[int, int]:
    """Begin and end of the period in which a moment lies, in milliseconds since 1970; the end is not in it.

    Of windows, which only the uses that began them tell, it is all time.
    """
    if clock.window_s:
        return ALWAYS
    zone = ZoneInfo(clock.time_zone)
    if clock.day > DAILY:
        first = boundaries(at_ms - 32 * DAY_MS, clock.day, clock.time_zone, 3)
        return next((start, end) for start, end in pairwise(first) if start <= at_ms < end)
    local = datetime.fromtimestamp(at_ms // SECOND_MS, UTC).astimezone(zone)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    start = (midnight - timedelta(days=local.weekday() if clock.day == WEEKLY else 0)).replace(fold=0)
    end = (start + timedelta(days=7 if clock.day == WEEKLY else 1)).replace(fold=0)
    return round(start.timestamp()) * SECOND_MS, round(end.timestamp()) * SECOND_MS
