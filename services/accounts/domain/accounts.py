"""Accounts: the nodes of the charging tree and the partitions of an enterprise [002] [003] (model, e-01)."""

from dataclasses import dataclass, replace
from enum import IntEnum

from services.common.errors import FailedPreconditionError, FieldViolation, invalid
from services.common.identity import AccountKind
from services.common.money import Money

DEPTH_MAX = 32
"""Most accounts on a path, from the OPERATOR down."""
UTC = "UTC"


class AccountState(IntEnum):
    """Where an account is in its life [002]; numbers as in the contract."""

    DRAFT = 1
    NEW = 2
    LEAD = 3
    ACTIVE = 4
    SUSPENDED = 5
    TERMINATED = 6


class SuspensionCause(IntEnum):
    """What brought an account into SUSPENDED; numbers as in the contract."""

    NONE = 0
    SELF = 1
    PARENT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An account.

    Attributes:
        id: `acc_` and 26 characters; empty before it is stored.
        kind: what it is.
        path: ids from the OPERATOR down to it, itself included.
        company_id: the company it belongs to.
        name: 1 to 200 characters.
        state: where it is in its life.
        suspension_cause: why it is SUSPENDED.
        state_reason: why its state last changed, in the words of who changed it.
        currency: ISO 4217 code of the currency in which it is charged.
        credit_limit: most that its parent lets it owe in a billing cycle; None means no limit.
        billing_cycle_day: day of the month on which the billing cycle starts, 1 to 28.
        time_zone: IANA name of the zone of billing days.
        external_account_number: by which other systems know it, letters and digits.
        notes: free.
        application_types: labels of how it is used.
        device_types: labels of its devices.
        created_ms: milliseconds since 1970.
        updated_ms: milliseconds since 1970.
        version: counts the changes, from 1; the etag.
    """

    id: str = ""
    kind: AccountKind
    path: tuple[str, ...] = ()
    company_id: str = ""
    name: str = ""
    state: AccountState = AccountState.DRAFT
    suspension_cause: SuspensionCause = SuspensionCause.NONE
    state_reason: str = ""
    currency: str = ""
    credit_limit: Money | None = None
    billing_cycle_day: int = 1
    time_zone: str = UTC
    external_account_number: str = ""
    notes: str = ""
    application_types: tuple[str, ...] = ()
    device_types: tuple[str, ...] = ()
    created_ms: int = 0
    updated_ms: int = 0
    version: int = 1

    @property
    def parent_id(self) -> str:
        """The account above; empty for the OPERATOR."""
        return self.path[-2] if len(self.path) > 1 else ""

    @property
    def master_id(self) -> str:
        """The account whose billing profile holds for it: a SUB_ACCOUNT's parent, else itself."""
        return self.parent_id if self.kind is AccountKind.SUB_ACCOUNT else self.id


INHERITED = ("company_id", "currency", "credit_limit", "billing_cycle_day", "time_zone")
"""What a SUB_ACCOUNT reads through from its parent (R120, R187)."""
SET_FROM_ABOVE = ("company_id", "credit_limit", "billing_cycle_day", "time_zone")
"""The commercial terms of an account: an account above it sets them, never itself."""
IMMUTABLE = ("kind", "parent_id", "currency")


def require_fits_below(kind: AccountKind, parent: Account) -> None:
    """Raise unless an account of this kind may be created below `parent` (model, e-01).

    Raises:
        InvalidArgumentError: OPERATOR_IS_UNIQUE.
        FailedPreconditionError: SUB_ACCOUNT_NEEDS_ENTERPRISE, PARENT_IS_LEAF or ACCOUNT_TREE_TOO_DEEP.
    """
    if kind is AccountKind.OPERATOR:
        raise invalid(
            "account.kind", "an installation has one OPERATOR; create a RESELLER or an ENTERPRISE", "OPERATOR_IS_UNIQUE"
        )
    wants_enterprise = kind is AccountKind.SUB_ACCOUNT
    if wants_enterprise and parent.kind is not AccountKind.ENTERPRISE:
        raise _misplaced(
            "SUB_ACCOUNT_NEEDS_ENTERPRISE", parent, "a SUB_ACCOUNT is a partition of an ENTERPRISE; name one as parent"
        )
    if not wants_enterprise and parent.kind in {AccountKind.ENTERPRISE, AccountKind.SUB_ACCOUNT}:
        raise _misplaced(
            "PARENT_IS_LEAF", parent, f"the charging tree ends there; create the {kind.name} below a RESELLER"
        )
    if len(parent.path) >= DEPTH_MAX:
        raise _misplaced("ACCOUNT_TREE_TOO_DEEP", parent, f"it is {len(parent.path)} levels deep; {DEPTH_MAX} is most")


def _misplaced(reason: str, parent: Account, why: str) -> FailedPreconditionError:
    return FailedPreconditionError(
        reason,
        f"Account {parent.id} is a {parent.kind.name}: {why}.",
        metadata={"parent_kind": parent.kind.name},
        resource=("account", parent.id),
    )


def placed_below(draft: Account, parent: Account, account_id: str, now_ms: int) -> Account:
    """Give a described account its place, and what it takes from its parent."""
    placed = replace(
        draft,
        id=account_id,
        path=(*parent.path, account_id),
        currency=draft.currency or parent.currency,
        created_ms=now_ms,
        updated_ms=now_ms,
        version=1,
    )
    return partition_of(parent, placed) if draft.kind is AccountKind.SUB_ACCOUNT else placed


def partition_of(master: Account, sub: Account) -> Account:
    """The sub-account with what it reads through from its parent."""
    return replace(
        sub,
        company_id=master.company_id,
        currency=master.currency,
        credit_limit=master.credit_limit,
        billing_cycle_day=master.billing_cycle_day,
        time_zone=master.time_zone,
    )


def inherited_violations(sub: Account, master: Account) -> list[FieldViolation]:
    """What a described sub-account states differently from its parent; left out means the parent's."""
    blank = Account(kind=AccountKind.SUB_ACCOUNT)
    return [
        FieldViolation(f"account.{name}", "is the parent's for a SUB_ACCOUNT; leave it out", "FIELD_INHERITED")
        for name in INHERITED
        if getattr(sub, name) not in {getattr(blank, name), getattr(master, name)}
    ]
