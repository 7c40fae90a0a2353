"""Parts of a rate's price: what they count, over what, and what each height of the count costs.

The price of a use is the price of all that was counted with it, less the price of what was counted before it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction
from math import lcm

from services.catalog.domain.prices import EXACT_BOUND
from services.catalog.domain.services import Service
from services.common.errors import FieldViolation, invalid


class PriceScope(IntEnum):
    """Over what a component counts; numbers as in the contract."""

    RECORD = 1
    SESSION = 2
    DAY = 3
    CYCLE = 4
    WEEK = 5
    MONTH = 6
    WINDOW = 7


_LENGTH = {
    PriceScope.RECORD: 0, PriceScope.SESSION: 1, PriceScope.DAY: 2, PriceScope.WEEK: 3, PriceScope.MONTH: 4,
    PriceScope.CYCLE: 4,
}  # fmt: skip
"""How long scopes are, beside each other; only records and sessions are surely shorter than windows."""


class PriceMeter(IntEnum):
    """What a component counts; numbers as in the contract."""

    QUANTITY = 1
    RECORDS = 2
    COST = 3


class CountedPer(IntEnum):
    """Whose use is counted together; numbers as in the contract."""

    ENDPOINT = 1
    ACCOUNT = 2


class CountedBy(IntEnum):
    """Which places are counted together; numbers as in the contract."""

    TOTAL = 1
    NETWORK = 2
    COUNTRY = 3


class TierMode(IntEnum):
    """How tiers price a count; numbers as in the contract."""

    GRADUATED = 1
    VOLUME = 2


class LimitAction(IntEnum):
    """What becomes of use in a tier or beyond a cap; numbers as in the contract."""

    CHARGE = 1
    FREE = 2
    THROTTLE = 3
    BLOCK = 4


class RoundingMode(IntEnum):
    """Which way an exact price is rounded; numbers as in the contract."""

    UP = 1
    HALF_UP = 2
    DOWN = 3
    HALF_EVEN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """Part of a count and its price.

    Attributes:
        up_to: its end, included; 0 is without end.
        price_micros: price of `per_quantity` units.
        flat_micros: price for being in it at all.
    """

    up_to: int = 0
    price_micros: int = 0
    per_quantity: int = 1
    flat_micros: int = 0
    action: LimitAction = LimitAction.CHARGE


@dataclass(frozen=True, slots=True, kw_only=True)
class UseRounding:
    """How what is used is measured before it is counted: whole blocks of each record, session or period.

    Attributes:
        maximum: most that is counted; 0 is without end.
    """

    scope: PriceScope = PriceScope.RECORD
    minimum: int = 0
    increment: int = 1
    maximum: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceComponent:
    """A count over a scope, and its price; the contract says what each field means."""

    component_id: str = ""
    meter: PriceMeter = PriceMeter.QUANTITY
    scope: PriceScope = PriceScope.RECORD
    counted_per: CountedPer = CountedPer.ENDPOINT
    counted_by: CountedBy = CountedBy.TOTAL
    counter: str = ""
    free_quantity: int = 0
    increment: int = 1
    minimum: int = 0
    tier_mode: TierMode = TierMode.GRADUATED
    tiers: tuple[Tier, ...] = ()
    minimum_price_micros: int = 0
    maximum_price_micros: int | None = None
    rounding_micros: int = 1
    rounding_mode: RoundingMode = RoundingMode.UP
    use_rounding: UseRounding | None = None
    charge_covered_use: bool = False
    window_s: int = 0
    window_quantity: int = 0

    @property
    def counts(self) -> tuple[PriceScope, int, int, PriceMeter, CountedPer, CountedBy]:
        """What components with the same counter must agree in."""
        return (self.scope, self.window_s, self.window_quantity, self.meter, self.counted_per, self.counted_by)

    @property
    def adds_up(self) -> bool:
        """Whether it adds up the quantities of several uses."""
        return self.meter is PriceMeter.QUANTITY and self.scope is not PriceScope.RECORD

    @property
    def is_exact(self) -> bool:
        """Whether every price of it stays below 2^53 on the way: the sum of its tiers' fractional parts does."""
        prices = [Fraction(tier.price_micros * self.increment, tier.per_quantity) for tier in self.tiers]
        denominator = lcm(*(price.denominator for price in prices))
        numerators = [price.numerator * (denominator // price.denominator) for price in prices]
        fixed = sum(tier.flat_micros for tier in self.tiers)
        return denominator * sum(numerators) < EXACT_BOUND and sum(numerators) + fixed < EXACT_BOUND


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendingCap:
    """A bound of what the uses that a tariff prices cost together over a scope.

    Attributes:
        rate_ids: the rates whose prices it adds; empty for all.
    """

    cap_id: str = ""
    scope: PriceScope = PriceScope.CYCLE
    counted_per: CountedPer = CountedPer.ENDPOINT
    services: tuple[Service, ...] = ()
    amount_micros: int = 0
    action: LimitAction = LimitAction.FREE
    window_s: int = 0
    rate_ids: tuple[str, ...] = ()


def require_sound(component: PriceComponent, field: str) -> None:
    """Raise INVALID_ARGUMENT where a component contradicts itself.

    Args:
        component: the component.
        field: its path in the request.
    """
    for violation in _violations(component):
        raise invalid(f"{field}.{violation.field}", violation.description, violation.reason)


def _of_tiers(component: PriceComponent) -> Iterator[FieldViolation]:
    *bounded, last = component.tiers
    if last.up_to:
        yield _violation(
            f"tiers[{len(bounded)}].up_to", "must be 0: the last tier is without end", "TIERS_OUT_OF_ORDER"
        )
    before = 0
    for index, tier in enumerate(bounded):
        if tier.up_to <= before:
            yield _violation(f"tiers[{index}].up_to", f"must be more than {before}", "TIERS_OUT_OF_ORDER")
        if tier.up_to % component.increment:
            yield _violation(
                f"tiers[{index}].up_to", f"must be a multiple of the increment {component.increment}", "TIER_NOT_WHOLE"
            )
        before = tier.up_to
    for index, tier in enumerate(component.tiers):
        if tier.action is LimitAction.FREE:
            yield _violation(f"tiers[{index}].action", "cannot be FREE: leave its prices out", "ACTION_NOT_PERMITTED")


def _violations(component: PriceComponent) -> Iterator[FieldViolation]:
    yield from _of_tiers(component)
    highest = component.maximum_price_micros
    if highest is not None and highest < component.minimum_price_micros:
        yield _violation("maximum_price", "is less than minimum_price", "PRICE_BOUNDS_CROSSED")
    half = component.rounding_mode in {RoundingMode.HALF_UP, RoundingMode.HALF_EVEN}
    if component.rounding_micros < 1 or (half and component.rounding_micros > 1 and component.rounding_micros % 2):
        yield _violation("rounding_unit", "must be one micro or more, and even for HALF modes", "ROUNDING_UNIT_INVALID")
    if component.counter and component.scope is PriceScope.RECORD:
        yield _violation("counter", "cannot be shared over the scope of a record", "COUNTER_MISMATCH")
    if component.use_rounding:
        yield from _of_rounding(component, component.use_rounding)
    if component.window_quantity:
        yield from _of_full_windows(component)
    if component.charge_covered_use and component.meter is not PriceMeter.RECORDS:
        yield _violation("charge_covered_use", "is for fees: where meter is RECORDS", "COVERED_NOT_RECORDS")


def _of_full_windows(component: PriceComponent) -> Iterator[FieldViolation]:
    is_whole = component.window_quantity % component.increment == 0
    if component.scope is not PriceScope.WINDOW or component.tier_mode is not TierMode.GRADUATED:
        yield _violation(
            "window_quantity", "is only for scope WINDOW and tier_mode GRADUATED", "WINDOW_QUANTITY_MISFIT"
        )
    elif any(tier.action is LimitAction.BLOCK for tier in component.tiers):
        yield _violation(
            "window_quantity", "cannot be with a tier that blocks: no window would follow", "WINDOW_QUANTITY_MISFIT"
        )
    elif not is_whole or component.window_quantity < component.minimum:
        yield _violation(
            "window_quantity", "must be a multiple of increment and not less than minimum", "WINDOW_QUANTITY_MISFIT"
        )


def _of_rounding(component: PriceComponent, rounding: UseRounding) -> Iterator[FieldViolation]:
    length, most = _LENGTH.get(rounding.scope), _LENGTH.get(component.scope, _LENGTH[PriceScope.DAY])
    together = component.counted_per is CountedPer.ACCOUNT and rounding.scope is component.scope
    if length is None or (length >= most and not (together and length > _LENGTH[PriceScope.SESSION])):
        yield _violation(
            "use_rounding.scope",
            "must be shorter than the component's scope (the same only where counted_per is ACCOUNT); "
            "over the scope itself set increment and minimum of the component instead",
            "ROUNDING_SCOPE",
        )
    if component.meter is PriceMeter.COST or (
        component.meter is PriceMeter.RECORDS and rounding.scope is PriceScope.RECORD
    ):
        yield _violation("use_rounding", "is for a QUANTITY, or for RECORDS of more than a record", "ROUNDING_SCOPE")
    if rounding.maximum and (rounding.maximum % rounding.increment or rounding.maximum < rounding.minimum):
        yield _violation(
            "use_rounding.maximum", "must be a multiple of increment and not less than minimum", "ROUNDING_MAXIMUM"
        )


def _violation(field: str, description: str, reason: str) -> FieldViolation:
    return FieldViolation(field, description, reason)
