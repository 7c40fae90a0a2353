"""Operations on balances besides usage: refund of a charge, adjustment, transfer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from services.rating.domain.balances import Drawn

if TYPE_CHECKING:
    from services.rating.domain.decisions import Actor

MONEY = ""
"""Stands for the money balance of a holder, where a bucket may be named."""
CREDIT_USED = "-"
"""Stands for what a holder owes, where a bucket may be named."""
REASON_MAX = 256
PLACES = 65_536
"""Places in a segment; a place is that of an operation, times 8, plus the line of a session's report."""

Draw = tuple[str, int, bool]
"""Name of a bucket, what was drawn from it (units, of a bucket of money micros), and whether late use drew that from
what had been lost: it is lost again if it goes back."""


@dataclass(frozen=True, slots=True)
class Request:
    """Who asks for an operation, and how a repeat is known.

    Attributes:
        id_digest: stands for the request id.
        body_digest: stands for the content.
        request_id: the caller's id of it.
        reason: why, in the caller's words.
        by: who it is.
    """

    id_digest: bytes
    body_digest: bytes
    request_id: str
    reason: str
    by: "Actor"


@dataclass(frozen=True, slots=True)
class ChargedStep:
    """What a step of a charge took, as a refund gives it back.

    Attributes:
        holder: whose money, credit and buckets it took.
        pool: the other holder whose buckets it may have drawn on; empty if there is none.
        mode: what its amount drew on.
        amount: micros; 0 where a cheaper tier gave money back.
        volumes: draws on buckets of volume, the last first.
        moneys: draws on buckets of money, the last first.
        benefit: units of use that the volumes covered.
    """

    holder: str
    pool: str
    mode: int
    amount: int
    volumes: Sequence[Draw]
    moneys: Sequence[Draw]
    benefit: int


@dataclass(frozen=True, slots=True)
class RefundOp:
    """Give back a part of what a usage record was charged, at its steps from the endpoint's upwards.

    Attributes:
        request: who asks.
        usage_record_id: the record.
        place: where in the journal its charge stands: sequence times PLACES, plus its place.
        total: units of the record.
        quantity: units to give back; 0 is all that did not go back yet.
        steps: the steps at which they go back.
        endpoint_id: endpoint of the record.
        network_id: its network.
        service: its service.
        program_id: the program that charged it.
    """

    request: Request
    usage_record_id: str
    place: int
    total: int
    quantity: int
    steps: Sequence[ChargedStep]
    endpoint_id: str
    network_id: str
    service: int
    program_id: str


@dataclass(frozen=True, slots=True)
class AdjustOp:
    """Change a balance by hand.

    Attributes:
        request: who asks.
        holder_id: whose it is.
        balance: a bucket's name, MONEY or CREDIT_USED.
        change: units, or micros of money.
        elsewhere: what the holder has of it, or owes, outside of the cell that decides.
    """

    request: Request
    holder_id: str
    balance: str
    change: int
    elsewhere: int = 0

    @property
    def least(self) -> int:
        """What must be left in the cell: what is owed elsewhere may be paid here, and is a credit here then."""
        return -self.elsewhere if self.balance == CREDIT_USED else 0


@dataclass(frozen=True, slots=True)
class TransferOp:
    """Move money from one holder to another of the same enterprise, micros."""

    request: Request
    from_id: str
    to_id: str
    amount: int


OperationOp = RefundOp | AdjustOp | TransferOp


@dataclass(frozen=True, slots=True)
class DoneOperation:
    """An operation that was done, as a segment tells of it.

    Attributes:
        operation: its position in the segment, from 0.
        op: what was asked.
        answer: what the Function said after DONE. Of a refund: units, and for each step units, amount, what came of
            its volumes and of its moneys, each a list of {bucket, restored, lapsed}, and how much of the units is no
            longer covered by volumes; of an adjustment what it left in its cell; of a transfer what it left on both
            sides.
    """

    operation: int
    op: OperationOp
    answer: Sequence[Any]


def charged_step(
    holder: str, pool: str, mode: int, benefit: int, amount: int, draws: Sequence[Sequence[Any]]
) -> ChargedStep:
    """What a step took, out of the outcome of its charge."""
    volumes: list[Draw] = []
    moneys: list[Draw] = []
    for bucket, quantity, what in draws:
        (moneys if what & Drawn.OF_MONEY else volumes).insert(0, (bucket, quantity, bool(what & Drawn.LATE)))
    return ChargedStep(holder, pool, mode, max(amount, 0), volumes, moneys, benefit)
