"""Central rows of escrow: what of a limit is free, and what was ever leased to which cell."""

from collections.abc import Mapping

import sqlalchemy as sa
from prometheus_client import Counter

from services.rating.domain.escrow import Central, Kind, Limit, Slice, Wish
from services.rating.storage.tables import escrow_leases, escrows
from services.runtime.database import Database

WRITES = Counter("meterline_escrow_writes", "Transactions that changed central rows of limits that cells share.")


class Escrows:
    """Reads and writes central rows.

    Args:
        database: the ledger's.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def move(
        self,
        account_id: str,
        kind: Kind,
        limit: Limit,
        slices: Mapping[int, Slice],
        wish: Wish | None = None,
        *,
        create: bool = False,
    ) -> Central | None:
        """Take in what is newly known of limit and slices, and lease what is wished for, in one transaction.

        Args:
            account_id: the account.
            kind: money or credit.
            limit: takes effect if it is newer than the row's.
            slices: durable totals of cells; what is behind the row's changes nothing.
            wish: what a cell wants.
            create: make the row if there is none; `slices` then tells of every cell.

        Returns:
            The row as it is now; None if there is none.
        """
        return await self._database.write(
            lambda connection: self._move(connection, (account_id, int(kind)), limit, slices, wish, create=create)
        )

    async def free(self, account_id: str, kind: Kind) -> int:
        """What of an account's money or credit is in no slice, micros; 0 if nothing was ever shared out."""
        query = sa.select(escrows.c.free).where(escrows.c.account_id == account_id, escrows.c.kind == int(kind))
        async with self._database.reading() as connection:
            return await connection.scalar(query) or 0

    def _move(
        self,
        connection: sa.Connection,
        key: tuple[str, int],
        limit: Limit,
        slices: Mapping[int, Slice],
        wish: Wish | None,
        *,
        create: bool,
    ) -> Central | None:
        account_id, kind = key
        here = sa.and_(escrows.c.account_id == account_id, escrows.c.kind == kind)
        if create:
            values = {"account_id": account_id, "kind": kind, "limit_total": 0, "limit_version": -1, "free": 0}
            connection.execute(self._database.insert(escrows).values(values).on_conflict_do_nothing())
        query = sa.select(escrows.c.free, escrows.c.limit_total, escrows.c.limit_version).where(here)
        row = connection.execute(query if self._database.is_sqlite else query.with_for_update()).one_or_none()
        if row is None:
            return None
        free = row.free
        if limit.version > row.limit_version:
            free += limit.micros - row.limit_total
            changed = {"limit_total": limit.micros, "limit_version": limit.version}
            connection.execute(sa.update(escrows).where(here).values(changed))
        leases = self._leases(connection, account_id, kind)
        known = dict(leases)
        for cell, told in slices.items():
            before = leases.get(cell, Slice(0, 0))
            after = Slice(max(before.leased, told.leased), max(before.returned, told.returned))
            free += (after.returned - before.returned) - (after.leased - before.leased)
            leases[cell] = after
        if free != row.free:
            connection.execute(sa.update(escrows).where(here).values(free=free))
        granted = wish.granted(free) if wish is not None else 0
        if wish is not None and granted:
            taken = connection.execute(
                sa.update(escrows).where(here, escrows.c.free >= granted).values(free=escrows.c.free - granted)
            )
            if taken.rowcount == 1:
                before = leases.get(wish.cell, Slice(0, 0))
                leases[wish.cell] = Slice(before.leased + granted, before.returned)
                free -= granted
            else:
                granted = 0  # the row is locked: never, and if ever, nothing is leased that is not there
        self._keep(connection, key, {cell: one for cell, one in leases.items() if known.get(cell) != one})
        if leases != known or limit.version > row.limit_version:
            WRITES.inc()
        return Central(free, leases, granted)

    def _leases(self, connection: sa.Connection, account_id: str, kind: int) -> dict[int, Slice]:
        columns = escrow_leases.c
        query = sa.select(columns.cell, columns.leased, columns.returned).where(
            columns.account_id == account_id, columns.kind == kind
        )
        return {cell: Slice(leased, returned) for cell, leased, returned in connection.execute(query)}

    def _keep(self, connection: sa.Connection, key: tuple[str, int], leases: Mapping[int, Slice]) -> None:
        if not leases:
            return
        account_id, kind = key
        rows = [
            {"account_id": account_id, "kind": kind, "cell": cell, "leased": one.leased, "returned": one.returned}
            for cell, one in leases.items()
        ]
        insert = self._database.insert(escrow_leases)
        totals = {name: insert.excluded[name] for name in ("leased", "returned")}
        connection.execute(
            insert.on_conflict_do_update(index_elements=["account_id", "kind", "cell"], set_=totals), rows
        )
