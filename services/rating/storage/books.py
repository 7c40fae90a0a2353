"""The books as they are read: records, sums, refusals, movements."""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from services.common.clock import DAY_MS
from services.common.errors import FailedPreconditionError, InternalError
from services.common.pages import PageRequest
from services.rating.domain.reasons import Outcome, Reason, Service
from services.rating.domain.records import Position
from services.rating.storage.journal import Journal
from services.rating.storage.tables import chains, cursors, entries, refusals, totals, usage
from services.rating.usecases.books import Record, RefusalSum, Selection, Sum
from services.runtime.database import Database
from services.runtime.packing import unpack

_DATA = (int(Service.DATA), int(Service.NB_IOT))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Books:
    """Reads the ledger.

    Args:
        database: the ledger's.
        journal: says whether everything is folded.
        cells: numbers of the cells.
    """

    def __init__(self, database: Database, journal: Journal, cells: Sequence[int]) -> None:
        self._database = database
        self._journal = journal
        self._cells = cells

    async def complete_until_ms(self) -> int:
        """Everything acknowledged before this time, milliseconds since 1970, is in the books."""
        complete = time.time_ns() // 1_000_000
        async with self._database.reading() as connection:
            folded = {row.cell: row for row in await connection.execute(sa.select(cursors))}
        for cell in self._cells:
            last = folded.get(cell)
            try:
                first_open = await self._journal.read(cell, last.sequence if last else 0, 1)
            except (InternalError, FailedPreconditionError):  # damaged, or moved away: the books go as far as they go
                complete = min(complete, last.decided_ms if last else 0)
            else:
                complete = min([complete, *(segment.decided_ms for segment in first_open)])
        return complete

    async def records(self, under: str, selection: Selection, page: PageRequest) -> list[Record]:
        """Up to `page.size + 1` records of enterprises whose path begins with `under`, newest first."""
        columns = usage.c
        order = (columns.usage_ms, columns.cell, columns.sequence, columns.position)
        query = (
            sa.select(usage, chains.c.path)
            .join(chains, chains.c.id == columns.chain_id)
            .where(chains.c.path.startswith(under, autoescape=True))
            .order_by(
                *(column.desc() for column in (columns.usage_ms, columns.cell, columns.sequence, columns.position))
            )
            .limit(page.size + 1)
        )
        if selection.position is not None:
            query = query.where(
                sa.tuple_(columns.cell, columns.sequence, columns.position) == tuple(selection.position)
            )
        if selection.event_id:
            query = query.where(columns.event_id == selection.event_id)
        if selection.outcome:
            query = query.where(columns.outcome == int(selection.outcome))
        if selection.account_id:
            query = query.where(_below(selection.account_id))
        for condition in _common(selection, columns.endpoint_id, columns.usage_ms, 1):
            query = query.where(condition)
        if after := page.key(int, int, int, int):
            query = query.where(sa.tuple_(*order) < after)
        async with self._database.reading() as connection:
            return [_record(row) for row in await connection.execute(query)]

    async def sums(
        self,
        own: tuple[str, ...],
        under: str,
        selection: Selection,
        group_by: frozenset[str],
        countries: Mapping[str, str],
    ) -> list[Sum]:
        """Sums of the steps that an account with path `own` sees, in order; groups of chains are added up here."""
        columns = totals.c
        groups: list[Any] = [columns.chain_id, columns.step, columns.currency]
        names = {"endpoint": columns.endpoint_id, "day": columns.day, "service": columns.service}
        groups += [names[name] for name in sorted(group_by & names.keys())]
        if group_by & {"network", "country"}:
            groups.append(columns.network_id)
        is_data = columns.service.in_(_DATA)
        sums = [
            sa.func.sum(columns.records).label("records"),
            sa.func.sum(sa.case((is_data, columns.quantity), else_=0)).label("data"),
            sa.func.sum(sa.case((is_data, 0), else_=columns.quantity)).label("messages"),
            sa.func.sum(columns.benefit).label("benefit"),
            sa.func.sum(columns.uncovered).label("uncovered"),
            sa.func.sum(columns.amount).label("amount"),
        ]
        query = (
            sa.select(chains.c.path, *groups, *sums)
            .join(chains, chains.c.id == columns.chain_id)
            .where(chains.c.path.startswith(under, autoescape=True))
            .group_by(chains.c.path, *groups)
        )
        for condition in _common(selection, columns.endpoint_id, columns.day, DAY_MS):
            query = query.where(condition)
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).all()
        merged: dict[tuple[Any, ...], list[int]] = {}
        for row in rows:
            path = tuple(row.path.strip("/").split("/"))
            if row.step <= len(path) - len(own) + 1:
                total = merged.setdefault(_group(row, path, group_by, countries), [0] * 6)
                for index, name in enumerate(("records", "data", "messages", "benefit", "uncovered", "amount")):
                    total[index] += int(getattr(row, name))
        return [Sum(*key, *total) for key, total in sorted(merged.items())]

    async def refusals(self, under: str, selection: Selection) -> list[RefusalSum]:
        """Refusals by reason and step."""
        columns = refusals.c
        is_data = columns.service.in_(_DATA)
        query = (
            sa.select(
                columns.reason,
                columns.step,
                sa.func.sum(columns.records),
                sa.func.sum(sa.case((is_data, columns.quantity), else_=0)),
                sa.func.sum(sa.case((is_data, 0), else_=columns.quantity)),
            )
            .join(chains, chains.c.id == columns.chain_id)
            .where(chains.c.path.startswith(under, autoescape=True))
            .group_by(columns.reason, columns.step)
            .order_by(columns.reason, columns.step)
        )
        for condition in _common(selection, columns.endpoint_id, columns.day, DAY_MS):
            query = query.where(condition)
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).all()
        return [RefusalSum(Reason(reason), step, int(n), int(data), int(sms)) for reason, step, n, data, sms in rows]

    async def entries(self, balance: str, page: PageRequest) -> list[Any]:
        """Up to `page.size + 1` movements of a balance, newest first."""
        columns = entries.c
        order = (columns.created_ms, columns.cell, columns.sequence, columns.number)
        query = sa.select(entries).where(columns.balance_id == balance)
        if after := page.key(int, int, int, int):
            query = query.where(sa.tuple_(*order) < after)
        query = query.order_by(*(column.desc() for column in order)).limit(page.size + 1)
        async with self._database.reading() as connection:
            return list((await connection.execute(query)).all())


def _below(account_id: str) -> Any:
    """Chains that an account is part of."""
    return sa.or_(
        chains.c.path.startswith(f"{account_id}/", autoescape=True),
        chains.c.path.contains(f"/{account_id}/", autoescape=True),
    )


def _common(selection: Selection, endpoint: Any, time_column: Any, unit: int) -> list[Any]:
    """Conditions on endpoint and time; a column that counts days selects whole UTC days."""
    conditions = []
    if selection.endpoint_id:
        conditions.append(endpoint == selection.endpoint_id)
    if selection.start_ms:
        conditions.append(time_column >= selection.start_ms // unit)
    if selection.end_ms:
        conditions.append(time_column < -(-selection.end_ms // unit))
    return conditions


def _record(row: Any) -> Record:
    return Record(
        position=Position(row.cell, row.sequence, row.position),
        path=tuple(row.path.strip("/").split("/")),
        event_id=row.event_id,
        endpoint_id=row.endpoint_id,
        service=row.service,
        network_id=row.network_id,
        access_type=row.access_type,
        usage_ms=row.usage_ms,
        quantity=row.quantity,
        mode=row.mode,
        outcome=Outcome(row.outcome),
        reason=Reason(row.reason),
        refused_step=row.refused_step,
        program_id=row.program_id,
        steps=unpack(row.steps),
        decided_ms=row.decided_ms,
    )


def _group(row: Any, path: tuple[str, ...], group_by: frozenset[str], countries: Mapping[str, str]) -> tuple[Any, ...]:
    """Path down to the payer, step, currency, and the dimensions asked for."""
    payer_path = path[: len(path) - row.step + 1] if row.step else path
    network = row.network_id if "network" in group_by else ""
    country = countries.get(row.network_id, "").partition("-")[0] if "country" in group_by else ""
    return (
        payer_path,
        row.step,
        row.currency,
        row.endpoint_id if "endpoint" in group_by else "",
        network,
        country,
        (_EPOCH + timedelta(days=row.day)).date().isoformat() if "day" in group_by else "",
        row.service if "service" in group_by else 0,
    )
