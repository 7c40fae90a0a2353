"""Refunds as they stand in the books."""

from typing import Any

import sqlalchemy as sa

from services.common.pages import PageRequest
from services.rating.domain.operations import RefundOp
from services.rating.domain.records import Position
from services.rating.ports import RefundRow
from services.rating.storage.tables import chains, refunds
from services.rating.usecases.refunds import PostedRefund, RefundSelection
from services.runtime.database import Database
from services.runtime.packing import pack, unpack


def refund_row(row: RefundRow, chain_id: int) -> tuple[Any, ...]:
    """A refund as a row of its table."""
    op = row.done.op
    assert isinstance(op, RefundOp)  # noqa: S101 - the fold makes these rows of refunds only
    quantity, steps = row.done.answer
    by, reason = op.request.by, op.request.reason
    about = (op.usage_record_id, op.endpoint_id, chain_id, op.program_id, quantity, reason, by.actor, by.account_id)
    return (*row.position, *about, pack(steps), row.decided_ms)


class Refunds:
    """Reads refunds."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, under: str, selection: RefundSelection, page: PageRequest) -> list[PostedRefund]:
        """Up to `page.size + 1` refunds to enterprises whose path begins with `under`, newest first."""
        columns = refunds.c
        order = (columns.decided_ms, columns.cell, columns.sequence, columns.operation)
        query = (
            sa.select(refunds, chains.c.path)
            .join(chains, chains.c.id == columns.chain_id)
            .where(chains.c.path.startswith(under, autoescape=True))
            .order_by(*(column.desc() for column in order))
            .limit(page.size + 1)
        )
        if selection.usage_record_id:
            query = query.where(columns.usage_record_id == selection.usage_record_id)
        if selection.endpoint_id:
            query = query.where(columns.endpoint_id == selection.endpoint_id)
        if selection.position is not None:
            place = sa.tuple_(columns.cell, columns.sequence, columns.operation)
            query = query.where(place == tuple(selection.position))
        if after := page.key(int, int, int, int):
            query = query.where(sa.tuple_(*order) < after)
        async with self._database.reading() as connection:
            return [_posted(row) for row in await connection.execute(query)]


def _posted(row: Any) -> PostedRefund:
    return PostedRefund(
        position=Position(row.cell, row.sequence, row.operation),
        path=tuple(row.path.strip("/").split("/")),
        usage_record_id=row.usage_record_id,
        endpoint_id=row.endpoint_id,
        program_id=row.program_id,
        quantity=row.quantity,
        reason=row.reason,
        account_id=row.account_id,
        steps=unpack(row.steps),
        decided_ms=row.decided_ms,
    )
