"""Parts of the week, and of holidays, in a time zone."""

from datetime import date, datetime
from zoneinfo import ZoneInfo

import pytest

from services.rating.domain.periods import ALWAYS
from services.rating.domain.terms import TimeBand
from services.rating.domain.timebands import bands_at

BRUSSELS = "Europe/Brussels"
CHRISTMAS = frozenset({date(2025, 12, 25), date(2025, 12, 26)})  # a Thursday and a Friday


def at(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(BRUSSELS)).timestamp()) * 1000


def band(days: set[int], start: int, end: int) -> TimeBand:
    return TimeBand(frozenset(days), start * 60, end * 60)


WORKING = band({1, 2, 3, 4, 5}, 8, 20)
NIGHTS = band({1, 2, 3, 4}, 20, 8)
FREE_DAYS = band({6, 7, 8}, 0, 24)
ALL_DAYS = band(set(), 8, 20)


@pytest.mark.parametrize(
    ("bands", "moment", "holds"),
    [
        ([WORKING], "2025-12-24T19:59:59", True),
        ([WORKING], "2025-12-25T12:00", False),
        ([WORKING], "2025-12-29T08:00", True),
        ([FREE_DAYS], "2025-12-25T00:00", True),
        ([FREE_DAYS], "2025-12-24T23:59:59", False),
        ([FREE_DAYS], "2025-12-27T12:00", True),
        ([ALL_DAYS], "2025-12-25T12:00", True),
        ([NIGHTS], "2025-12-25T07:59", True),  # it began on Wednesday
        ([NIGHTS], "2025-12-25T20:00", False),
        ([band({8}, 20, 8)], "2025-12-27T07:59", True),
        ([band({8}, 20, 8)], "2025-12-25T07:59", False),
    ],
)
def test_a_holiday_is_not_its_day_of_the_week(bands, moment, holds):
    assert bands_at(bands, BRUSSELS, at(moment), CHRISTMAS)[0] is holds


def test_it_says_how_long_that_is_sure():
    assert bands_at([], BRUSSELS, 0) == (True, ALWAYS)
    noon = at("2025-12-24T12:00")
    assert bands_at([WORKING], BRUSSELS, noon, CHRISTMAS) == (True, (at("2025-12-24T08:00"), at("2025-12-24T20:00")))
    assert bands_at([FREE_DAYS], BRUSSELS, noon, CHRISTMAS)[1] == (at("2025-12-22T00:00"), at("2025-12-25T00:00"))
    rare = [band({8}, 0, 24)]
    holds, (since, until) = bands_at(rare, BRUSSELS, at("2025-12-01T12:00"), CHRISTMAS)
    assert not holds
    assert since < at("2025-12-01T12:00") < until <= at("2025-12-25T00:00")  # what comes later is looked at later


def test_a_band_begins_and_ends_by_the_clock_on_the_wall():
    spring = [band({7}, 1, 4)]  # on 2026-03-29 the clock goes from 2 to 3
    holds, (since, until) = bands_at(spring, BRUSSELS, at("2026-03-29T03:30"))
    assert (holds, until - since) == (True, 2 * 3_600_000)
