"""`meterline archive`: moves old segments out of the journal, so that it does not grow for ever."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Protocol

from services.common.errors import FailedPreconditionError
from services.rating.domain.decisions import Segment
from services.rating.ports import Journal, Ledger
from services.rating.usecases.rebuilding import TELL_EVERY, Tell

DAYS_MIN = 7
"""Least age of what is moved. Answered ids are told out of the journal for a little more than a day."""
BATCH = 100


@dataclass(frozen=True, slots=True)
class Moved:
    """What was moved of a cell, or would be.

    Attributes:
        first: sequence of the first segment.
        last: sequence of the last one; less than `first` if there are none.
        bytes: of what they say, without what a database adds.
    """

    cell: int
    first: int
    last: int
    bytes: int


class Archive(Protocol):
    """Where segments are moved to."""

    async def keep(self, cell: int, first: int, last: int) -> None:
        """Commit copies of segments and see that they can be read again, or ARCHIVE_DIFFERS."""


class ArchivedJournal(Journal, Protocol):
    """A journal that lets go of its first segments."""

    async def archived(self, cell: int) -> int:
        """The last segment that was moved to an archive; 0 if none was."""
        ...

    async def drop(self, cell: int, upto: int) -> None:
        """Delete the segments up to a sequence, and remember that they are in an archive."""


class Archiving:
    """Moves segments that are in the books and were decided before a time, first ones first. The last one stays.

    They are committed to the archive and read back before the journal lets go of them: whoever is interrupted begins
    again where it was. Services may run on the journal meanwhile.

    Args:
        journal: from where.
        ledger: the books.
        before_ms: what was decided earlier is moved; milliseconds since 1970.
    """

    def __init__(self, journal: ArchivedJournal, ledger: Ledger, before_ms: int) -> None:
        self._journal = journal
        self._ledger = ledger
        self._before_ms = before_ms

    async def run(self, cell: int, archive: Archive | None, tell: Tell) -> Moved:
        """Move a cell's segments; without an archive, only look what would be moved.

        Raises:
            InternalError: JOURNAL_CORRUPT; those before it were moved.
            FailedPreconditionError: SEGMENT_MISSING or ARCHIVE_DIFFERS; those before it were moved.
        """
        first = await self._journal.archived(cell) + 1
        last, size = first - 1, 0
        async for batch in self._batches(cell, last):
            start, last = last, batch[-1].sequence
            if archive is not None:
                await archive.keep(cell, start + 1, last)
                await self._journal.drop(cell, last)
            size += sum(len(segment.records) + len(segment.outcomes) + len(segment.images) for segment in batch)
            if start // TELL_EVERY != last // TELL_EVERY:
                tell(f"cell {cell}: segment {last}")
        return Moved(cell, first, last, size)

    async def _batches(self, cell: int, after: int) -> AsyncIterator[Sequence[Segment]]:
        newest = await self._journal.last_sequence(cell)
        while after < (upto := min(newest - 1, (await self._ledger.cursor(cell)).sequence)):
            found = await self._journal.read(cell, after, min(BATCH, upto - after))
            batch = list(takewhile(lambda segment: segment.decided_ms < self._before_ms, found))
            if not batch:
                return
            for expected, segment in enumerate(batch, after + 1):
                if segment.sequence != expected:
                    raise FailedPreconditionError(
                        "SEGMENT_MISSING",
                        f"The journal does not have segment {expected} of cell {cell}. Restore it from a replica or "
                        "backup first.",
                    )
            yield batch
            after = batch[-1].sequence
