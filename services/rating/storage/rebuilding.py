"""The tables of the ledger that the fold writes, as a rebuild counts and empties them."""

from collections.abc import Sequence

import sqlalchemy as sa

from services.rating.storage.scratch import FOLDED, folded_rows
from services.rating.storage.tables import cursors, images
from services.runtime.database import Database


class FoldedTables:
    """Counts and empties. Leases, the numbers of account paths, and rows that others wrote stay.

    Args:
        database: the ledger's.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def images(self, cell: int) -> int:
        """How many images there are of a cell."""
        query = sa.select(sa.func.count()).select_from(images).where(images.c.cell == cell)
        async with self._database.reading() as connection:
            return await connection.scalar(query) or 0

    async def rows(self) -> dict[str, int]:
        """How many folded rows each table has."""
        async with self._database.reading() as connection:
            return {
                table.name: await connection.scalar(
                    sa.select(sa.func.count()).select_from(table).where(*folded_rows(table))
                )
                or 0
                for table in FOLDED
            }

    async def empty(self, cells: Sequence[int]) -> None:
        """Delete all folded rows and set the cursors back to the beginning, in one transaction.

        The cursors first: a fold that is at work is waited for, and one that comes later waits.
        """
        back = {"sequence": 0, "decided_ms": 0}
        insert = self._database.insert(cursors).on_conflict_do_update(index_elements=["cell"], set_=back)
        async with self._database.transaction() as connection:
            await connection.execute(insert, [{"cell": cell, **back} for cell in sorted(cells)])
            for table in FOLDED:
                await connection.execute(sa.delete(table).where(*folded_rows(table)))
