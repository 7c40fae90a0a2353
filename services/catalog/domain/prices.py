"""Exactness of prices: what a tariff may say so that every charge is a whole number, rounded once."""

from math import gcd

EXACT_BOUND = 2**53
"""Whole numbers below this are exact in the doubles of the hot store's functions."""
PRICE_MICROS_MAX = 1_000_000_000 * 1_000_000
"""Highest price, flat price, bound or cap of a tariff: 1,000,000,000 units of the currency."""


def block_price(price_micros: int, increment: int, per_quantity: int) -> tuple[int, int]:
    """The price of one block of `increment` units as a reduced fraction of micros.

    A charge is `amount = blocks * num / den` micros, where `blocks` is the charged volume divided by `increment`.
    One EUR per MB in steps of 1000 bytes is 1000000 * 1000 / 1000000, so 1000 / 1.

    Args:
        price_micros: price of `per_quantity` units, whole micros, not negative.
        increment: units in a block, at least 1.
        per_quantity: units that the price is for, at least 1.

    Returns:
        Numerator and denominator without a common factor.
    """
    num = price_micros * increment
    common = gcd(num, per_quantity)
    return num // common, per_quantity // common


def is_exact(price_micros: int, increment: int, per_quantity: int) -> bool:
    """Whether charges at this price stay in the exact range: num and den * num of the block price below 2^53.

    The arithmetic splits the blocks into multiples of `den`, charged without a fraction, and a rest below `den`,
    whose product with `num` is what must be exact. A rate beyond this is refused when its tariff is published.
    """
    num, den = block_price(price_micros, increment, per_quantity)
    return num < EXACT_BOUND and den * num < EXACT_BOUND
