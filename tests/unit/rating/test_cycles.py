"""Billing cycles."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.rating.domain.cycles import boundaries


def ms(*moment: int, zone: str = "UTC") -> int:
    return round(datetime(*moment, tzinfo=ZoneInfo(zone)).timestamp() * 1000)  # type: ignore[arg-type,misc]


def test_cycles_start_on_their_day_at_midnight_of_the_zone():
    assert boundaries(ms(2026, 1, 20), 15, "Europe/Brussels", 3) == [
        ms(2026, 2, 15, zone="Europe/Brussels"),
        ms(2026, 3, 15, zone="Europe/Brussels"),
        ms(2026, 4, 15, zone="Europe/Brussels"),
    ]


def test_the_change_to_summer_time_makes_a_day_shorter_not_a_cycle_wrong():
    march, april = boundaries(ms(2026, 3, 1), 29 - 1, "Europe/Brussels", 2)
    assert (april - march) == 31 * 86_400_000 - 3_600_000


@pytest.mark.requirement("R182")
@given(st.integers(0, 4_000_000_000_000), st.integers(1, 28), st.sampled_from(["UTC", "Asia/Tokyo", "America/Lima"]))
def test_boundaries_are_ahead_in_order_and_on_their_day(after: int, day: int, zone: str):
    found = boundaries(after, day, zone, 4)
    assert found[0] > after
    assert found[0] - after <= 32 * 86_400_000
    assert found == sorted(found)
    assert {datetime.fromtimestamp(b / 1000, UTC).astimezone(ZoneInfo(zone)).day for b in found} == {day}
