"""`meterline verify`: folds the journal a second time and compares, while charging may go on.

First each cell's journal up to where the books were at the start, comparing usage records and entries as it goes.
Then the books are held still, the little that was folded meanwhile is folded again, and all sums are compared. Then
Valkey is read, some keys at a time, each time with the sequence at which they stood so; the journal is followed up to
there. What must hold between balances is looked at where the journal stood when that reading began.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence

from services.common.clock import Clock
from services.rating.domain.decisions import SegmentContent
from services.rating.domain.findings import CellReport, Code, Report
from services.rating.ports import Cursor, Sheet
from services.rating.usecases.answering import answered_ids
from services.rating.usecases.cells import IDS_WINDOW_MS
from services.rating.usecases.folding import SegmentFold
from services.rating.usecases.verifying.chain import Chain, Programs
from services.rating.usecases.verifying.owed import owed_changes
from services.rating.usecases.verifying.sources import JournalSource, KeptSegment, SecondBooks, StateSource
from services.rating.usecases.verifying.state import StateComparison

JOURNALLING_SECONDS = 10.0
"""How long what is decided may take to be journalled."""
POLL_SECONDS = 0.1
NO_BODY = bytes(8)
"""Stands in place of a body's digest for what a session reported: its id answers nobody."""


class Verification:
    """Examines everything once.

    Args:
        journal: the journal.
        books: the second books beside the examined ones.
        state: opens a cell's state in Valkey.
        clock: tells the time.
    """

    def __init__(
        self, journal: JournalSource, books: SecondBooks, state: Callable[[int], StateSource], clock: Clock
    ) -> None:
        self._journal = journal
        self._books = books
        self._state = state
        self._since_ms = clock.now_ms() - IDS_WINDOW_MS
        self.report = Report()
        self._programs = Programs(journal, self.report)

    async def run(self, tell: Callable[[str], None]) -> Report:
        """Examine; `tell` gets a sentence now and then."""
        epochs = await self._journal.cells()
        self.report.cells = {cell: CellReport(cell, epoch) for cell, epoch in epochs.items()}
        walks = {cell: self._walk(cell) for cell in epochs}
        for cell, cursor in (await self._books.cursors()).items():
            if cell in walks:
                await walks[cell].go(cursor.sequence, compare=True, tell=tell)
        folded = await self._books.begin()
        for cell, cursor in folded.items():
            if cell not in walks:
                self.report.add(Code.BOOKS_AHEAD, f"cell {cell}", "The books have it, the journal does not.")
                continue
            await walks[cell].go(cursor.sequence, compare=True, tell=tell)
            self._note_folded(walks[cell].about, cursor)
        if all(self.report.cells[cell].compared == cursor.sequence for cell, cursor in folded.items() if cell in walks):
            tell("comparing sums")
            self.report.extend(await self._books.compare_sums())
        for cell, walk in walks.items():
            await self._examine_state(cell, walk, tell)
        if any(walk.chain.broken for walk in walks.values()):
            return self.report
        async for balance, entered, remaining in self._books.unequal_balances():
            said = f"Its entries add up to {entered}, its holder has {remaining}."
            self.report.add(Code.BALANCE_UNEQUAL, f"balance {balance}", said)
        return self.report

    def _note_folded(self, about: CellReport, cursor: Cursor) -> None:
        about.folded, about.compared = cursor.sequence, about.segments
        if about.segments < cursor.sequence and not any(
            code in self.report.counts for code in (Code.SEGMENT_CORRUPT, Code.SEGMENT_MISSING, Code.PROGRAM_MISSING)
        ):
            said = f"The books are at {cursor.sequence}, the journal ends at {about.segments}."
            self.report.add(Code.BOOKS_AHEAD, f"cell {about.cell}", said)

    def _walk(self, cell: int) -> "_Walk":
        return _Walk(cell, self._journal, self._books, self._programs, self._since_ms, self.report)

    async def _examine_state(self, cell: int, walk: "_Walk", tell: Callable[[str], None]) -> None:
        about = walk.about
        comparison = StateComparison(cell, self._books, self._state(cell), self.report)
        about.epoch = (await self._journal.cells()).get(cell, 0)
        await comparison.read(about)
        await walk.go(comparison.began_at, compare=False, tell=tell)
        if walk.chain.epoch > about.epoch:
            said = f"It has segments of epoch {walk.chain.epoch} and is in epoch {about.epoch}."
            self.report.add(Code.SEGMENT_OUT_OF_EPOCH, f"cell {cell}", said)
        if walk.chain.broken:
            about.state = "not compared: the journal is damaged"
            return
        tell(f"cell {cell}: balances")
        await comparison.check_balances(about)
        await walk.follow(comparison)
        await comparison.compare(about, walk.ids_from)


class _Walk:
    """Goes once through a cell's journal, as far as it is told."""

    def __init__(
        self,
        cell: int,
        journal: JournalSource,
        books: SecondBooks,
        programs: Programs,
        since_ms: int,
        report: Report,
    ) -> None:
        self._books = books
        self._programs = programs
        self._since_ms = since_ms
        self._report = report
        self._cell = cell
        self.about = report.cells[cell]
        self.chain = Chain(journal, cell, report)
        self.ids_from: int | None = None
        """First segment whose ids must be remembered."""
        self._segments = self.chain.read()
        self._ahead: list[tuple[KeptSegment, SegmentContent]] = []
        self._cursor = Cursor(0, 0)

    async def _next(self, upto: int | None) -> list[tuple[KeptSegment, SegmentContent]]:
        """The next segments up to a sequence, or all that there are."""
        if not self._ahead:
            self._ahead = await anext(self._segments, [])
        if not self._ahead:
            self._segments = self.chain.read()  # there may be more later
        count = len(self._ahead)
        if upto is not None:
            count = sum(kept.segment.sequence <= upto for kept, _ in self._ahead)
        taken, self._ahead = self._ahead[:count], self._ahead[count:]
        return taken

    async def go(self, upto: int | None, *, compare: bool, tell: Callable[[str], None]) -> None:
        """Fold again up to a sequence, or all; compare rows with the books."""
        while (upto is None or self._cursor.sequence < upto) and (some := await self._next(upto)):
            sheet, owed = Sheet(), Counter[str]()
            for kept, content in some:
                if not await self._programs.learn(self._cell, kept.segment.sequence, content):
                    self.chain.broken = True
                    return
                SegmentFold(self._cell, kept.segment, self._programs.known, sheet).add(content)
                for holder_id, change in owed_changes(content, self._programs.known):
                    owed[holder_id] += change
            await self._note_answers(some)
            last = some[-1][0].segment
            await self._books.post(self._cell, self._cursor, last, sheet)
            await self._books.add_owed(self._cell, [(holder_id, sum_, 0) for holder_id, sum_ in owed.items()])
            if compare:
                found = await self._books.compare_rows(self._cell, self._cursor.sequence, last.sequence)
                self._report.extend(found)
            self._cursor = Cursor(last.sequence, last.decided_ms)
            self.about.segments = last.sequence
            self.about.records += len(sheet.usage)
            if last.sequence % 10_000 < len(some):
                tell(f"cell {self._cell}: segment {last.sequence}")

    async def _note_answers(self, some: Sequence[tuple[KeptSegment, SegmentContent]]) -> None:
        recent = [(kept, content) for kept, content in some if kept.segment.decided_ms >= self._since_ms]
        if recent and self.ids_from is None:
            self.ids_from = recent[0][0].segment.sequence
        ids = (each for kept, content in recent for each in answered_ids(kept.segment, content))
        remembered = {
            each.id_digest: (
                each.body_digest + f"{each.sequence}:{each.operation + 1}".encode(),
                int(each.body_digest != NO_BODY),
            )
            for each in ids
        }
        await self._books.note_answers(self._cell, remembered)

    async def follow(self, comparison: StateComparison) -> None:
        """Take in what was decided while Valkey was read, when it is journalled; no more is folded."""
        patience = JOURNALLING_SECONDS
        while self.about.segments < comparison.ended_at and patience > 0 and not self.chain.broken:
            some = await self._next(None)
            await self._note_answers(some)
            for kept, content in some:
                await comparison.follow(kept.segment.sequence, content.images)
                self.about.segments = kept.segment.sequence
            if not some:
                patience -= POLL_SECONDS
                await asyncio.sleep(POLL_SECONDS)
