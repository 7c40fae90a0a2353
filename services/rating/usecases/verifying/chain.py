"""The journal by itself: nothing damaged, nothing missing, each segment decided on the one before."""

from collections.abc import AsyncIterator

from services.rating.domain.decisions import NO_MARK, SegmentContent
from services.rating.domain.findings import Code, Report
from services.rating.domain.programs import Step, digest_of_body, steps_from_body
from services.rating.usecases.folding import PROGRAMS_MAX, ProgramSteps, path_of
from services.rating.usecases.verifying.sources import JournalSource, KeptSegment


class Chain:
    """Reads a cell's segments and says what is wrong with them.

    Args:
        journal: the journal.
        cell: the cell.
        report: where findings go.
    """

    def __init__(self, journal: JournalSource, cell: int, report: Report) -> None:
        self._journal = journal
        self._cell = cell
        self._report = report
        self._last = 0
        self._mark: bytes | None = NO_MARK
        self.epoch = 0
        """Highest epoch of its segments."""
        self.broken = False
        """Whether what follows can not be folded any more: a segment is missing or damaged."""

    async def read(self) -> AsyncIterator[list[tuple[KeptSegment, SegmentContent]]]:
        """Yield the segments that can be folded, some hundred at a time; look at the others as well."""
        while batch := await self._journal.kept(self._cell, self._last):
            sound: list[tuple[KeptSegment, SegmentContent]] = []
            for kept in batch:
                self._look(kept)
                if not self.broken:
                    sound.append((kept, self._journal.content(kept.segment)))
            if sound:
                yield sound

    def _look(self, kept: KeptSegment) -> None:
        sequence = kept.segment.sequence
        place = f"cell {self._cell} segment {sequence}"
        report = self._report
        if sequence != self._last + 1:
            missing = f"cell {self._cell} segments {self._last + 1} to {sequence - 1}"
            report.add(Code.SEGMENT_MISSING, missing, "The journal does not have them.")
            self._mark, self.broken = None, True
        if kept.epoch < self.epoch:
            report.add(Code.SEGMENT_OUT_OF_EPOCH, place, f"Epoch {kept.epoch} comes after epoch {self.epoch}.")
        self.epoch = max(self.epoch, kept.epoch)
        if not kept.sound:
            report.add(Code.SEGMENT_CORRUPT, place, "It does not match its checksum.")
            self.broken = True
        elif self._mark is not None and kept.segment.mark_before != self._mark:
            report.add(Code.SEGMENT_NOT_CHAINED, place, "It was decided on another segment than the one before it.")
        self._last = sequence
        self._mark = kept.segment.mark if kept.sound else None


class Programs:
    """The programs that segments refer to, read once.

    Args:
        journal: where they are kept.
        report: where findings go.
    """

    def __init__(self, journal: JournalSource, report: Report) -> None:
        self._journal = journal
        self._report = report
        self.known: ProgramSteps = {}
        self._missing: set[str] = set()

    async def learn(self, cell: int, sequence: int, content: SegmentContent) -> bool:
        """Read the programs of a segment; return whether all are there."""
        unknown = set(content.program_ids) - self.known.keys() - self._missing
        if len(self.known) > PROGRAMS_MAX:
            self.known.clear()
            unknown = set(content.program_ids) - self._missing
        if unknown:
            await self._read(f"cell {cell} segment {sequence}", unknown)
        return self.known.keys() >= set(content.program_ids)

    async def _read(self, place: str, unknown: set[str]) -> None:
        bodies = await self._journal.programs(unknown)
        for name in sorted(unknown):
            where = f"{place} program {name}"
            body = bodies.get(name)
            if body is None:
                self._missing.add(name)
                self._report.add(Code.PROGRAM_MISSING, where, "The segment refers to it, the journal does not have it.")
                continue
            steps = self._steps(body)
            if steps is None or digest_of_body(body) != name:
                self._report.add(Code.PROGRAM_CHANGED, where, "Its content is not what its id is the digest of.")
            if steps is None:
                self._missing.add(name)
            else:
                self.known[name] = (steps, path_of(steps))

    def _steps(self, body: str) -> tuple[Step, ...] | None:
        try:
            return steps_from_body(body)
        except (ValueError, KeyError, TypeError):
            return None
