import pytest

from services.common.errors import InvalidArgumentError
from services.common.money import Money
from services.rating.payments.minor_units import to_minor_units
from services.rating.payments.stripe import StripeProvider


@pytest.mark.parametrize(
    ("amount", "minor"),
    [
        (Money("EUR", 10_000_000), 1000),
        (Money("USD", 10_000), 1),
        (Money("JPY", 500_000_000), 500),
        (Money("MGA", 3_000_000_000), 3000),
        (Money("KWD", 5_120_000), 5120),
        (Money("ISK", 5_000_000), 500),
        (Money("HUF", 175_500_000), 17550),
        (Money("TWD", 30_000_000), 3000),
        (Money("BRL", 2**53 // 10_000 * 10_000), 2**53 // 10_000),
    ],
)
def test_an_amount_becomes_the_minor_units_that_stripe_counts_in(amount: Money, minor: int):
    assert to_minor_units(amount) == minor


@pytest.mark.parametrize(
    ("amount", "told"),
    [
        (Money("EUR", 10_000_001), "10.000001 EUR is not a multiple of 0.01 EUR"),
        (Money("EUR", 9_999), "multiple of 0.01 EUR"),
        (Money("JPY", 500_500_000), "500.50 JPY is not a multiple of 1.00 JPY"),
        (Money("KWD", 5_124_000), "5.124 KWD is not a multiple of 0.01 KWD"),
        (Money("ISK", 5_500_000), "multiple of 1.00 ISK"),
        (Money("EUR", 0), "above zero"),
        (Money("EUR", -10_000), "above zero"),
        (Money("UGX", 5_000_000), "UGX cannot be collected"),
    ],
)
def test_what_is_not_whole_minor_units_is_refused_and_never_rounded(amount: Money, told: str):
    with pytest.raises(InvalidArgumentError, match=told):
        to_minor_units(amount)


@pytest.mark.parametrize(
    ("currency", "least_micros", "step_micros"),
    [("EUR", 500_000, 10_000), ("GBP", 300_000, 10_000), ("JPY", 50_000_000, 1_000_000), ("HUF", 175_000_000, 10_000)],
)
def test_stripe_collects_its_minimum_and_nothing_below(currency: str, least_micros: int, step_micros: int):
    provider = StripeProvider("sk_test_1")
    provider.require_payable(Money(currency, least_micros))
    with pytest.raises(InvalidArgumentError, match=f"no less than {Money(currency, least_micros)}"):
        provider.require_payable(Money(currency, least_micros - step_micros))
