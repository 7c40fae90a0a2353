"""The journal as it lies there, sound or not."""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from services.rating.domain.decisions import Segment, SegmentContent
from services.rating.storage.journal import Journal, checksum
from services.rating.storage.tables import cells, segments
from services.rating.usecases.verifying.sources import KeptSegment

SEGMENTS_READ = 100


class JournalInspection:
    """Reads the journal without judging it.

    Args:
        journal: the journal.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._database = journal.database

    async def cells(self) -> dict[int, int]:
        """Epoch by cell."""
        async with self._database.reading() as connection:
            kept = dict((await connection.execute(sa.select(cells.c.cell, cells.c.epoch))).all())
            used = await connection.scalars(sa.select(segments.c.cell).distinct())
            return {cell: kept.get(cell, 0) for cell in sorted({*kept, *used})}

    async def kept(self, cell: int, after: int) -> list[KeptSegment]:
        """The next segments after a sequence."""
        return [_kept(row) for row in await self._journal.rows(cell, after, SEGMENTS_READ)]

    async def programs(self, ids: Iterable[str]) -> dict[str, str]:
        """Bodies of programs."""
        return await self._journal.programs(ids)

    def content(self, segment: Segment) -> SegmentContent:
        """What a segment says."""
        return self._journal.content(segment)


def _kept(row: Any) -> KeptSegment:
    segment = Segment(row.sequence, row.decided_ms, row.records, row.outcomes, row.images)
    return KeptSegment(segment, row.epoch, checksum(segment) == row.checksum)
