"""Payments: how an account pays, and the life of one payment from the first question to the credit."""

from dataclasses import dataclass, replace
from enum import IntEnum

from services.common.clock import HOUR_MS, MINUTE_MS, SECOND_MS

CLAIM_MS = MINUTE_MS
"""How long a process has a payment for itself; longer than it waits for the provider."""
RETRY_FIRST_MS = 2 * SECOND_MS
RETRY_MAX_MS = HOUR_MS
KEY_LIFE_MS = 23 * HOUR_MS
"""How long a repeat with the same key is surely known by the provider; Stripe forgets keys after 24 hours."""


class PaymentState(IntEnum):
    """Where a payment is in its life; numbers as in the contract."""

    PENDING = 1
    CONFIRMED = 2
    DECLINED = 3
    UNKNOWN = 4
    CREDITED = 5


OPEN = frozenset({PaymentState.PENDING, PaymentState.CONFIRMED, PaymentState.UNKNOWN})
"""States in which a payment still moves by itself."""
NOT_AT_PROVIDER = "NOT_AT_PROVIDER"
"""Decline code of a payment that never reached the provider."""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The provider has the money; `reference` is its id of the payment."""

    reference: str


@dataclass(frozen=True, slots=True)
class Declined:
    """The provider will not pay; `code` is its word for why."""

    code: str
    reference: str = ""


Outcome = Confirmed | Declined


class UnknownOutcomeError(Exception):
    """The provider did not say whether it took the money; the text says what came instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentMethod:
    """How an account pays.

    Attributes:
        owner_path: path of the account, from the OPERATOR down.
        provider: which payment provider keeps it.
        token: the provider's id of it.
        customer: the provider's id of the customer, or empty.
    """

    id: str = ""
    account_id: str
    owner_path: tuple[str, ...] = ()
    provider: str = ""
    token: str
    customer: str = ""
    display_name: str = ""
    created_ms: int = 0
    updated_ms: int = 0
    version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """Money that is collected for a wallet, an endpoint or the refill of a bundle.

    Attributes:
        endpoint_id: whose balance grows; empty for one of the account.
        balance_id: the bundle that it refills; empty if money grows.
        refill_quantity: volume that the bundle gets; 0 if money grows.
        refill_validity_ms: how long all that is in the bundle is valid from then at least; 0 is without end.
        refill_maximum: most that the bundle may hold; 0 is without bound.
        redirected_from: what it was for, if that was gone when it was paid and the account's wallet got the money.
        rule_id: the rule that began it, or empty.
        open_rule_id: the same while it is not settled, else None: of a rule, at most one is open.
        detail: what stands against its progress.
        next_ms: when it is looked after next; whoever does so moves it on, which keeps others off. 0 once settled.
        version: counts its changes; a change says which version it was decided on.
    """

    id: str
    account_id: str
    owner_path: tuple[str, ...]
    endpoint_id: str = ""
    balance_id: str = ""
    refill_quantity: int = 0
    refill_validity_ms: int = 0
    refill_maximum: int = 0
    redirected_from: str = ""
    rule_id: str = ""
    open_rule_id: str | None = None
    method_id: str
    amount_micros: int
    currency: str
    state: PaymentState = PaymentState.PENDING
    reference: str = ""
    decline_code: str = ""
    detail: str = ""
    attempts: int = 0
    next_ms: int
    created_ms: int
    updated_ms: int
    version: int = 1

    @property
    def is_transfer(self) -> bool:
        """Whether it moves money from the wallet of the account to its endpoint, in one step."""
        return bool(self.endpoint_id) and not self.method_id and not self.refill_quantity


def claimed(payment: Payment, now_ms: int) -> Payment:
    """The payment in the hands of one process, until the claim ends."""
    return _moved(payment, now_ms, attempts=payment.attempts + 1, next_ms=now_ms + CLAIM_MS)


def answered(payment: Payment, outcome: Outcome, now_ms: int) -> Payment:
    """The payment after the provider said what happened; a confirmed one is credited at once."""
    if payment.state not in {PaymentState.PENDING, PaymentState.UNKNOWN}:
        raise ValueError(f"{payment.state.name} is not for the provider to change")
    if isinstance(outcome, Confirmed):
        reference = outcome.reference
        return _moved(
            payment, now_ms, state=PaymentState.CONFIRMED, reference=reference, detail="", attempts=0, next_ms=now_ms
        )
    return _settled(
        payment, now_ms, state=PaymentState.DECLINED, reference=outcome.reference, decline_code=outcome.code
    )


def unanswered(payment: Payment, detail: str, now_ms: int) -> Payment:
    """The payment after the provider did not say; a payment that may have been taken is never forgotten."""
    if payment.state not in {PaymentState.PENDING, PaymentState.UNKNOWN}:
        raise ValueError(f"{payment.state.name} is not for the provider to change")
    return _moved(payment, now_ms, state=PaymentState.UNKNOWN, detail=detail, next_ms=now_ms + retry_after(payment))


def uncredited(payment: Payment, detail: str, now_ms: int) -> Payment:
    """A confirmed payment that could not be credited now."""
    return _moved(payment, now_ms, detail=detail, next_ms=now_ms + retry_after(payment))


def redirected(payment: Payment, now_ms: int) -> Payment:
    """A confirmed payment whose balance is not there any more: its money goes to the wallet of the account."""
    was_for = payment.balance_id or payment.endpoint_id
    return _moved(payment, now_ms, endpoint_id="", balance_id="", refill_quantity=0, redirected_from=was_for)


def credited(payment: Payment, now_ms: int) -> Payment:
    """The payment after its money was credited."""
    if payment.state is not PaymentState.CONFIRMED:
        raise ValueError(f"{payment.state.name} is not paid")
    return _settled(payment, now_ms, state=PaymentState.CREDITED)


def due_now(payment: Payment, now_ms: int) -> Payment:
    """An open payment that somebody wants looked after at once."""
    return _moved(payment, now_ms, detail="", next_ms=now_ms)


def may_ask_again(payment: Payment, now_ms: int) -> bool:
    """Whether a repeat of the charge under its key cannot charge twice."""
    return now_ms < payment.created_ms + KEY_LIFE_MS


def retry_after(payment: Payment) -> int:
    """Milliseconds until an open payment is looked after again: doubling from 2 seconds to an hour."""
    return min(RETRY_FIRST_MS << min(max(payment.attempts - 1, 0), 20), RETRY_MAX_MS)


def _moved(payment: Payment, now_ms: int, **changes: object) -> Payment:
    return replace(payment, updated_ms=now_ms, version=payment.version + 1, **changes)  # type: ignore[arg-type]


def _settled(payment: Payment, now_ms: int, **changes: object) -> Payment:
    return _moved(payment, now_ms, open_rule_id=None, detail="", next_ms=0, **changes)
