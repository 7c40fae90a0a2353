"""What an assignment needs to know of a plan, and who may use which plan [001] [003]."""

from dataclasses import dataclass
from enum import IntEnum

from services.common.errors import FailedPreconditionError


class PlanType(IntEnum):
    """Base plan or add-on; numbers as in the contract of catalog."""

    BASE = 1
    ADDON = 2


@dataclass(frozen=True, slots=True)
class Plan:
    """A version of a plan, as far as its assignment goes.

    Attributes:
        id: its id.
        version: number of the version, from 1.
        account_id: the account that owns it.
        type: base plan or add-on.
        state: name of its state, for example `PUBLISHED`.
        priority: order of consumption of an add-on, lowest first.
        on_usage: whether it becomes active at its first use instead of at once.
        validity_ms: how long an add-on is valid from its activation; None means without end.
        recurs: whether it is subscribed anew when that is over.
        designated_account_ids: accounts besides the owner that may use it.
        currency: ISO 4217 code of its money; empty if it has none.
        pooled: whether an add-on of an account is for what its endpoints pay, not for what it pays itself.
        shared: whether the endpoints that have it as their base plan share its volumes.
        grows: whether what they share grows with each of them.
    """

    id: str
    version: int
    account_id: str
    type: PlanType
    state: str = "PUBLISHED"
    priority: int = 0
    on_usage: bool = False
    validity_ms: int | None = None
    recurs: bool = False
    designated_account_ids: frozenset[str] = frozenset()
    currency: str = ""
    pooled: bool = False
    shared: bool = False
    grows: bool = False

    def serves_endpoints_of(self, account_ids: set[str]) -> bool:
        """Whether endpoints of a partition and its enterprise (`account_ids`) may have it: owned or designated."""
        return self.account_id in account_ids or not self.designated_account_ids.isdisjoint(account_ids)

    def prices(self, account_id: str, payee_id: str) -> bool:
        """Whether it can be the payee's price to an account: the payee's own, for any child or this one [003]."""
        open_to_all = not self.designated_account_ids
        return self.account_id == payee_id and (open_to_all or account_id in self.designated_account_ids)

    def require_assignable(self, kind: PlanType | None = None) -> None:
        """Raise FAILED_PRECONDITION unless it is published and of the wanted type."""
        if self.state != "PUBLISHED":
            raise FailedPreconditionError(
                "PLAN_NOT_PUBLISHED",
                f"Plan {self.id} is {self.state}; only published plans can be assigned. Publish it or take another.",
                metadata={"state": self.state},
                resource=("plan", self.id),
            )
        if kind is not None and self.type is not kind:
            raise FailedPreconditionError(
                "PLAN_NOT_BASE" if kind is PlanType.BASE else "PLAN_NOT_ADDON",
                f"Plan {self.id} is of type {self.type.name}; a plan of type {kind.name} is needed here.",
                resource=("plan", self.id),
            )

    def require_currency_of_account(self, account_id: str, currency: str) -> None:
        """Raise FAILED_PRECONDITION if what the account pays by it is in another currency than the account."""
        if not self.pooled and self.currency not in {"", currency}:
            raise FailedPreconditionError(
                "CURRENCY_MISMATCH",
                f"Plan {self.id} is in {self.currency}, account {account_id} is charged in {currency}. "
                f"Take a plan in {currency}, or a new account in {self.currency}.",
                metadata={"plan_currency": self.currency, "account_currency": currency},
                resource=("plan", self.id),
            )

    def require_for_account(self, account_id: str) -> None:
        """Raise FAILED_PRECONDITION for a plan whose volumes grow with the endpoints that have it."""
        if self.grows:
            raise FailedPreconditionError(
                "PLAN_OF_ENDPOINTS",
                f"What plan {self.id} gives grows with each endpoint that has it: give it to endpoints. "
                f"For account {account_id} take a plan of another kind.",
                resource=("plan", self.id),
            )

    def require_currency_of_endpoint(self, endpoint_id: str, currency: str, default: str) -> None:
        """Raise FAILED_PRECONDITION if by this base plan an endpoint's money would become that of another currency.

        Args:
            endpoint_id: the endpoint.
            currency: of the money that the endpoint has.
            default: of the money of endpoints whose plan says nothing: their enterprise's.
        """
        would_be = self.currency or default
        if would_be != currency:
            raise FailedPreconditionError(
                "CURRENCY_MISMATCH",
                f"The money of endpoint {endpoint_id} is in {currency}; with plan {self.id} it would be in {would_be}, "
                f"and money is not exchanged. Take a plan in {currency}, or give this one to a new endpoint.",
                metadata={"plan_currency": would_be, "endpoint_currency": currency},
                resource=("plan", self.id),
            )


def not_available(plan: Plan, account_id: str) -> FailedPreconditionError:
    """The error for a plan that the caller sees but that this account may not use."""
    why = (
        f"belongs to account {plan.account_id} and is not designated to {account_id}. Let its owner designate it, or "
        "take another plan."
    )
    if plan.account_id == account_id:
        why = (
            f"is account {account_id}'s own: it says what others pay to it. What it pays itself is said by a plan of "
            "the account above it."
        )
    return FailedPreconditionError("PLAN_NOT_AVAILABLE", f"Plan {plan.id} {why}", resource=("plan", plan.id))
