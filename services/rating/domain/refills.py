"""Auto-refill: when a rule begins a payment, and what each payment makes of the rule [004]."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import IntEnum

from services.common.clock import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS
from services.common.money import Money

COOL_OFF_DEFAULT_MS = 5 * MINUTE_MS
COOL_OFF_MIN_MS = SECOND_MS
COOL_OFF_MAX_MS = 31 * DAY_MS
BACK_OFF_FIRST_MS = 10 * MINUTE_MS
BACK_OFF_MAX_MS = 24 * HOUR_MS
DECLINES_MAX = 10
"""Declines in a row after which a rule stops: card schemes fine whoever goes on asking (Visa: 15 in 30 days)."""
TOO_MANY_DECLINES = "TOO_MANY_DECLINES"


class Source(IntEnum):
    """Where the money of a refill comes from; numbers as in the contract."""

    WALLET = 1
    PAYMENT_METHOD = 2


class RefillState(IntEnum):
    """What a rule is doing; numbers as in the contract."""

    WATCHING = 1
    IN_FLIGHT = 2
    COOLING_OFF = 3
    BACKING_OFF = 4
    MONTH_EXHAUSTED = 5
    STOPPED = 6
    DISABLED = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Refills a balance: money with money, or a bundle with what it buys; times in milliseconds since 1970.

    Attributes:
        endpoint_id: whose balance is refilled; empty for one of the account.
        account_id: the account, or the endpoint's enterprise: who pays.
        owner_path: its path, from the OPERATOR down.
        balance_id: the balance that is watched.
        currency: of all its amounts.
        threshold_micros: refill money when less is left; 0 if a bundle is watched.
        amount_micros: what is collected: the money that is added, or the price of the volume.
        threshold_quantity: refill a bundle when less is left, in its unit; 0 if money is watched.
        refill_quantity: volume that a bundle gets; 0 if money is watched.
        refill_validity_ms: how long all that is in the bundle is valid from then at least; 0 is without end.
        refill_maximum: most that the bundle may hold; 0 is without bound.
        monthly_count_max: most refills of a calendar month (UTC); 0 is no limit.
        monthly_amount_max_micros: most money of a calendar month; 0 is no limit.
        stop_reason: why it does not try again before it is updated; empty if it does.
        in_flight: whether a payment of it is open.
        declines: in a row.
        not_before_ms: earliest time of the next attempt: the end of a cool-off or back-off.
        month: what the two counters count, year * 12 + month - 1.
        version: counts its changes; a change says which version it was decided on.
    """

    id: str = ""
    endpoint_id: str = ""
    account_id: str = ""
    owner_path: tuple[str, ...] = ()
    balance_id: str = ""
    enabled: bool = True
    currency: str
    threshold_micros: int
    amount_micros: int
    threshold_quantity: int = 0
    refill_quantity: int = 0
    refill_validity_ms: int = 0
    refill_maximum: int = 0
    source: Source
    method_id: str = ""
    cool_off_ms: int = COOL_OFF_DEFAULT_MS
    monthly_count_max: int = 0
    monthly_amount_max_micros: int = 0
    stop_reason: str = ""
    in_flight: bool = False
    declines: int = 0
    not_before_ms: int = 0
    month: int = 0
    month_count: int = 0
    month_micros: int = 0
    last_payment_id: str = ""
    last_attempt_ms: int = 0
    created_ms: int = 0
    updated_ms: int = 0
    version: int = 0

    @property
    def amount(self) -> Money:
        """How much is collected."""
        return Money(self.currency, self.amount_micros)

    @property
    def threshold(self) -> int:
        """Refill when less is left: micros, or the bundle's unit."""
        return self.threshold_quantity or self.threshold_micros


def month_of(now_ms: int) -> int:
    """The calendar month (UTC) of a moment, counted from year 0."""
    day = datetime.fromtimestamp(now_ms // 1000, UTC)
    return day.year * 12 + day.month - 1


def month_used(rule: Rule, now_ms: int) -> tuple[int, int]:
    """Refills of this month and their sum in micros."""
    return (rule.month_count, rule.month_micros) if rule.month == month_of(now_ms) else (0, 0)


def state_of(rule: Rule, now_ms: int) -> RefillState:
    """What a rule is doing."""
    if rule.in_flight:
        return RefillState.IN_FLIGHT
    if not rule.enabled:
        return RefillState.DISABLED
    if rule.stop_reason:
        return RefillState.STOPPED
    if now_ms < rule.not_before_ms:
        return RefillState.BACKING_OFF if rule.declines else RefillState.COOLING_OFF
    if _month_exhausted(rule, now_ms):
        return RefillState.MONTH_EXHAUSTED
    return RefillState.WATCHING


def is_due(rule: Rule, remaining: int, now_ms: int) -> bool:
    """Whether a payment is to begin, with so much left."""
    return remaining < rule.threshold and state_of(rule, now_ms) is RefillState.WATCHING


def begun(rule: Rule, payment_id: str, now_ms: int) -> Rule:
    """The rule with a payment in flight; the month counts it from its beginning, so that no two overrun the maximum."""
    count, micros = month_used(rule, now_ms)
    return replace(
        rule,
        in_flight=True,
        month=month_of(now_ms),
        month_count=count + 1,
        month_micros=micros + rule.amount_micros,
        last_payment_id=payment_id,
        last_attempt_ms=now_ms,
        updated_ms=now_ms,
        version=rule.version + 1,
    )


def refilled(rule: Rule, now_ms: int) -> Rule:
    """The rule after its payment was credited."""
    return replace(
        rule,
        in_flight=False,
        declines=0,
        not_before_ms=now_ms + rule.cool_off_ms,
        updated_ms=now_ms,
        version=rule.version + 1,
    )


def declined(rule: Rule, amount_micros: int, now_ms: int) -> Rule:
    """The rule after its payment was declined: it waits twice as long each time.

    One that asks a payment method stops at last; a wallet may be asked for ever, and filled at any time.
    """
    declines = rule.declines + 1
    stops = declines >= DECLINES_MAX and rule.source is Source.PAYMENT_METHOD
    same_month = rule.month == month_of(rule.last_attempt_ms)
    return replace(
        rule,
        in_flight=False,
        declines=declines,
        stop_reason=TOO_MANY_DECLINES if stops else rule.stop_reason,
        not_before_ms=now_ms + back_off(declines),
        month_count=rule.month_count - same_month,
        month_micros=rule.month_micros - amount_micros * same_month,
        updated_ms=now_ms,
        version=rule.version + 1,
    )


def stopped(rule: Rule, reason: str, now_ms: int) -> Rule:
    """The rule that does not try again before somebody changes it."""
    return replace(rule, stop_reason=reason, updated_ms=now_ms, version=rule.version + 1)


def reset(rule: Rule, now_ms: int) -> Rule:
    """The rule after a person changed it: what stood against it may be mended. A cool-off goes on."""
    return replace(
        rule,
        stop_reason="",
        declines=0,
        not_before_ms=0 if rule.declines else rule.not_before_ms,
        updated_ms=now_ms,
        version=rule.version + 1,
    )


def back_off(declines: int) -> int:
    """Milliseconds to wait after so many declines in a row: 10 minutes, doubling, at most 24 hours."""
    return min(BACK_OFF_FIRST_MS << min(declines - 1, 20), BACK_OFF_MAX_MS)


def _month_exhausted(rule: Rule, now_ms: int) -> bool:
    count, micros = month_used(rule, now_ms)
    too_many = rule.monthly_count_max and count >= rule.monthly_count_max
    too_much = rule.monthly_amount_max_micros and micros + rule.amount_micros > rule.monthly_amount_max_micros
    return bool(too_many or too_much)
