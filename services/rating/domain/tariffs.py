"""What a volume costs: exact integer arithmetic, rounded up once, to whole micros.

The Function in Valkey does the same in doubles that hold whole numbers exactly; tests compare the two over the
permitted range.
"""

from dataclasses import dataclass
from math import gcd

EXACT_MAX = 2**53 - 1
"""Largest whole number that the Function computes with exactly."""


@dataclass(frozen=True, slots=True)
class Rate:
    """The price of a volume.

    Volume is rounded up to `minimum`, then to whole blocks of `increment` units; a block costs
    `numerator / denominator` micros, in lowest terms.

    Attributes:
        increment: units in a block, 1 to 2^40.
        minimum: least units charged for a record.
        numerator: micros that `denominator` blocks cost.
        denominator: see numerator.
    """

    increment: int
    minimum: int
    numerator: int
    denominator: int

    def blocks(self, quantity: int) -> int:
        """Blocks charged for a volume of `quantity` units."""
        return -(-max(quantity, self.minimum) // self.increment)

    def price(self, quantity: int) -> int:
        """Micros for a volume of `quantity` units."""
        return self._price_of(self.blocks(quantity))

    def _price_of(self, blocks: int) -> int:
        return -(-blocks * self.numerator // self.denominator)

    def affordable(self, quantity: int, money: int) -> int:
        """Largest part of `quantity` that costs no more than `money` micros."""
        if self.price(quantity) <= money:
            return quantity
        low, high = 0, self.blocks(quantity)
        while low < high:
            middle = (low + high + 1) // 2
            if self._price_of(middle) <= money:
                low = middle
            else:
                high = middle - 1
        return 0 if low * self.increment < self.minimum else min(quantity, low * self.increment)

    @property
    def exact(self) -> bool:
        """Whether the Function can compute every price of this rate exactly."""
        return self.numerator * self.denominator <= EXACT_MAX


def rate(price_micros: int, per_quantity: int, increment: int, minimum: int) -> Rate:
    """Make a rate out of a price of `price_micros` for `per_quantity` units; 0 stands for 1 in the latter two."""
    per_quantity, increment = per_quantity or 1, increment or 1
    numerator = price_micros * increment
    divisor = gcd(numerator, per_quantity)
    return Rate(increment, minimum, numerator // divisor, per_quantity // divisor)
