"""Operations that a cell decides, what became of them, and the segment that the journal keeps of both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

from services.common.errors import UnavailableError
from services.rating.domain.balances import BucketSpec
from services.rating.domain.operations import DoneOperation, OperationOp
from services.rating.domain.programs import Program


class Status(IntEnum):
    """What became of an operation; the first element of its outcome."""

    CHARGED = 0
    REFUSED = 1
    REPEATED = 2
    REUSED = 3
    STALE = 4
    DONE = 5
    FAILED = 6
    SHORT = 7


class Failure(IntEnum):
    """Why an operation FAILED; the second element of its outcome."""

    SESSION_NOT_FOUND = 1
    SESSION_CLOSED = 2
    OUT_OF_SEQUENCE = 3
    REF_REUSED = 4
    OVERFLOW = 5
    REFUND_EXCEEDED = 6
    NOT_ENOUGH = 7
    LIMIT_EXCEEDED = 8
    BUCKET_ENDED = 9
    SLICE_OVERFLOW = 10
    NO_SUCH_BUCKET = 15


class Purpose(IntEnum):
    """What a call of the Function is for."""

    DECIDE = 0
    DRY_RUN = 1
    """Say what would be decided."""
    ENQUIRY = 2
    """Say what it would cost if money and credit were no question."""


class NoticeKind(IntEnum):
    """What people want to hear of."""

    SHARE_USED = 1
    USED_UP = 2
    ENDED = 3
    ACTIVATED = 4
    RENEWED = 5
    BLOCKED = 6
    UNBLOCKED = 7
    LIMIT_REACHED = 8
    CREDIT_SHARE_USED = 9
    CREDIT_USED_UP = 10


class SessionAction(IntEnum):
    """The three verbs of a session."""

    CREATE = 0
    UPDATE = 1
    RELEASE = 2


class SessionState(IntEnum):
    """Where a session is in its life; numbers as in the contract."""

    OPEN = 1
    RELEASED = 2
    EXPIRED = 3


Outcome = list[Any]
"""A Status and what belongs to it, flat as the Function writes it:

- CHARGED: largest uncovered quantity of a step, for each step benefit, rated, uncovered, amount, draws (and, if
  prices or limits counted, flat, each counter with where it stood and how much more that is), and True
  if the use is to be slowed down; a draw is bucket, quantity (of a money bucket: micros), and a Drawn.
- REFUSED: reason, step.
- REPEATED: sequence and position (from 1) of the answer; for a session as DONE.
- DONE: for a top-up the money after it; for a refill what is left after it, when it ends, and what went over the
  maximum; for a lease all that was ever leased and returned, and what is unspent; for a
  session its answers, state, validity, end, and whether the call came after it was closed; an answer is service,
  granted, reason, limiting step, the outcome of charging what was reported, or False, and whether to slow down; for
  the others see DoneOperation.
- FAILED: a Failure, and a number that belongs to it.
- SHORT: step, what it needs, how much of that is not in this cell's slice (micros), and the line of a session;
  nothing was decided.
- REUSED, STALE: nothing.
"""


THROTTLED = 3


def is_throttled(outcome: Outcome) -> bool:
    """Whether a use that was charged is to be slowed down."""
    return outcome[0] == Status.CHARGED and len(outcome) > THROTTLED


@dataclass(slots=True)  # not frozen, for speed: see UsageEvent
class ChargeOp:
    """Charge one use.

    Attributes:
        usage_ms: when it was, milliseconds since 1970.
        record: what the journal keeps of it.
        cost: what the visited network asks, micros.
        session_ref: the session that it belongs to, or empty.
        slices: positions (from 1) of steps at which a refusal for want of money is SHORT instead.
    """

    id_digest: bytes
    body_digest: bytes
    endpoint_id: str
    program: Program
    quantity: int
    usage_ms: int
    mode: int
    record: bytes
    cost: int = 0
    session_ref: str = ""
    slices: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class ConfigureOp:
    """Make a holder what its configuration says.

    Attributes:
        limit: the credit limit in micros, -1 for none.
        path: path of the account that owns the holder, `operator/.../owner/`.
        look: whether to see to what has ended by now.
    """

    holder_id: str
    version: int
    limit_version: int
    limit: int
    buckets: Sequence[BucketSpec]
    path: str = ""
    look: bool = False


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does it, for the audit trail.

    Attributes:
        actor: id of the API key, or name of a service.
        account_id: the account in whose context it runs.
        owner_path: path of the account that owns what changes, `operator/.../owner/`.
        owner_id: that account.
    """

    actor: str
    account_id: str
    owner_path: str
    owner_id: str


@dataclass(frozen=True, slots=True)
class TopUpOp:
    """Add money to a holder."""

    id_digest: bytes
    body_digest: bytes
    holder_id: str
    micros: int
    request_id: str
    by: Actor


@dataclass(frozen=True, slots=True)
class RefillOp:
    """Add to a bucket and extend the validity of all that is in it.

    Attributes:
        validity_ms: how long it is valid from now at least; 0 is without end.
        maximum: the most that it may hold; what goes over it is lost; 0 is without bound.
    """

    id_digest: bytes
    body_digest: bytes
    holder_id: str
    bucket: str
    quantity: int
    validity_ms: int
    maximum: int
    request_id: str
    by: Actor


@dataclass(frozen=True, slots=True)
class SessionLine:
    """What a session's call reports and asks for, for one service.

    Attributes:
        program: for what is reported.
        usage_ms: when that was used, milliseconds since 1970.
        grant: the program for what is granted.
        grant_ms: when that is granted: the present.
    """

    service: int
    program: Program
    used: int
    requested: int
    usage_ms: int
    grant: Program
    grant_ms: int
    slices: Sequence[int] = ()


class Visited(NamedTuple):
    """Where a use is made: the network, and over which access type."""

    network_id: str
    access_type: int


NOWHERE = Visited("", 0)


@dataclass(frozen=True, slots=True)
class SessionOp:
    """Create, update or release a session.

    Attributes:
        network_id: the network from now on, as `access_type`; what is reported was used where the session was before.
        used_on: that.
    """

    session_id: str
    session_ref: str
    action: SessionAction
    sequence: int
    body_digest: bytes
    endpoint_id: str
    network_id: str
    access_type: int
    event_ms: int
    valid_until_ms: int
    ends_ms: int
    lines: Sequence[SessionLine]
    used_on: Visited = NOWHERE


@dataclass(frozen=True, slots=True)
class LeaseOp:
    """Bring the slice of a holder up to all that was ever leased to it, and give some back; may be repeated.

    Attributes:
        kind: 1 is money, 2 the credit limit.
        leased: all that was ever leased to the cell, micros.
        give_back: how much it gives back at most, micros; it keeps what is spent or reserved.
    """

    holder_id: str
    kind: int
    leased: int
    give_back: int


Op = ChargeOp | ConfigureOp | TopUpOp | RefillOp | SessionOp | LeaseOp | OperationOp


MARK_BYTES = 8
NO_MARK = bytes(MARK_BYTES)
"""Stands before the first segment."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A decided batch as the journal keeps it.

    It bears a random mark and that of the segment before, on whose state it was decided: a Valkey that came back with
    old data gives a number a second time, to another segment.

    Attributes:
        sequence: its number in its cell, from 1, without gaps.
        decided_ms: when it was decided, milliseconds since 1970.
        records: packed: what the operations were.
        outcomes: packed: what became of them, movements of balances that no draw explains, and at the end both marks.
        images: packed: the state that the batch left behind.
    """

    sequence: int
    decided_ms: int
    records: bytes
    outcomes: bytes
    images: bytes

    @property
    def mark(self) -> bytes:
        """Its own mark."""
        return last_mark(self.outcomes)

    @property
    def mark_before(self) -> bytes:
        """The mark of the segment before."""
        return last_mark(self.outcomes[: -MARK_BYTES - 1])


def last_mark(outcomes: bytes) -> bytes:
    """The mark with which packed outcomes end."""
    return outcomes[-MARK_BYTES:]


@dataclass(frozen=True, slots=True)
class Decided:
    """What a call decided.

    Attributes:
        sequence: number of the segment, or, if nothing changed, of the last one before.
        mark: mark of the segment with that number.
        outcomes: one for each operation.
        segment: what the journal must keep; None if nothing changed.
    """

    sequence: int
    mark: bytes
    outcomes: Sequence[Outcome]
    segment: Segment | None


@dataclass(frozen=True, slots=True)
class Movement:
    """A movement of a balance besides draws by charges.

    Attributes:
        operation: position of the operation that caused it, from 0; -1 for the sweep of expired sessions.
        bucket: name of the bucket; empty for money.
    """

    operation: int
    holder_id: str
    bucket: str
    kind: int
    change: int


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that people want to hear of, said when it was decided: once.

    Attributes:
        operation: position of the operation that caused it, from 0.
        bucket: name of the bucket; empty for the holder's money, or the holder itself.
        kind: a NoticeKind.
        value: SHARE_USED, CREDIT_SHARE_USED: percent; USED_UP: what it was filled with, 0 for money of which that is
            not known; CREDIT_USED_UP: the limit; ENDED: what was lost; ACTIVATED: when it ends, milliseconds since
            1970, 0 never; RENEWED: number of the occurrence; BLOCKED: the service; else 0.
        path: path of the owner's account, if the operation names it.
        program_id: program of the use that caused it, if one did.
        endpoint_id: the endpoint of that use.
    """

    operation: int
    holder_id: str
    bucket: str
    kind: int
    value: int
    path: str = ""
    program_id: str = ""
    endpoint_id: str = ""


class Used(NamedTuple):  # not a frozen dataclass, for speed: the fold makes one for each use
    """One use of the network with its outcome, as the books record it.

    Attributes:
        operation: position of its operation in the segment, from 0.
        line: line of a session's report; 0 for an event.
    """

    operation: int
    line: int
    program_id: str
    outcome: Outcome
    event_id: str
    endpoint_id: str
    service: int
    network_id: str
    access_type: int
    usage_ms: int
    quantity: int
    mode: int
    id_digest: bytes
    body_digest: bytes


@dataclass(frozen=True, slots=True)
class AnsweredRequest:
    """A top-up or refill that was done.

    Attributes:
        micros: what it added, in the balance's unit.
        answer: what is left after it.
        bucket: name of the bucket that was refilled; empty for money.
        kept: how much of what it added stayed; None is all.
    """

    operation: int
    holder_id: str
    micros: int
    request_id: str
    by: Actor
    id_digest: bytes
    body_digest: bytes
    answer: int
    bucket: str = ""
    kept: int | None = None


@dataclass(frozen=True, slots=True)
class SegmentContent:
    """A segment read."""

    program_ids: Sequence[str]
    used: Sequence[Used]
    requests: Sequence[AnsweredRequest]
    movements: Sequence[Movement]
    images: Mapping[str, bytes]
    notices: Sequence[Notice] = ()
    operations: Sequence[DoneOperation] = ()


@dataclass(frozen=True, slots=True)
class SessionImage:
    """A session as it stands.

    Attributes:
        answers: as in the outcome of its last call.
        late: whether that call came after it was closed.
        due_ms: when it is looked at next if it is open: at the end of its grants' validity, then at its own.
    """

    sequence: int
    state: SessionState
    answers: Sequence[Any]
    valid_until_ms: int
    ends_ms: int
    late: bool
    due_ms: int
    endpoint_id: str
    session_ref: str
    network_id: str
    access_type: int


class CellClosedError(UnavailableError):
    """The cell's state in Valkey is not the one that the journal knows: it must be rebuilt before it decides."""


class JournalAwayError(UnavailableError):
    """What was decided is not durable yet, nobody can say when it will be, and a repeat soon would fare no better."""


class StateLostError(CellClosedError):
    """The cell's state holds what the journal does not: it cannot be adopted."""


def closed(why: str, kind: type[CellClosedError] = CellClosedError) -> CellClosedError:
    """The error for a cell whose state was lost or is old."""
    return kind("CELL_CLOSED", f"Balances are being rebuilt from the journal ({why}); try again.", retry_after_ms=500)
