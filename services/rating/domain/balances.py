"""Buckets and the payers that hold them, as the Function keeps them and people read them."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from services.rating.domain.reasons import BalanceState, Unit

MONEY_BUCKET = "money"


class Role(IntEnum):
    """Whether a bucket came with an add-on or the base plan."""

    ADDON = 1
    BASE = 2


@dataclass(frozen=True, slots=True)
class BucketSpec:
    """A bucket as its assignment says it begins. Times are milliseconds since 1970, 0 is none."""

    assignment_id: str
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

    @property
    def id(self) -> str:
        """Name of the bucket in its holder."""
        return bucket_id(self.assignment_id, self.benefit_id)


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket as it stands."""

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

    @property
    def assignment_id(self) -> str:
        """The assignment that it came with."""
        return f"asg_{self.id.partition('.')[0]}"

    @property
    def benefit_id(self) -> str:
        """The benefit of the plan."""
        return self.id.partition(".")[2]

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
        credit_used: what it owes in micros.
        credit_limit: most that it may owe; -1 means no limit.
        blocked: services of which reported usage was not covered, as digits.
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


def bucket_id(assignment_id: str, benefit_id: str) -> str:
    """Name of a bucket: the assignment's 26 characters and the benefit."""
    return f"{assignment_id.removeprefix('asg_')}.{benefit_id}"


def balance_id(holder_id: str, bucket: str) -> str:
    """Id of a balance: of a bucket, or (`bucket` empty) of the holder's money."""
    return f"bal_{bucket}" if bucket else f"bal_{holder_id.partition('_')[2]}.{MONEY_BUCKET}"
