"""What a volume costs."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.rating.domain.tariffs import Rate, rate


def rates(minimum: st.SearchStrategy[int]) -> st.SearchStrategy[Rate]:
    """Rates with such minimums."""
    return st.builds(
        rate,
        price_micros=st.integers(0, 10**9),
        per_quantity=st.integers(1, 2**40),
        increment=st.integers(1, 2**30),
        minimum=minimum,
    )


RATES = rates(st.integers(0, 2**30))


def test_a_price_per_gigabyte_is_charged_by_the_byte():
    by_the_byte = rate(1_000_000, 10**9, 1, 0)
    assert by_the_byte.price(700_000_000) == 700_000
    assert by_the_byte.price(1) == 1  # 0.001 micros, rounded up: no use is free
    assert by_the_byte.price(1001) == 2


def test_volume_is_rounded_up_to_the_increment_once():
    by_100_kb = rate(100_000, 10**6, 100_000, 0)
    assert by_100_kb.price(1) == 10_000
    assert by_100_kb.price(100_000) == 10_000
    assert by_100_kb.price(100_001) == 20_000


def test_a_minimum_is_charged_for_the_smallest_use():
    with_minimum = rate(20_000, 1000, 1, 10_000)
    assert with_minimum.price(1) == with_minimum.price(10_000) == 200_000
    assert with_minimum.affordable(1, 199_999) == 0


def test_free_is_free_and_always_affordable():
    free = rate(0, 1, 1, 0)
    assert free.price(2**43) == 0
    assert free.affordable(2**43, 0) == 2**43


@given(RATES, st.integers(1, 2**43))
def test_the_price_is_the_exact_fraction_rounded_up(of: Rate, quantity: int):
    exact = Fraction(of.blocks(quantity) * of.numerator, of.denominator)
    assert 0 <= of.price(quantity) - exact < 1


@given(RATES, st.integers(1, 2**42), st.integers(0, 2**42))
def test_using_more_never_costs_less(of: Rate, quantity: int, more: int):
    assert of.price(quantity) <= of.price(quantity + more)


@given(rates(st.just(0)), st.lists(st.integers(1, 2**30), min_size=2, max_size=20))
def test_splitting_a_volume_changes_the_price_by_rounding_only(of: Rate, parts: list[int]):
    whole, split = of.price(sum(parts)), sum(of.price(part) for part in parts)
    block = Fraction(of.numerator, of.denominator)
    assert 0 <= split - whole <= len(parts) * (block + 1)


@given(RATES, st.integers(1, 2**43), st.integers(0, 2**50))
def test_the_affordable_part_is_the_largest_that_money_buys(of: Rate, quantity: int, money: int):
    part = of.affordable(quantity, money)
    assert 0 <= part <= quantity
    assert part == 0 or of.price(part) <= money
    if part < quantity:
        following = max(part + 1, min(of.minimum, quantity))
        assert of.price(following) > money


@pytest.mark.parametrize(("price", "per", "increment"), [(10**12, 1, 2**40), (10**12, 2**40 - 1, 2**40)])
def test_what_could_leave_the_exact_range_is_known(price: int, per: int, increment: int):
    assert not rate(price, per, increment, 0).exact
