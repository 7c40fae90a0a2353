"""Books folded a second time into a scratch file, and compared with those that people read.

Nothing of it is kept in memory but some thousand rows at a time: how much there is to compare does not matter.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from services.rating.domain.decisions import Segment
from services.rating.domain.findings import Code, Finding
from services.rating.domain.records import Position, id_digest, repeat_digest, usage_record_id
from services.rating.ports import Cursor, Sheet
from services.rating.storage.ledger import Ledger
from services.rating.storage.tables import (
    audit,
    balances,
    chains,
    cursors,
    entries,
    events,
    images,
    ledger,
    refunds,
    refusals,
    requests,
    totals,
    usage,
)
from services.rating.usecases.verifying.sources import Glance, StateRow
from services.runtime.database import Database

ROWS = 1000
BY_SEGMENT = (usage, refunds, entries)
"""Tables of which each row comes from one segment: compared as it is folded, then forgotten."""
SUMMED = (totals, refusals, requests, balances, images, audit, events)
"""Tables that are compared when all is folded."""
FOLDED = (*BY_SEGMENT, *SUMMED)
"""All that the fold writes besides its cursors, and `chain`, which only numbers paths."""
PREFIXES = {audit: "aud", events: "evt"}
"""How ids begin in tables to which others write too; behind it stand cell, segment and number, with dots between."""

scratch = sa.MetaData()
seen_states = sa.Table(
    "seen_state",
    scratch,
    sa.Column("cell", sa.Integer, primary_key=True),
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("value", sa.LargeBinary, nullable=False),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("ends", sa.BigInteger),
)
answers = sa.Table(
    "answer",
    scratch,
    sa.Column("cell", sa.Integer, primary_key=True),
    sa.Column("digest", sa.LargeBinary, primary_key=True),
    sa.Column("value", sa.LargeBinary, nullable=False),
    sa.Column("needed", sa.SmallInteger, nullable=False),
)
holdings = sa.Table(
    "holding",
    scratch,
    sa.Column("cell", sa.Integer, primary_key=True),
    sa.Column("balance_id", sa.String, primary_key=True),
    sa.Column("remaining", sa.BigInteger, nullable=False),
    sa.Column("held", sa.BigInteger, nullable=False),
)
debts = sa.Table(
    "debt",
    scratch,
    sa.Column("cell", sa.Integer, primary_key=True),
    sa.Column("holder_id", sa.String, primary_key=True),
    sa.Column("charged", sa.BigInteger, nullable=False),
    sa.Column("owed", sa.BigInteger, nullable=False),
)


class Scratch:
    """The second books, in a file that the caller deletes, beside the examined ones.

    Args:
        books: the database of the examined books.
        file: where the scratch file is to be.
    """

    def __init__(self, books: Database, file: Path) -> None:
        self._books = books
        self._second = Database(f"sqlite+aiosqlite:///{file}")
        self._ledger = Ledger(self._second)
        self._still: AsyncConnection | None = None

    async def __aenter__(self) -> Self:
        async with self._second.transaction() as connection:
            await connection.run_sync(ledger.create_all)
            await connection.run_sync(scratch.create_all)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._still is not None:
            await self._still.close()
        await self._second.close()

    async def cursors(self) -> dict[int, Cursor]:
        """How far the examined books are, by cell."""
        async with self._books.reading() as connection:
            return await _cursors(connection)

    async def begin(self) -> dict[int, Cursor]:
        """Hold the examined books still from now on, for this reader only; how far they are, by cell."""
        self._still = await self._books.engine.connect()
        if self._books.is_sqlite:
            await self._still.exec_driver_sql("BEGIN")
        else:
            self._still = await self._still.execution_options(isolation_level="REPEATABLE READ")
        return await _cursors(self._still)

    async def post(self, cell: int, cursor: Cursor, last: Segment, sheet: Sheet) -> None:
        """Post to the second books, as the fold does."""
        await self._number_paths_alike()
        await self._ledger.post(cell, cursor, last, sheet)

    async def _number_paths_alike(self) -> None:
        async with self._second.reading() as connection:
            last = await connection.scalar(sa.select(sa.func.max(chains.c.id))) or 0
        query = sa.select(chains).where(chains.c.id > last).order_by(chains.c.id)
        async with self._books.reading() as connection:
            rows = [row._asdict() for row in await connection.execute(query)]
        if rows:
            async with self._second.transaction() as connection:
                await connection.execute(sqlite.insert(chains).on_conflict_do_nothing(), rows)

    async def compare_rows(self, cell: int, after: int, upto: int) -> list[Finding]:
        """Compare usage records, refunds and entries of some segments, and forget them."""
        found: list[Finding] = []
        for table in BY_SEGMENT:
            here = sa.and_(table.c.cell == cell, table.c.sequence > after, table.c.sequence <= upto)
            query = sa.select(table).where(here).order_by(*table.primary_key)
            async with self._books.reading() as books, self._second.reading() as second:
                there = (await books.execute(query)).all()
                anew = (await second.execute(query)).all()
            if table is usage:
                found += _decided_twice(there)
            if there != anew:
                found += _differences(table, iter(there), iter(anew))
            async with self._second.transaction() as connection:
                await connection.execute(sa.delete(table).where(here))
        return found

    async def compare_sums(self) -> list[Finding]:
        """Compare everything else with the books held still."""
        assert self._still is not None, "begin() first"  # noqa: S101
        found: list[Finding] = []
        for table in SUMMED:
            async with self._second.reading() as second:
                pairs = _merged(table, _stream(self._still, table), _stream(second, table))
                found += [difference async for difference in pairs]
        await self._still.close()
        self._still = None
        return found

    async def replace_images(self, cell: int, newer: Mapping[str, bytes]) -> None:
        """Put newer images in place of those folded."""
        await self._upsert(images, [{"name": name, "cell": cell, "value": value} for name, value in newer.items()])

    async def images(self, cell: int) -> AsyncIterator[Mapping[str, bytes]]:
        """Images of the second books, some at a time."""
        after = ""
        while True:
            here = sa.and_(images.c.cell == cell, images.c.name > after)
            query = sa.select(images.c.name, images.c.value).where(here).order_by(images.c.name).limit(ROWS)
            async with self._second.reading() as connection:
                some = dict((await connection.execute(query)).all())
            if not some:
                return
            yield some
            after = max(some)

    async def add_held(self, cell: int, rows: Iterable[tuple[str, int, int]]) -> None:
        """Add to what holders have in a cell: balance, remaining, and what sessions hold of it."""
        await self._add(holdings, cell, rows)

    async def add_owed(self, cell: int, rows: Iterable[tuple[str, int, int]]) -> None:
        """Add to what holders owe in a cell: holder, what it was charged, and what it owes as it says itself."""
        await self._add(debts, cell, rows)

    async def _add(self, table: sa.Table, cell: int, rows: Iterable[tuple[str, int, int]]) -> None:
        """Add to what a table of sums has of a cell."""
        await self._upsert(table, [dict(zip(table.c.keys(), (cell, *row), strict=True)) for row in rows], adds=True)

    async def unequal_debts(self, cell: int) -> list[tuple[str, int, int]]:
        """Holders that owe something else than what they were charged: holder, charged, owed."""
        query = sa.select(debts.c.holder_id, debts.c.charged, debts.c.owed).order_by(debts.c.holder_id)
        query = query.where(debts.c.cell == cell, debts.c.charged != debts.c.owed)
        async with self._second.reading() as connection:
            return [tuple(row) for row in await connection.execute(query)]

    async def unequal_balances(self) -> AsyncIterator[tuple[str, int, int]]:
        """Balances whose entries and holders disagree: balance, sum of its entries, what holders of all cells have."""
        summed = sa.func.sum(holdings.c.remaining).label("remaining")
        in_all = sa.select(holdings.c.balance_id, summed).group_by(holdings.c.balance_id).subquery()
        there = sa.func.coalesce(in_all.c.remaining, 0)
        joined = balances.outerjoin(in_all, in_all.c.balance_id == balances.c.id)
        entered = sa.select(balances.c.id, balances.c.remaining, there).select_from(joined)
        without = in_all.outerjoin(balances, in_all.c.balance_id == balances.c.id)
        nothing = sa.select(in_all.c.balance_id, sa.literal(0), in_all.c.remaining).select_from(without)
        one = entered.where(balances.c.remaining != there)
        other = nothing.where(balances.c.id.is_(None), in_all.c.remaining != 0)
        async with self._second.reading() as connection:
            for query in (one, other):
                async with connection.stream(query.execution_options(yield_per=ROWS)) as rows:
                    async for row in rows:
                        yield tuple(row)

    async def held(self, cell: int, names: Sequence[str]) -> dict[str, int]:
        """What sessions of a cell hold of balances."""
        query = sa.select(holdings.c.balance_id, holdings.c.held).where(holdings.c.cell == cell)
        async with self._second.reading() as connection:
            found: dict[str, int] = {}
            for start in range(0, len(names), ROWS):
                some = query.where(holdings.c.balance_id.in_(names[start : start + ROWS]))
                found.update((await connection.execute(some)).all())
            return found

    async def forget_state(self, cell: int) -> None:
        """Forget what Valkey held."""
        async with self._second.transaction() as connection:
            await connection.execute(sa.delete(seen_states).where(seen_states.c.cell == cell))

    async def note_state(self, cell: int, glance: Glance) -> None:
        """Keep what Valkey holds."""
        rows = [
            {"cell": cell, "name": name, "value": value, "sequence": glance.sequence, "ends": glance.ends.get(name)}
            for name, value in glance.values.items()
        ]
        await self._upsert(seen_states, rows)

    async def differing_state(self, cell: int) -> AsyncIterator[StateRow]:
        """Where Valkey and images differ, and every session: its end stands in another place."""
        same = sa.and_(seen_states.c.name == images.c.name, seen_states.c.cell == images.c.cell)
        columns = (seen_states.c.value, images.c.value.label("image"), seen_states.c.ends)
        one = sa.select(images.c.name, *columns).select_from(images.outerjoin(seen_states, same))
        one = one.where(images.c.cell == cell)
        differs = sa.or_(seen_states.c.value.is_(None), seen_states.c.value != images.c.value)
        one = one.where(sa.or_(differs, images.c.name.startswith("s:")))
        other = sa.select(seen_states.c.name, *columns).select_from(seen_states.outerjoin(images, same))
        other = other.where(seen_states.c.cell == cell, images.c.value.is_(None))
        async with self._second.reading() as connection:
            for query in (one, other):
                async with connection.stream(query.execution_options(yield_per=ROWS)) as rows:
                    async for row in rows:
                        yield StateRow(*row)

    async def seen(self, cell: int, names: Sequence[str]) -> dict[str, int]:
        """At which sequence names were read from Valkey."""
        here = sa.and_(seen_states.c.cell == cell, seen_states.c.name.in_(names))
        async with self._second.reading() as connection:
            query = sa.select(seen_states.c.name, seen_states.c.sequence).where(here)
            return dict((await connection.execute(query)).all())

    async def note_answers(self, cell: int, given: Mapping[bytes, tuple[bytes, int]]) -> None:
        """Keep ids of the journal: what Valkey remembers of each, and whether it must (1) or may (0)."""
        rows = [
            {"cell": cell, "digest": digest, "value": value, "needed": needed}
            for digest, (value, needed) in given.items()
        ]
        await self._upsert(answers, rows)

    async def check_answers(self, cell: int, given: Mapping[bytes, bytes]) -> dict[bytes, bytes | None]:
        """Take ids of Valkey off; those that the journal does not have, or has otherwise, with what it has."""
        here = sa.and_(answers.c.cell == cell, answers.c.digest.in_(list(given)))
        async with self._second.transaction() as connection:
            query = sa.select(answers.c.digest, answers.c.value).where(here)
            known = dict((await connection.execute(query)).all())
            await connection.execute(sa.update(answers).where(here).values(needed=0))
        return {digest: known.get(digest) for digest, value in given.items() if known.get(digest) != value}

    async def unanswered(self, cell: int) -> AsyncIterator[bytes]:
        """Ids that Valkey must remember and was not asked to take off."""
        query = sa.select(answers.c.digest).where(answers.c.cell == cell, answers.c.needed == 1)
        async with (
            self._second.reading() as connection,
            connection.stream(query.execution_options(yield_per=ROWS)) as rows,
        ):
            async for (digest,) in rows:
                yield digest

    async def _upsert(self, table: sa.Table, rows: Sequence[Mapping[str, Any]], *, adds: bool = False) -> None:
        """Write rows in place of those that are there, or add their numbers to them."""
        if not rows:
            return
        insert = sqlite.insert(table)
        keys = [column.name for column in table.primary_key]
        values = [column for column in table.columns if column.name not in keys]
        new = {c.name: c + insert.excluded[c.name] if adds else insert.excluded[c.name] for c in values}
        async with self._second.transaction() as connection:
            await connection.execute(insert.on_conflict_do_update(index_elements=keys, set_=new), list(rows))


async def _cursors(connection: AsyncConnection) -> dict[int, Cursor]:
    rows = await connection.execute(sa.select(cursors))
    return {row.cell: Cursor(row.sequence, row.decided_ms) for row in rows}


async def _stream(connection: AsyncConnection, table: sa.Table) -> AsyncIterator[Any]:
    """Rows in the order of their keys, byte by byte, on whichever database."""
    c_order = connection.dialect.name != "sqlite"
    order = [
        sa.collate(column, "C") if c_order and isinstance(column.type, sa.String) else column
        for column in table.primary_key
    ]
    query = sa.select(table).order_by(*order)
    query = query.where(*folded_rows(table))
    async with connection.stream(query.execution_options(yield_per=ROWS)) as rows:
        async for row in rows:
            yield row


def folded_rows(table: sa.Table) -> list[sa.ColumnElement[bool]]:
    """What tells a table's rows that the fold wrote from those of others; nothing if there are no others."""
    return [table.c.id.like(f"{PREFIXES[table]}\\_%.%.%", escape="\\")] if table in PREFIXES else []


async def _merged(table: sa.Table, there: AsyncIterator[Any], anew: AsyncIterator[Any]) -> AsyncIterator[Finding]:
    key = _key(table)
    one, other = await anext(there, None), await anext(anew, None)
    while one is not None or other is not None:
        if other is None or (one is not None and key(one) < key(other)):
            yield _unknown(table, one)
            one = await anext(there, None)
        elif one is None or key(other) < key(one):
            yield _missing(table, other)
            other = await anext(anew, None)
        else:
            if tuple(one) != tuple(other):
                yield _differs(table, one, other)
            one, other = await anext(there, None), await anext(anew, None)


def _own_digest(row: Any) -> bytes:
    """The digest of the id of a usage record's event; of one that was decided twice the books have another."""
    digest = id_digest(row.endpoint_id, row.event_id)
    position = Position(row.cell, row.sequence, row.position)
    return digest if row.id_digest == repeat_digest(digest, position) else row.id_digest


def _content(table: sa.Table, row: Any) -> tuple[Any, ...]:
    """What a row says; which of two decisions on an event was the first is not told by it alone."""
    if table is not usage:
        return tuple(row)
    return tuple(_own_digest(row) if name == "id_digest" else value for name, value in row._mapping.items())  # noqa: SLF001


def _decided_twice(rows: Sequence[Any]) -> Iterator[Finding]:
    for row in rows:
        if _own_digest(row) != row.id_digest:
            again = usage_record_id(Position(row.cell, row.sequence, row.position))
            message = f"Event {row.event_id!r} of {row.endpoint_id} had been decided before: it was charged again."
            yield Finding(Code.EVENT_TWICE, f"usage record {again}", message)


def _differences(table: sa.Table, there: Iterable[Any], anew: Iterable[Any]) -> Iterator[Finding]:
    key = _key(table)
    books = {key(row): row for row in there}
    for row in anew:
        found = books.pop(key(row), None)
        if found is None:
            yield _missing(table, row)
        elif _content(table, found) != _content(table, row):
            yield _differs(table, found, row)
    for row in books.values():
        yield _unknown(table, row)


def _key(table: sa.Table) -> Any:
    names = [column.name for column in table.primary_key]

    def key(row: Any) -> tuple[Any, ...]:
        return tuple(value.encode() if isinstance(value, str) else value for value in (getattr(row, n) for n in names))

    return key


def _place(table: sa.Table, row: Any) -> str:
    named = [(column.name, getattr(row, column.name)) for column in table.primary_key]
    return f"{table.name} " + " ".join(f"{name}={_shown(value)}" for name, value in named)


def _shown(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _missing(table: sa.Table, row: Any) -> Finding:
    return Finding(Code.BOOKS_ROW_MISSING, _place(table, row), "The journal has it, the books do not.")


def _unknown(table: sa.Table, row: Any) -> Finding:
    return Finding(Code.BOOKS_ROW_UNKNOWN, _place(table, row), "The books have it, the journal does not.")


def _differs(table: sa.Table, there: Any, anew: Any) -> Finding:
    pairs = zip(table.columns, there, anew, strict=True)
    said = [f"{column.name} is {_shown(a)[:80]}, should be {_shown(b)[:80]}" for column, a, b in pairs if a != b]
    return Finding(Code.BOOKS_ROW_DIFFERS, _place(table, there), "; ".join(said) + ".")
