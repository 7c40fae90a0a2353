"""Refunds, adjustments and transfers: as the Function reads them, and as the journal keeps them."""

from collections.abc import Sequence
from typing import Any

from services.rating.domain.decisions import Actor, Outcome
from services.rating.domain.operations import (
    AdjustOp,
    ChargedStep,
    DoneOperation,
    Draw,
    OperationOp,
    RefundOp,
    Request,
    TransferOp,
)

REFUND, ADJUST, TRANSFER = 5, 6, 7
KINDS = frozenset({REFUND, ADJUST, TRANSFER})


def _steps(steps: Sequence[ChargedStep]) -> list[list[Any]]:
    return [[step.holder, step.pool, step.mode, step.amount, step.volumes, step.moneys, step.benefit] for step in steps]


def _request(request: Request) -> list[Any]:
    by = request.by
    actor = [by.actor, by.account_id, by.owner_path, by.owner_id]
    return [request.id_digest, request.body_digest, request.request_id, request.reason, actor]


def to_function(op: OperationOp) -> list[Any]:
    """An operation as the Function reads it."""
    known = [op.request.id_digest, op.request.body_digest]
    if isinstance(op, RefundOp):
        asked = [op.usage_record_id, op.quantity, op.total, op.place, _steps(op.steps), op.endpoint_id]
        return [REFUND, *known, *asked]
    if isinstance(op, AdjustOp):
        return [ADJUST, *known, op.holder_id, op.balance, op.change, op.least]
    return [TRANSFER, *known, op.from_id, op.to_id, op.amount]


def to_journal(op: OperationOp) -> list[Any]:
    """An operation as the journal keeps it: all of it."""
    request = _request(op.request)
    if isinstance(op, RefundOp):
        asked = [op.usage_record_id, op.place, op.total, op.quantity, _steps(op.steps)]
        return [REFUND, request, *asked, op.endpoint_id, op.network_id, op.service, op.program_id]
    if isinstance(op, AdjustOp):
        return [ADJUST, request, op.holder_id, op.balance, op.change, op.elsewhere]
    return [TRANSFER, request, op.from_id, op.to_id, op.amount]


def from_journal(operation: int, record: Sequence[Any], outcome: Outcome) -> DoneOperation:
    """Read an operation that was done, and what became of it."""
    kind, (id_digest, body_digest, request_id, reason, by), *fields = record
    request = Request(id_digest, body_digest, request_id, reason, Actor(*by))
    op: OperationOp
    if kind == REFUND:
        name, place, total, quantity, steps, *about = fields
        op = RefundOp(request, name, place, total, quantity, [_step(step) for step in steps], *about)
    elif kind == ADJUST:
        op = AdjustOp(request, *fields)
    else:
        op = TransferOp(request, *fields)
    return DoneOperation(operation, op, outcome[1:])


def _step(fields: Sequence[Any]) -> ChargedStep:
    holder, pool, mode, amount, volumes, moneys, benefit = fields
    return ChargedStep(holder, pool, mode, amount, _draws(volumes), _draws(moneys), benefit)


def _draws(fields: Sequence[Sequence[Any]]) -> list[Draw]:
    return [(bucket, quantity, late) for bucket, quantity, late in fields]
