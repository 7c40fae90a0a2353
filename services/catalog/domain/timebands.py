"""Time bands: parts of the week in which a rate holds."""

from collections.abc import Iterator
from dataclasses import dataclass

DAY_MINUTES = 24 * 60
WEEK_DAYS = (1, 2, 3, 4, 5, 6, 7)
HOLIDAY = 8
WEEK_MINUTES = len(WEEK_DAYS) * DAY_MINUTES
ALL_MINUTES = WEEK_MINUTES + DAY_MINUTES
"""Those of a week, and behind them those of a holiday."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeBand:
    """A part of the week.

    Attributes:
        weekdays: days on which it begins, Monday is 1 and a holiday 8; sorted; empty means every day.
        start: minute of the day, 0 to 1439.
        end: minute of the day, not included, 0 to 1440; not later than `start` means on the next day.
    """

    weekdays: tuple[int, ...] = ()
    start: int
    end: int

    def spans(self, *, holidays: bool = False) -> Iterator[tuple[int, int]]:
        """The minutes that it covers, from Monday 00:00, as pairs of start and end.

        Args:
            holidays: whether there are any: each may come after each day, and before each.
        """
        is_long = self.end <= self.start
        for day in self.weekdays or (*WEEK_DAYS, HOLIDAY):
            began = (day - 1) * DAY_MINUTES
            yield began + self.start, began + (DAY_MINUTES if is_long else self.end)
            if not is_long:
                continue
            following = [day % len(WEEK_DAYS) + 1] if day != HOLIDAY else []
            if holidays:
                following = [*WEEK_DAYS, HOLIDAY] if day == HOLIDAY else [*following, HOLIDAY]
            for other in following:
                yield (other - 1) * DAY_MINUTES, (other - 1) * DAY_MINUTES + self.end
