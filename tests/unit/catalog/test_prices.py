from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from services.catalog.domain.prices import EXACT_BOUND, PRICE_MICROS_MAX, block_price, is_exact

prices = st.integers(0, PRICE_MICROS_MAX)
quantities = st.integers(1, 2**40)


@given(prices, quantities, quantities)
def test_a_block_costs_exactly_what_the_price_says(price, increment, per_quantity):
    num, den = block_price(price, increment, per_quantity)
    assert Fraction(num, den) == Fraction(price * increment, per_quantity)
    assert den >= 1


@given(prices, quantities, quantities, st.integers(0, 2**30))
def test_an_exact_price_is_charged_without_leaving_the_doubles(price, increment, per_quantity, blocks):
    if not is_exact(price, increment, per_quantity):
        return
    num, den = block_price(price, increment, per_quantity)
    whole, rest = divmod(blocks, den)
    assert float(rest) * float(num) == rest * num < EXACT_BOUND
    assert whole * num + Fraction(rest * num, den) == Fraction(blocks * num, den)


def test_the_border_of_exactness():
    assert is_exact(2**53 - 1, 1, 1)
    assert not is_exact(2**53, 1, 1)
    assert is_exact(1, 1, 2**40)
    assert is_exact(2**13 - 1, 1, 2**40)
    assert not is_exact(2**13 + 1, 1, 2**40)


def test_free_is_always_exact():
    assert is_exact(0, 2**40, 2**40 - 1)
    assert block_price(0, 7, 9) == (0, 1)


def test_usual_prices_reduce_to_small_numbers():
    assert block_price(2_000_000, 1000, 1_000_000) == (2000, 1)
    assert block_price(1_000_000, 1024, 1_048_576) == (15625, 16)
    assert block_price(50_000, 1, 1) == (50_000, 1)
