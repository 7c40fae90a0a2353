"""Time bands: parts of the week in which a rate holds."""

from collections.abc import Iterator
from dataclasses import dataclass

DAY_MINUTES = 24 * 60
WEEK_MINUTES = 7 * DAY_MINUTES
EVERY_DAY = (1, 2, 3, 4, 5, 6, 7)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeBand:
    """A part of the week.

    Attributes:
        weekdays: days on which it begins, Monday is 1; sorted; empty means every day.
        start: minute of the day, 0 to 1439.
        end: minute of the day, not included, 0 to 1440; not later than `start` means on the next day.
    """

    weekdays: tuple[int, ...] = ()
    start: int
    end: int

    def spans(self) -> Iterator[tuple[int, int]]:
        """The minutes of the week that it covers, from Monday 00:00, as pairs of start and end."""
        length = self.end - self.start if self.end > self.start else self.end + DAY_MINUTES - self.start
        for weekday in self.weekdays or EVERY_DAY:
            start = (weekday - 1) * DAY_MINUTES + self.start
            end = start + length
            yield start, min(end, WEEK_MINUTES)
            if end > WEEK_MINUTES:
                yield 0, end - WEEK_MINUTES
