"""What a use costs where a price counts over more than a record, or has tiers, bounds or fees.

A component counts over a scope, and has a cumulative price P of the count. A use that raises the count from V by
q costs P(V + q) - P(V); so however a volume is split, the sum is P of the whole, rounded once. The Function does the
same arithmetic (engine/meterline.lua); tests compare the two.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction
from math import lcm
from typing import NamedTuple

from services.rating.domain.measuring import UseRounding


class Meter(IntEnum):
    """What a component counts; numbers as in the contract."""

    QUANTITY = 1
    RECORDS = 2
    COST = 3


class Action(IntEnum):
    """What becomes of use in a tier or beyond a cap; numbers as in the contract."""

    CHARGE = 1
    FREE = 2
    THROTTLE = 3
    BLOCK = 4


class TierMode(IntEnum):
    """How tiers price a count; numbers as in the contract."""

    GRADUATED = 1
    VOLUME = 2


class Rounding(IntEnum):
    """Which way an exact price is rounded; numbers as in the contract."""

    UP = 1
    HALF_UP = 2
    DOWN = 3
    HALF_EVEN = 4


NO_BOUND = -1
"""Stands for a component without highest price."""


class Tier(NamedTuple):
    """Part of a count.

    Attributes:
        blocks_max: blocks up to which it reaches, from the beginning of the count; 0 is without end.
        numerator: price of a block in micros, over the component's denominator.
        flat: price in micros for being in it at all.
    """

    blocks_max: int
    numerator: int
    flat: int
    action: Action


@dataclass(frozen=True, slots=True)
class Component:
    """A count over a scope and its cumulative price.

    Attributes:
        id: `rate.component` of the tariff.
        counter: name of the count in its holder; empty for the scope of a record.
        owner: the account in whose holder it is kept; empty for the endpoint's.
        period: place in the program's clocks, from 1, or one of `Period`.
        denominator: of the prices of all tiers.
        highest: most that the scope costs, micros, or NO_BOUND.
        unit: the price over the scope is a multiple of so many micros.
        each: how what a use, a session or an endpoint adds is measured before it is counted; None for as it is.
        covered: whether it counts uses, too, that benefits cover wholly.
        window_most: what a window holds, after which the next one begins; 0 is without bound.
    """

    id: str
    counter: str
    owner: str
    period: int
    meter: Meter
    free: int
    increment: int
    minimum: int
    mode: TierMode
    tiers: tuple[Tier, ...]
    denominator: int
    lowest: int
    highest: int
    unit: int
    rounding: Rounding
    each: UseRounding | None = None
    covered: bool = False
    window_most: int = 0

    def price(self, count: int) -> tuple[int, Action]:
        """Micros for a count over the scope, and what becomes of use at its height.

        A count of 0 is one of uses without volume: it costs what any use costs at least. A count of more than a window
        holds is one of full windows and of what lies in the last.
        """
        if not self.window_most or count <= self.window_most:
            return self._within_one(count)
        full = (count - 1) // self.window_most
        last, action = self._within_one(count - full * self.window_most)
        return full * self._within_one(self.window_most)[0] + last, action

    def _within_one(self, count: int) -> tuple[int, Action]:
        if count <= self.free and (count > 0 or self.free > 0 or self.minimum == self.lowest == 0):
            return 0, Action.CHARGE
        blocks = -(-max(count - self.free, self.minimum) // self.increment)
        exact, action = self._exact(blocks)
        exact = max(exact, Fraction(self.lowest))
        if self.highest != NO_BOUND:
            exact = min(exact, Fraction(self.highest))
        whole, rest = divmod(exact, self.unit)
        up = {
            Rounding.UP: rest > 0,
            Rounding.HALF_UP: 2 * rest >= self.unit,
            Rounding.DOWN: False,
            Rounding.HALF_EVEN: 2 * rest > self.unit or (2 * rest == self.unit and whole % 2 == 1),
        }[self.rounding]
        return (whole + int(up)) * self.unit, action

    def _exact(self, blocks: int) -> tuple[Fraction, Action]:
        total, before, last = Fraction(0), 0, self.tiers[-1]
        for tier in self.tiers:
            inside = blocks - before if tier.blocks_max == 0 else min(blocks, tier.blocks_max) - before
            total += (tier.flat if inside else 0) + Fraction(inside * tier.numerator, self.denominator)
            before += inside
            if before == blocks:
                last = tier
                break
        if self.mode is TierMode.VOLUME:
            total = (last.flat if blocks else 0) + Fraction(blocks * last.numerator, self.denominator)
        return total, last.action

    def wire(self) -> dict[str, object]:
        """The part that the Function works by."""
        return {
            "id": self.id,
            "counter": self.counter,
            "owner": self.owner,
            "period": self.period,
            "meter": int(self.meter),
            "free": self.free,
            "increment": self.increment,
            "minimum": self.minimum,
            "mode": int(self.mode),
            "tiers": [{**tier._asdict(), "action": int(tier.action)} for tier in self.tiers],
            "denominator": self.denominator,
            "lowest": self.lowest,
            "highest": self.highest,
            "unit": self.unit,
            "rounding": int(self.rounding),
            "each": self.each.wire() if self.each else False,
            **({"window_most": self.window_most} if self.window_most else {}),
        }


@dataclass(frozen=True, slots=True)
class Cap:
    """A bound of what uses cost together over a scope; the count is their price without it, in micros."""

    id: str
    counter: str
    owner: str
    period: int
    amount: int
    action: Action

    def wire(self) -> dict[str, object]:
        """The part that the Function works by."""
        return {
            "counter": self.counter,
            "owner": self.owner,
            "period": self.period,
            "amount": self.amount,
            "action": int(self.action),
        }


@dataclass(frozen=True, slots=True)
class Pricing:
    """The parts of a rate's price, and the caps that bound it, the first first."""

    components: tuple[Component, ...]
    caps: tuple[Cap, ...]

    def wire(self) -> dict[str, object]:
        """The part that the Function works by; `fees` is the price of a use that benefits cover wholly."""
        caps = [cap.wire() for cap in self.caps]
        fees = [part.wire() for part in self.components if part.covered]
        return {
            "components": [part.wire() for part in self.components],
            "caps": caps,
            "fees": {"components": fees, "caps": caps} if fees else False,
        }

    @property
    def owners(self) -> frozenset[str]:
        """Accounts in whose holders it counts."""
        owners = [part.owner for part in self.components] + [cap.owner for cap in self.caps]
        return frozenset(filter(None, owners))


@dataclass(frozen=True, slots=True)
class Quote:
    """What a use costs, and where it leaves the counts that it raises.

    Attributes:
        amount: micros; negative where a cheaper tier gives money back.
        counts: count by counter.
        throttled: whether it is to be slowed down.
        blocked: whether a tier or cap does not let it pass.
    """

    amount: int
    counts: Mapping[str, int]
    throttled: bool
    blocked: bool


def quote(pricing: Pricing, quantity: int, cost: int, counts: Mapping[str, int]) -> Quote:
    """Price a use of `quantity` units, at counts as they stand; a counter that is not there has counted no use yet."""
    amount, after, throttled, blocked = 0, dict[str, int](), False, False
    for part in pricing.components:
        is_first = not part.counter or part.counter not in counts
        before = 0 if is_first else counts[part.counter]
        more = {Meter.QUANTITY: quantity, Meter.RECORDS: 1, Meter.COST: cost}[part.meter]
        if part.each:
            used = counts.get(part.each.counter, 0)
            if part.each.counter:
                after[part.each.counter] = used + more
            more = part.each.measured(used + more) - part.each.measured(used)
        count = before + more
        price, action = part.price(count)
        amount += price - (0 if is_first else part.price(before)[0])
        throttled, blocked = throttled or action is Action.THROTTLE, blocked or action is Action.BLOCK
        if part.counter:
            after[part.counter] = count
    for cap in pricing.caps:
        before = counts.get(cap.counter, 0)
        count = after[cap.counter] = before + amount
        amount = min(count, cap.amount) - min(before, cap.amount)
        beyond = count > cap.amount
        throttled, blocked = (
            throttled or (beyond and cap.action is Action.THROTTLE),
            blocked or (beyond and cap.action is Action.BLOCK),
        )
    return Quote(amount, after, throttled, blocked)


def tiers(prices: Sequence[tuple[int, int, int, int, Action]], increment: int) -> tuple[tuple[Tier, ...], int]:
    """Make tiers with a common denominator out of (up to, price, per quantity, flat price, action)."""
    blocks = [Fraction(price * increment, per_quantity) for _, price, per_quantity, _, _ in prices]
    denominator = lcm(*(block.denominator for block in blocks))
    made = (
        Tier(up_to // increment, int(block * denominator), flat, action)
        for (up_to, _, _, flat, action), block in zip(prices, blocks, strict=True)
    )
    return tuple(made), denominator
