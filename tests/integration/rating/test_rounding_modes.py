"""Prices that lie halfway between two units are rounded as the tariff says, and nothing is in no tier."""

import pytest

from services.rating.domain.pricing import Action, Rounding, TierMode
from services.rating.domain.terms import Scope, TierTerms
from tests.integration.rating.test_grants import CENT, EUR, counts, priced


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (Rounding.UP, [1, 1, 2, 2, 3, 3]),
        (Rounding.HALF_UP, [0, 1, 2, 2, 3, 3]),
        (Rounding.HALF_EVEN, [0, 0, 2, 2, 2, 3]),
        (Rounding.DOWN, [0, 0, 1, 1, 2, 2]),
    ],
)
@pytest.mark.parametrize("unit", [1, CENT])
async def test_a_half_goes_where_the_tariff_says(mode, expected, unit, valkey_url, sqlite_url):
    """0.498, 0.5, 1.5, 1.502, 2.5 and 2.502 units, exactly half of which are those of 250, 750 and 1250."""
    part = counts(TierTerms(0, unit, 500, 0, Action.CHARGE), scope=Scope.RECORD, unit=unit, rounding=mode)
    async with priced((valkey_url, sqlite_url), part, EUR) as core:
        quantities = [249, 250, 750, 751, 1250, 1251]
        paid = [(await core.use(quantity, f"e{quantity}")).amounts[0] // unit for quantity in quantities]
    assert paid == expected


@pytest.mark.parametrize("mode", TierMode)
async def test_a_use_without_volume_costs_the_least_price_and_no_flat_one(mode, valkey_url, sqlite_url):
    flat = TierTerms(0, CENT, 1, 50 * CENT, Action.CHARGE)
    part = counts(flat, scope=Scope.DAY, lowest=7 * CENT, mode=mode)
    async with priced((valkey_url, sqlite_url), part, EUR) as core:
        paid = [(await core.use(quantity, f"e{quantity}", mode=2)).amounts[0] // CENT for quantity in (0, 1, 2)]
    assert paid == [7, 44, 2]
