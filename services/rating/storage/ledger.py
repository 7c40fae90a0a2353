"""The ledger: usage records, charges, totals, movements and balances, as the fold has posted them."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
import structlog
from prometheus_client import Counter
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from services.common.errors import AbortedError
from services.rating.domain.decisions import Segment, Status, is_throttled
from services.rating.domain.reasons import Outcome
from services.rating.domain.records import LINES_MAX, Position, repeat_digest
from services.rating.ports import AnsweredId, Cursor, Sheet, Standing, UsageRow
from services.rating.storage.refunds import refund_row
from services.rating.storage.tables import (
    audit,
    balances,
    chains,
    cursors,
    entries,
    events,
    images,
    refunds,
    refusals,
    requests,
    totals,
    usage,
)
from services.runtime.database import Database, Prepared
from services.runtime.packing import pack, unpack

ROWS = 5_000
"""Rows of a long answer that are in memory at once."""
_CHARGED, _REFUSED = int(Outcome.CHARGED), int(Outcome.REFUSED)
IN_MAX = 500
"""Values in one IN list."""

log = structlog.get_logger(part="ledger")
REPEATED = Counter("meterline_fold_repeated_events", "Events posted though they had been decided before.")


class Ledger:
    """Posts what the fold made, once."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._chain_ids: dict[str, int] = {}
        self._statements: dict[str, Prepared] = {}

    async def cursor(self, cell: int) -> Cursor:
        """How far the fold of a cell is."""
        query = sa.select(cursors.c.sequence, cursors.c.decided_ms).where(cursors.c.cell == cell)
        async with self.database.reading() as connection:
            row = (await connection.execute(query)).one_or_none()
        return Cursor(row.sequence, row.decided_ms) if row else Cursor(0, 0)

    async def post(self, cell: int, cursor: Cursor, last: Segment, sheet: Sheet) -> None:
        """Post a sheet and move the cursor, in one transaction.

        Raises:
            AbortedError: FOLD_OVERTAKEN, if somebody else moved the cursor meanwhile; nothing is posted.
        """
        try:
            learned = await self.database.write(lambda connection: self._post(connection, cell, cursor, last, sheet))
        except IntegrityError:
            self._chain_ids = {}
            repeats = await self._repeats(sheet)
            if not repeats:
                raise
            log.warning("events were decided twice: the balance store forgot ids", cell=cell, records=repeats)
            REPEATED.inc(len(repeats))
            learned = await self.database.write(
                lambda connection: self._post(connection, cell, cursor, last, sheet, repeats)
            )
        self._chain_ids.update(learned)

    async def _repeats(self, sheet: Sheet) -> frozenset[Position]:
        """Where events stand that were decided before: in the books by now, or earlier in the sheet.

        It does not happen while the balance store remembers what it answered. Where it did happen the money was taken
        twice, so the books hold both, and an examination names them.
        """
        digests = [row.used.id_digest for row in sheet.usage]
        known = {digest: position for digest, (position, _, _) in (await self.outcomes(digests)).items()}
        repeats: set[Position] = set()
        for row in sheet.usage:
            if known.setdefault(row.used.id_digest, row.position) != row.position:
                repeats.add(row.position)
        return frozenset(repeats)

    def _post(
        self,
        connection: sa.Connection,
        cell: int,
        cursor: Cursor,
        last: Segment,
        sheet: Sheet,
        repeats: frozenset[Position] = frozenset(),
    ) -> Mapping[str, int]:
        """Write a sheet; returns the ids of its chains, which hold for others when the transaction has happened."""
        self._move_cursor(connection, cell, cursor, last)
        paths = {*(row.path for row in sheet.usage), *(row.path for row in sheet.refunds)}
        chain_ids = self._chains(connection, paths)
        rows = [_usage_row(row, chain_ids[row.path], is_repeat=row.position in repeats) for row in sheet.usage]
        self._execute(connection, "usage", sa.insert(usage), rows)
        refunded = [refund_row(row, chain_ids[row.path]) for row in sheet.refunds]
        self._execute(connection, "refunds", sa.insert(refunds), refunded)
        summed = [(chain_ids[key[0]], *key[1:], *total) for key, total in sheet.totals.items()]
        self._execute(connection, "totals", self._adding(totals, 7), summed)
        counted = [(chain_ids[key[0]], *key[1:], *total) for key, total in sheet.refusals.items()]
        self._execute(connection, "refusals", self._adding(refusals, 6), counted)
        self._execute(connection, "entries", sa.insert(entries), sheet.entries)
        moved = [(name, holder, change) for name, (holder, change) in sheet.balances.items()]
        self._execute(connection, "balances", self._adding(balances, 2, key=1), moved)
        self._execute(connection, "requests", self.database.insert(requests).on_conflict_do_nothing(), sheet.requests)
        if sheet.audit:
            connection.execute(sa.insert(audit), sheet.audit)
        if sheet.events:
            connection.execute(sa.insert(events), [asdict(event) for event in sheet.events])
        kept = [(name, cell, value) for name, value in sheet.images.items()]
        self._execute(connection, "images", self._replacing_images(), kept)
        return chain_ids

    def _move_cursor(self, connection: sa.Connection, cell: int, cursor: Cursor, last: Segment) -> None:
        first = self.database.insert(cursors).values(cell=cell, sequence=0, decided_ms=0)
        connection.execute(first.on_conflict_do_nothing())
        moved = connection.execute(
            sa.update(cursors)
            .where(cursors.c.cell == cell, cursors.c.sequence == cursor.sequence)
            .values(sequence=last.sequence, decided_ms=last.decided_ms)
        )
        if moved.rowcount != 1:
            raise AbortedError("FOLD_OVERTAKEN", "Another process folds this cell; it is further.")

    def _chains(self, connection: sa.Connection, paths: AbstractSet[str]) -> Mapping[str, int]:
        known = self._chain_ids
        ids = {path: known[path] for path in paths & known.keys()}
        for path in sorted(paths - ids.keys()):
            connection.execute(self.database.insert(chains).values(path=path).on_conflict_do_nothing())
            found = connection.scalar(sa.select(chains.c.id).where(chains.c.path == path))
            assert found is not None  # noqa: S101 - it was just inserted
            ids[path] = found
        return ids

    def _adding(self, table: sa.Table, columns: int, key: int = 0) -> Any:
        """An insert that adds to the sums of a row that is there; `columns` lead, the rest are sums."""
        names = [column.name for column in table.columns]
        keys = names[: key or columns]
        insert = self.database.insert(table)
        sums = {name: table.c[name] + insert.excluded[name] for name in names[columns:]}
        return insert.on_conflict_do_update(index_elements=keys, set_=sums)

    def _replacing_images(self) -> Any:
        insert = self.database.insert(images)
        return insert.on_conflict_do_update(index_elements=["name", "cell"], set_={"value": insert.excluded["value"]})

    def _execute(self, connection: sa.Connection, name: str, statement: Any, rows: Sequence[tuple[Any, ...]]) -> None:
        """Run a statement for many rows (values in the order of the table's columns), compiled once."""
        if not rows:
            return
        known = self._statements.get(name)
        if known is None:
            known = self._statements[name] = Prepared(self.database, statement)
        known(connection, rows)

    async def outcomes(self, digests: Sequence[bytes]) -> dict[bytes, tuple[Position, bytes, list[Any]]]:
        """Position, body digest and outcome of events that are in the books, by digest of their ids."""
        found: dict[bytes, tuple[Position, bytes, list[Any]]] = {}
        async with self.database.reading() as connection:
            for start in range(0, len(digests), IN_MAX):
                query = sa.select(usage).where(usage.c.id_digest.in_(digests[start : start + IN_MAX]))
                for row in await connection.execute(query):
                    charged = row.outcome == Outcome.CHARGED
                    if charged:
                        outcome = [0, row.uncovered, unpack(row.steps), *([True] if row.throttled else [])]
                    else:
                        outcome = [1, row.reason, row.refused_step]
                    position = Position(row.cell, row.sequence, row.position)
                    found[row.id_digest] = (position, row.body_digest, outcome)
        return found

    async def standing(self, cell: int, since_ms: int) -> AsyncGenerator[Standing, None]:
        """Images, and ids answered since a moment, some at a time, all as the last folded segment left them.

        They are read in one transaction that sees one moment: meanwhile the fold may go on, or begin anew.
        """
        left = sa.select(images.c.name, images.c.value).where(images.c.cell == cell)
        used = sa.select(
            usage.c.id_digest, usage.c.body_digest, usage.c.sequence, usage.c.position, usage.c.decided_ms
        ).where(usage.c.cell == cell, usage.c.decided_ms >= since_ms)
        asked = sa.select(
            requests.c.id_digest,
            requests.c.body_digest,
            requests.c.sequence,
            requests.c.operation,
            requests.c.decided_ms,
        ).where(requests.c.cell == cell, requests.c.decided_ms >= since_ms)
        async with self.database.reading(still=True) as connection:
            sequence = await connection.scalar(sa.select(cursors.c.sequence).where(cursors.c.cell == cell)) or 0
            async for rows in _some(connection, left):
                yield Standing(sequence, dict(rows), ())
            async for rows in _some(connection, used):
                ids = [
                    AnsweredId(digest, body, number, position // LINES_MAX, at)
                    for digest, body, number, position, at in rows
                ]
                yield Standing(sequence, {}, ids)
            async for rows in _some(connection, asked):
                yield Standing(sequence, {}, [AnsweredId(*row) for row in rows])

    async def answered_request(self, digest: bytes) -> tuple[bytes, int] | None:
        """Body digest and answer of an answered request; None if it was not folded yet or never came."""
        query = sa.select(requests.c.body_digest, requests.c.answer).where(requests.c.id_digest == digest)
        async with self.database.reading() as connection:
            row = (await connection.execute(query)).one_or_none()
        return (row.body_digest, row.answer) if row else None

    async def answered_at(self, digest: bytes) -> tuple[bytes, int, int] | None:
        """Body digest, segment and operation in it of an answered request; None if it was not folded or never came."""
        query = sa.select(requests.c.body_digest, requests.c.sequence, requests.c.operation).where(
            requests.c.id_digest == digest
        )
        async with self.database.reading() as connection:
            row = (await connection.execute(query)).one_or_none()
        return (row.body_digest, row.sequence, row.operation) if row else None

    async def holder_of(self, balance_id: str) -> str | None:
        """Who holds a balance; None if it is not in the books."""
        query = sa.select(balances.c.holder_id).where(balances.c.id == balance_id)
        async with self.database.reading() as connection:
            holder: str | None = await connection.scalar(query)
        return holder

    async def all_balances(self) -> dict[str, tuple[str, int]]:
        """Holder and sum of the ledger of every balance, by id."""
        async with self.database.reading() as connection:
            return {row.id: (row.holder_id, row.remaining) for row in await connection.execute(sa.select(balances))}


async def _some(connection: AsyncConnection, query: sa.Select[Any]) -> AsyncIterator[Sequence[Any]]:
    """Rows of a long answer, some at a time."""
    async with connection.stream(query.execution_options(yield_per=ROWS)) as rows:
        async for some in rows.partitions():
            yield some


def _usage_row(row: UsageRow, chain_id: int, *, is_repeat: bool) -> tuple[Any, ...]:
    position, _, used, decided_ms = row
    outcome = used.outcome
    charged = outcome[0] == Status.CHARGED
    return (
        *position,
        repeat_digest(used.id_digest, position) if is_repeat else used.id_digest,
        used.body_digest,
        used.event_id,
        used.endpoint_id,
        chain_id,
        used.service,
        used.network_id,
        used.access_type,
        used.usage_ms,
        used.quantity,
        used.mode,
        _CHARGED if charged else _REFUSED,
        *((0, 0, outcome[1]) if charged else (outcome[1], outcome[2], 0)),
        1 if is_throttled(outcome) else 0,
        used.program_id,
        pack(outcome[2] if charged else ()),
        decided_ms,
    )
