"""Buckets and the payers that hold them, as the Function keeps them and people read them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from services.rating.domain.reasons import BalanceState, Unit

MONEY_BUCKET = "money"
ROLLED = "~"
"""Stands in the name of a bucket before the second at which it rolled over."""
POOL = "pol_"
PLAN_POOL = "-"
"""Stands in the name of a bucket between an enterprise and the base plan whose volumes its endpoints share."""


class Drawn(IntEnum):
    """What a draw says of itself, added up."""

    ACTIVATED = 1
    OF_POOL = 2
    OF_MONEY = 4
    LATE = 8
    """From what had been lost at an end, for a use from before that."""


class Role(IntEnum):
    """Whether a bucket came with an add-on or the base plan, or is one that endpoints share."""

    ADDON = 1
    BASE = 2
    POOL = 3


class RenewOn(IntEnum):
    """What begins a new occurrence of a bucket; numbers as in the contract of catalog."""

    CYCLE = 0
    EXPIRY = 1
    EXPIRY_OR_EXHAUSTION = 2


class RollOverOrder(IntEnum):
    """When the rest of a cycle is drawn, beside what the present one has; numbers as in the contract of catalog."""

    OLDEST_FIRST = 1
    NEWEST_FIRST = 2
    PRESENT_FIRST = 3


class Team(IntEnum):
    """What the endpoints that have a base plan share; numbers as in meterline.lua."""

    NONE = 0
    FIXED = 1
    GROWS = 2


@dataclass(frozen=True, slots=True)
class Renewal:
    """How a bucket is filled again, if in another way than with the same quantity at each cycle.

    Attributes:
        quantity: what each occurrence is filled with.
        on: what begins a new occurrence.
        most: how many occurrences there are; 0 is without end.
        last_end_ms: when it ends for good, 0 never.
        cycles: for how many cycles a rest rolls over.
        shares: percent used at which to say so.
        team: whether endpoints share it by their base plan.
        order: when a rest that rolled over is drawn.
        rests_most: most that rests hold together; 0 is without bound.
    """

    quantity: int
    on: RenewOn
    most: int
    last_end_ms: int
    cycles: int
    shares: tuple[int, ...]
    team: Team = Team.NONE
    order: RollOverOrder = RollOverOrder.OLDEST_FIRST
    rests_most: int = 0


@dataclass(frozen=True, slots=True)
class BucketSpec:
    """A bucket as its assignment says it begins. Times are milliseconds since 1970, 0 is none.

    Attributes:
        source: the assignment that it comes with, or what stands for one where endpoints share it by their base plan.
        quantity: what it begins with.
        renewal: None if it begins only once, or anew with the same quantity at each of the cycles.
        former: ends before it began of which late use may come, the last one first, and what there was then.
        replaced_ms: when its base plan was replaced: its end, whatever came to it; 0 if it was not.
    """

    source: str
    benefit_id: str
    ref: str
    priority: int
    role: Role
    quantity: int
    state: BalanceState
    activated_ms: int
    expires_ms: int
    validity_ms: int
    cycles: tuple[int, ...]
    unit: Unit
    renewal: Renewal | None = None
    former: tuple[tuple[int, int], ...] = ()
    replaced_ms: int = 0

    @property
    def id(self) -> str:
        """Name of the bucket in its holder."""
        return bucket_id(self.source, self.benefit_id)


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket as it stands.

    Attributes:
        rest: of what is left of a former cycle, when it is drawn; None of others.
    """

    id: str
    ref: str
    priority: int
    role: Role
    remaining: int
    reserved: int
    granted: int
    state: BalanceState
    activated_ms: int
    expires_ms: int
    unit: Unit
    occurrence: int = 1
    rest: RollOverOrder | None = None

    @property
    def assignment_id(self) -> str:
        """The assignment that it came with; empty if endpoints share it by their base plan."""
        return assignment_of(self.id)

    @property
    def pooled_plan_id(self) -> str:
        """The base plan by which endpoints share it; empty if it came with an assignment."""
        return pooled_plan_of(self.id)

    @property
    def benefit_id(self) -> str:
        """The benefit of the plan."""
        return self.id.partition(".")[2].partition(ROLLED)[0]

    @property
    def is_memory(self) -> bool:
        """Whether it only stands for what was used of a pool that nobody shares any more."""
        return bool(self.pooled_plan_id) and not self.granted and not self.remaining

    def ends_unseen(self, now_ms: int) -> bool:
        """Whether it has ended and nobody has looked since: its end is not in the ledger, its renewal not made."""
        return self.expires_ms != 0 and self.expires_ms <= now_ms and self.state is not BalanceState.EXPIRED

    def state_at(self, now_ms: int) -> BalanceState:
        """State as a reader sees it: a bucket past its end is expired though nobody has looked at it yet."""
        if self.expires_ms and self.expires_ms <= now_ms:
            return BalanceState.EXPIRED
        return self.state


@dataclass(frozen=True, slots=True)
class Holder:
    """What one payer has.

    Attributes:
        id: an endpoint or an account.
        version: version of the configuration that it was last given.
        money: prepaid money in micros.
        money_full: what that was when some was last put in; 0 if none was.
        credit_used: what it owes in micros.
        credit_limit: most that it may owe; -1 means no limit.
        blocked: services of which reported usage was not covered, as digits.
        counts: what is counted over days and cycles: begins of periods in seconds since 1970, each with its count.
        limit_version: version of the limit that it was last given.
    """

    id: str
    version: int
    buckets: Sequence[Bucket]
    money: int
    money_reserved: int
    credit_used: int
    credit_reserved: int
    credit_limit: int
    blocked: str
    counts: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    money_full: int = 0
    limit_version: int = -1


def pool_id(account_id: str) -> str:
    """Name of the holder whose buckets the endpoints of an enterprise share."""
    return f"{POOL}{account_id.partition('_')[2]}"


def owner_of_holder(holder_id: str) -> str:
    """The endpoint or account whose holder it is; of a pool, its enterprise."""
    return f"acc_{holder_id.removeprefix(POOL)}" if holder_id.startswith(POOL) else holder_id


def bucket_id(source: str, benefit_id: str) -> str:
    """Name of a bucket: the assignment's 26 characters, or the pool's, and the benefit."""
    return f"{source.removeprefix('asg_')}.{benefit_id}"


def pool_of_plan(account_id: str, plan_id: str) -> str:
    """What stands for an assignment where the endpoints of an enterprise share what their base plan gives."""
    return f"{account_id.partition('_')[2]}{PLAN_POOL}{plan_id.partition('_')[2]}"


def assignment_of(bucket: str) -> str:
    """The assignment that a bucket of that name came with; empty if endpoints share it by their base plan."""
    source = bucket.partition(".")[0]
    return "" if PLAN_POOL in source else f"asg_{source}"


def pooled_plan_of(bucket: str) -> str:
    """The base plan by which endpoints share a bucket of that name; empty if it came with an assignment."""
    plan = bucket.partition(".")[0].partition(PLAN_POOL)[2]
    return f"pln_{plan}" if plan else ""


def balance_id(holder_id: str, bucket: str) -> str:
    """Id of a balance: of a bucket, or (`bucket` empty) of the holder's money."""
    return f"bal_{bucket}" if bucket else f"bal_{holder_id.partition('_')[2]}.{MONEY_BUCKET}"
