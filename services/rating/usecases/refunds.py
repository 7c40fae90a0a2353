"""Refunds of charges: back to where they came from, at every step at once, never more than was charged."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from services.common.errors import FailedPreconditionError, PermissionDeniedError, invalid, not_found
from services.common.identity import READERS, WRITERS, Principal, tree_of
from services.common.pages import PageRequest, page_token
from services.rating.domain.decisions import Status, Used
from services.rating.domain.operations import PLACES, RefundOp, charged_step
from services.rating.domain.programs import ENDPOINT_HOLDER, Step, steps_from_body
from services.rating.domain.reasons import Outcome, Reason
from services.rating.domain.records import LINES_MAX, Position, read_usage_record_id
from services.rating.usecases.balances import actor_for
from services.rating.usecases.books import BooksStore, Record, Selection
from services.rating.usecases.corrections import Corrected, Corrections, request
from services.rating.usecases.folding import path_of
from services.rating.usecases.kit import Kit
from services.rating.usecases.seeing import owns, require_own_endpoint, sees_usage


@dataclass(frozen=True, slots=True)
class RefundSelection:
    """Which refunds are asked for; empty fields select all."""

    usage_record_id: str = ""
    endpoint_id: str = ""
    position: Position | None = None


@dataclass(frozen=True, slots=True)
class PostedRefund:
    """A refund of the books; `steps` are flat: units, amount, what came of its volumes and moneys, covered units.

    Attributes:
        path: of the enterprise of its endpoint.
        account_id: who refunded.
    """

    position: Position
    path: tuple[str, ...]
    usage_record_id: str
    endpoint_id: str
    program_id: str
    quantity: int
    reason: str
    account_id: str
    steps: Sequence[Any]
    decided_ms: int


@dataclass(frozen=True, slots=True)
class RefundedBalance:
    """What came of a draw: what went back into the bucket, and what lapsed because it ended or was filled anew."""

    bucket: str
    is_money: bool
    restored: int
    lapsed: int


@dataclass(frozen=True, slots=True)
class RefundedStep:
    """What went back at a step: units, micros of the amount, and the draws of benefits."""

    step: int
    payer_id: str
    payee_id: str
    quantity: int
    amount: int
    currency: str
    balances: Sequence[RefundedBalance]


@dataclass(frozen=True, slots=True)
class Refund:
    """A refund as its reader sees it."""

    id: str
    usage_record_id: str
    endpoint_id: str
    quantity: int
    steps: Sequence[RefundedStep]
    reason: str
    decided_ms: int
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class RefundPage:
    """A page of refunds; everything acknowledged before `complete_until_ms` is in it."""

    refunds: Sequence[Refund]
    next_page_token: str
    complete_until_ms: int


class RefundStore(Protocol):
    """The refunds of the books."""

    async def find(self, under: str, selection: RefundSelection, page: PageRequest) -> list[PostedRefund]:
        """Up to `page.size + 1` refunds to enterprises whose path begins with `under`, newest first."""
        ...


class Refunds:
    """Refunds charges, and reads refunds."""

    def __init__(self, kit: Kit, corrections: Corrections, books: BooksStore, store: RefundStore) -> None:
        self._kit = kit
        self._corrections = corrections
        self._books = books
        self._store = store

    async def refund(
        self,
        caller: Principal,
        usage_record_id: str,
        quantity: int,
        *,
        reason: str,
        request_id: str,
        dry_run: bool = False,
    ) -> Refund:
        """Give back what a usage record was charged, from its endpoint's step up to the one where the caller is paid.

        Args:
            caller: an account that was paid for it.
            usage_record_id: the record.
            quantity: units of the record to give back; 0 is all that did not go back yet.
            reason: why, in the caller's words.
            request_id: a repeat gets the same answer.
            dry_run: say what would go back, and change nothing.

        Raises:
            NotFoundError: no such record for the caller.
            PermissionDeniedError: NOT_PAID.
            FailedPreconditionError: NOT_CHARGED, REFUND_EXCEEDS_CHARGE.
        """
        caller.require_role(*WRITERS)
        if quantity < 0:
            raise invalid("quantity", "must be at least 1, or 0 for all that is left")
        record = await self._record(read_usage_record_id(usage_record_id), usage_record_id)
        count = await self._paid_steps(caller, record)
        if record.outcome is not Outcome.CHARGED:
            raise FailedPreconditionError("NOT_CHARGED", "The use was refused: nothing was charged for it.")
        steps = steps_from_body((await self._kit.journal.programs([record.program_id]))[record.program_id])
        payee = record.path[-count:]
        by = actor_for(caller, record.path[: len(record.path) - count + 1], payee[0])
        op = RefundOp(
            request=request(caller, "refund", request_id, reason, by, f"{record.id} {quantity}"),
            usage_record_id=record.id,
            place=record.position.sequence * PLACES + record.position.place,
            total=record.quantity or 1,  # what has no volume goes back whole
            quantity=quantity,
            steps=[
                charged_step(_holder(step, record), step.pool, int(step.mode), benefit, amount, draws)
                for step, (benefit, _, _, amount, draws, *_) in zip(steps[:count], record.steps[:count], strict=True)
            ],
            endpoint_id=record.endpoint_id,
            network_id=record.network_id,
            service=record.service,
            program_id=record.program_id,
        )
        cell = self._kit.cells[record.position.cell]
        await self._kit.terms.load([record.endpoint_id])
        known = self._kit.terms.known.get(record.endpoint_id)
        configures = list(cell.holders.of_steps(known, steps[:count])) if known else []
        corrected = await self._corrections.decide(cell, op, configures, dry_run=dry_run, what="the charge")
        for account_id in record.path:
            self._kit.escrow.replenished(account_id)
        return _answered(corrected, steps)

    async def find(self, caller: Principal, selection: RefundSelection, page: PageRequest) -> RefundPage:
        """List refunds of charges below the caller's account, newest first: of each, the steps that it sees."""
        caller.require_role(*READERS)
        await require_own_endpoint(self._kit.terms, caller, selection.endpoint_id)
        complete = await self._books.complete_until_ms()
        rows = await self._store.find(tree_of(caller), selection, page)
        kept = rows[: page.size]
        bodies = await self._kit.journal.programs({row.program_id for row in kept})
        seen = [_seen(caller, row, steps_from_body(bodies[row.program_id])) for row in kept]
        token = page_token(kept[-1].decided_ms, *kept[-1].position) if len(rows) > page.size else ""
        return RefundPage([refund for refund in seen if refund.steps], token, complete)

    async def get(self, caller: Principal, position: Position, name: str) -> Refund:
        """Return a refund, or raise NOT_FOUND."""
        caller.require_role(*READERS)
        rows = await self._store.find(tree_of(caller), RefundSelection(position=position), PageRequest(1))
        if rows and await sees_usage(self._kit.terms, caller, rows[0].endpoint_id):
            bodies = await self._kit.journal.programs([rows[0].program_id])
            seen = _seen(caller, rows[0], steps_from_body(bodies[rows[0].program_id]))
            if seen.steps:
                return seen
        raise not_found("refund", name)

    async def _paid_steps(self, caller: Principal, record: Record) -> int:
        """How many steps the caller may refund: from the endpoint's up to the one at which it is paid itself."""
        if caller.service:
            return len(record.path)
        if caller.account_id in record.path:
            return len(record.path) - record.path.index(caller.account_id)
        if await owns(self._kit.terms, caller, record.endpoint_id):
            raise PermissionDeniedError(
                "NOT_PAID", "A charge is refunded by an account that was paid for it: the enterprise, or one above it."
            )
        raise not_found("usage_record", record.id)

    async def _record(self, position: Position, name: str) -> Record:
        """The record in the books, or, if it is not folded yet, in the journal."""
        rows = await self._books.records("", Selection(position=position), PageRequest(1))
        if rows:
            return rows[0]
        if position.cell < self._kit.cells.count:
            segments = await self._kit.journal.get(position.cell, [position.sequence])
            for segment in segments.values():
                for used in self._kit.journal.content(segment).used:
                    if used.operation * LINES_MAX + used.line == position.place:
                        body = (await self._kit.journal.programs([used.program_id]))[used.program_id]
                        path = tuple(path_of(steps_from_body(body)).strip("/").split("/"))
                        return _of_used(position, used, path, segment.decided_ms)
        raise not_found("usage_record", name)


def _of_used(position: Position, used: Used, path: tuple[str, ...], decided_ms: int) -> Record:
    charged = used.outcome[0] == Status.CHARGED
    return Record(
        position=position,
        path=path,
        event_id=used.event_id,
        endpoint_id=used.endpoint_id,
        service=used.service,
        network_id=used.network_id,
        access_type=used.access_type,
        usage_ms=used.usage_ms,
        quantity=used.quantity,
        mode=used.mode,
        outcome=Outcome.CHARGED if charged else Outcome.REFUSED,
        reason=Reason.NONE if charged else Reason(used.outcome[1]),
        refused_step=0 if charged else used.outcome[2],
        program_id=used.program_id,
        steps=used.outcome[2] if charged else [],
        decided_ms=decided_ms,
    )


def _holder(step: Step, record: Record) -> str:
    return record.endpoint_id if step.holder == ENDPOINT_HOLDER else step.holder


def _steps(endpoint_id: str, found: Sequence[Any], steps: Sequence[Step]) -> list[RefundedStep]:
    return [
        RefundedStep(
            number,
            step.payer or endpoint_id,
            step.payee,
            units,
            amount,
            step.currency,
            [
                RefundedBalance(bucket, is_money, restored, lapsed)
                for is_money, parts in ((False, volumes), (True, moneys))
                for bucket, restored, lapsed in parts
            ],
        )
        for number, ((units, amount, volumes, moneys, _), step) in enumerate(zip(found, steps, strict=False))
        if units
    ]


def _answered(corrected: Corrected, steps: Sequence[Step]) -> Refund:
    op = corrected.done.op
    assert isinstance(op, RefundOp)  # noqa: S101 - a request id stands for one kind of request
    quantity, found = corrected.done.answer
    return Refund(
        corrected.id("rfd"),
        op.usage_record_id,
        op.endpoint_id,
        quantity,
        _steps(op.endpoint_id, found, steps),
        op.request.reason,
        corrected.decided_ms,
        corrected.replayed,
    )


def _seen(caller: Principal, row: PostedRefund, steps: Sequence[Step]) -> Refund:
    """A refund as a caller sees it: up to the step that its own account pays, the reason if it is below it."""
    visible = len(row.path) if caller.service else len(row.path) - len(caller.account_path) + 2
    found = [step for step in _steps(row.endpoint_id, row.steps, steps) if step.step < max(visible, 1)]
    refunder = row.path.index(row.account_id) if row.account_id in row.path else 0
    own = caller.service or refunder >= len(caller.account_path) - 1
    cell, sequence, operation = row.position
    return Refund(
        f"rfd_{cell}.{sequence}.{operation}",
        row.usage_record_id,
        row.endpoint_id,
        max((step.quantity for step in found), default=0),
        found,
        row.reason if own else "",
        row.decided_ms,
    )
