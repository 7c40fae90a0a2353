"""`meterline rebuild`: makes anew what is made from the journal: a cell's state in Valkey, or the books.

Both look first whether the journal is whole as far as it is needed: nothing is thrown away that cannot be made again.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from services.common.clock import Clock
from services.common.errors import AbortedError, FailedPreconditionError
from services.rating.domain.decisions import NO_MARK
from services.rating.domain.programs import digest_of_body
from services.rating.ports import Engine, Journal, Ledger
from services.rating.usecases.cells import Opening
from services.rating.usecases.folding import PROGRAMS_MAX, Folder

OVERTAKEN_SECONDS = 1.0
"""How long to leave the books to a fold that is at work before looking again."""
TELL_EVERY = 10_000
"""Segments after which progress is told."""

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class RebuiltState:
    """What a rebuild of a cell's state loaded, or would load.

    Attributes:
        epoch: epoch that begins with it.
        images: holders, leases, refunds and sessions: those of the books, and what each replayed segment changed.
        ids: answered ids; None before it is done.
        segments: segments of the journal that are replayed.
    """

    cell: int
    epoch: int
    images: int
    ids: int | None
    segments: int


@dataclass(frozen=True, slots=True)
class RebuiltBooks:
    """What a rebuild of the books folded, or would fold.

    Attributes:
        segments: segments of each cell.
        rows: rows of each table; before it is done, those that will be deleted.
    """

    segments: Mapping[int, int]
    rows: Mapping[str, int]


class FoldedTables(Protocol):
    """The tables that the fold writes."""

    async def images(self, cell: int) -> int:
        """How many images there are of a cell."""
        ...

    async def rows(self) -> dict[str, int]:
        """How many folded rows each table has."""
        ...

    async def empty(self, cells: Sequence[int]) -> None:
        """Delete all folded rows and set the cursors back to the beginning, in one transaction."""


class StateRebuild:
    """Rebuilds the state of cells, while charging may go on: who decides meanwhile is told to try again.

    Args:
        engine: opens a cell of Valkey.
        journal: the truth.
        ledger: the books.
        tables: their tables.
        clock: tells the time.
        from_journal: the books are not trusted; all segments are replayed.
    """

    def __init__(
        self,
        engine: Callable[[int], Engine],
        journal: Journal,
        ledger: Ledger,
        tables: FoldedTables,
        clock: Clock,
        *,
        from_journal: bool,
    ) -> None:
        self._engine = engine
        self._journal = journal
        self._ledger = ledger
        self._tables = tables
        self._clock = clock
        self._from_journal = from_journal

    async def plan(self, cell: int, tell: Tell) -> RebuiltState:
        """What would be loaded.

        Raises:
            InternalError: JOURNAL_CORRUPT.
            FailedPreconditionError: SEGMENT_MISSING, BOOKS_AHEAD.
        """
        after = 0 if self._from_journal else await _require_not_ahead(self._journal, self._ledger, cell)
        last = await _last_of_whole(self._journal, cell, after, tell)
        images = 0 if self._from_journal else await self._tables.images(cell)
        return RebuiltState(cell, await self._journal.epoch(cell) + 1, images, None, last - after)

    async def run(self, cell: int, tell: Tell) -> RebuiltState:
        """Rebuild a cell.

        Raises:
            UnavailableError: Valkey does not answer, or somebody else rebuilds the cell.
            InternalError: JOURNAL_CORRUPT.
            FailedPreconditionError: SEGMENT_MISSING, BOOKS_AHEAD; the state stays as it is, as with JOURNAL_CORRUPT.
        """
        await self.plan(cell, tell)
        engine = self._engine(cell)
        await engine.install()
        opening = Opening(engine, self._journal, self._ledger, self._clock)
        tell(f"cell {cell}: rebuilding")
        epoch, *_ = await opening.rebuild(await self._journal.epoch(cell), from_journal=self._from_journal)
        return RebuiltState(cell, epoch, opening.images, opening.ids, opening.segments)


class BooksRebuild:
    """Folds the books anew, from the first segment of each cell on, while charging and folding may go on.

    The cursors go back in the transaction that deletes the rows, and a fold posts nothing if its cursor was moved: a
    fold that is at work does the same work, whoever is first. Totals and balances are sums over all cells, so the books
    are folded anew as a whole.

    Args:
        journal: the truth.
        ledger: the books.
        tables: their tables.
        cells: numbers of all cells.
    """

    def __init__(self, journal: Journal, ledger: Ledger, tables: FoldedTables, cells: Sequence[int]) -> None:
        self._journal = journal
        self._ledger = ledger
        self._tables = tables
        self._cells = cells

    async def plan(self, tell: Tell) -> RebuiltBooks:
        """What would be deleted and folded.

        Raises:
            InternalError: JOURNAL_CORRUPT.
            FailedPreconditionError: SEGMENT_MISSING, PROGRAM_MISSING, PROGRAM_CHANGED, BOOKS_AHEAD.
        """
        segments, programs = {}, Programs(self._journal)
        for cell in self._cells:
            await _require_not_ahead(self._journal, self._ledger, cell)
            segments[cell] = await _last_of_whole(self._journal, cell, 0, tell, programs)
        return RebuiltBooks(segments, await self._tables.rows())

    async def run(self, tell: Tell) -> RebuiltBooks:
        """Fold anew all that is journalled now.

        Raises:
            InternalError: JOURNAL_CORRUPT.
            FailedPreconditionError: SEGMENT_MISSING, PROGRAM_MISSING, PROGRAM_CHANGED, BOOKS_AHEAD; the books stay as
                they are, as with JOURNAL_CORRUPT.
        """
        planned = await self.plan(tell)
        await self._tables.empty(self._cells)
        folder = Folder(self._journal, self._ledger, self._cells)
        for cell, last in planned.segments.items():
            async for sequence in self._fold(folder, cell, last):
                tell(f"cell {cell}: folded to segment {sequence} of {last}")
        return RebuiltBooks(planned.segments, await self._tables.rows())

    async def _fold(self, folder: Folder, cell: int, last: int) -> AsyncIterator[int]:
        """Fold a cell up to a sequence, or wait until somebody else did; yield how far it is now and then."""
        told = 0
        while (sequence := (await self._ledger.cursor(cell)).sequence) < last:
            if sequence >= told + TELL_EVERY:
                told = sequence
                yield sequence
            with suppress(AbortedError):
                if await folder.fold_some(cell):
                    continue
            await asyncio.sleep(OVERTAKEN_SECONDS)


class Programs:
    """Sees to it that programs are there and what their ids are digests of.

    Args:
        journal: where they are kept.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._sound: set[str] = set()

    async def require(self, names: set[str]) -> None:
        """Raise FAILED_PRECONDITION if one is missing or changed."""
        unknown = names - self._sound
        if not unknown:
            return
        if len(self._sound) > PROGRAMS_MAX:
            self._sound.clear()
        bodies = await self._journal.programs(unknown)
        for name in sorted(unknown):
            if name not in bodies:
                raise _damaged("PROGRAM_MISSING", f"The journal does not have program {name}")
            if digest_of_body(bodies[name]) != name:
                raise _damaged("PROGRAM_CHANGED", f"Program {name} of the journal is not what its id is the digest of")
        self._sound |= unknown


async def _last_of_whole(journal: Journal, cell: int, after: int, tell: Tell, programs: Programs | None = None) -> int:
    """The last segment of a journal that is whole after a sequence; with programs, if all can be folded."""
    last, mark = after, None if after else NO_MARK
    async for segment in journal.read_all(cell, after):
        if segment.sequence != last + 1:
            missing = f"The journal does not have segments {last + 1} to {segment.sequence - 1} of cell {cell}"
            raise _damaged("SEGMENT_MISSING", missing)
        if mark is not None and segment.mark_before != mark:
            raise _damaged("SEGMENT_NOT_CHAINED", f"Segment {segment.sequence} of cell {cell} does not follow the last")
        last, mark = segment.sequence, segment.mark
        if programs is not None:
            await programs.require(set(journal.content(segment).program_ids))
        if last % TELL_EVERY == 0:
            tell(f"cell {cell}: segment {last} is sound")
    return last


async def _require_not_ahead(journal: Journal, ledger: Ledger, cell: int) -> int:
    """How far the books are, if the journal is as far."""
    folded, last = (await ledger.cursor(cell)).sequence, await journal.last_sequence(cell)
    if folded > last:
        ahead = f"The books of cell {cell} are at segment {folded}, the journal ends at segment {last}"
        raise _damaged("BOOKS_AHEAD", ahead)
    return folded


def _damaged(reason: str, message: str) -> FailedPreconditionError:
    return FailedPreconditionError(
        reason, f"{message}. Nothing was changed. Restore the journal from a replica or backup first."
    )
