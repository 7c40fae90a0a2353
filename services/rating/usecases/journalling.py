"""Commits decided segments in order, many at a time, and says when each is durable."""

import asyncio
import math
from collections.abc import Awaitable, Callable

import structlog
from prometheus_client import Gauge, Histogram

from services.common.errors import MeterlineError
from services.rating.domain.decisions import JournalAwayError, Segment, StateLostError, closed
from services.rating.ports import Engine, Journal

COMMIT_SEGMENTS_MAX = 64
GAP_SECONDS = 0.02
"""How long a missing predecessor may be on its way before it is taken from the stream."""
RETRY_SECONDS = 0.1
WINDOW_SEGMENTS_MAX = 512
"""Decided but not yet durable segments at which deciding stops."""
STUCK_SECONDS = 3.0
"""How long a commit may take, with all that is tried again, before those who wait are told that it does not go on."""
MARKS_MAX = 4096
"""Marks of durable segments that are remembered; others are read from the journal."""

log = structlog.get_logger(part="journal")
COMMITTING = Histogram(
    "meterline_journal_commit_seconds",
    "Time of one commit to the journal.",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5),
)
UNDURABLE = Gauge("meterline_journal_waiting_segments", "Segments that are decided and not yet durable.")


class Journaller:
    """The one writer of a cell's segments in this process, for one epoch.

    A segment is durable only when all before it are: a later one may hold the effects of an earlier one whose
    decider died. What is missing is taken from the cell's stream.
    """

    def __init__(
        self, journal: Journal, engine: Engine, epoch: int, last: int, mark: bytes, on_broken: Callable[[], None]
    ) -> None:
        self._journal = journal
        self._engine = engine
        self.epoch = epoch
        self._waiting: dict[int, Segment] = {}
        self._durable: list[tuple[int, bytes | None, asyncio.Future[None]]] = []
        self._marks = {last: mark}
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._on_broken = on_broken
        self._stuck_at = math.inf
        """When, by the loop's clock, the commit under way has taken too long."""
        self._trouble = "It does not answer; see that its database runs."
        self.broken: MeterlineError | None = None
        self.last = last
        """Sequence up to which everything is durable."""

    async def room(self) -> None:
        """Wait until the window of undurable work has room.

        Raises:
            JournalAwayError: nothing becomes durable any more.
        """
        if asyncio.get_running_loop().time() > self._stuck_at:
            raise self._stuck()
        if not self._room.is_set():
            await self._within_patience(self._room.wait())
        if self.broken:
            raise self.broken

    def add(self, segment: Segment) -> None:
        """Hand over a decided segment."""
        if segment.sequence > self.last:
            if self._waiting.setdefault(segment.sequence, segment).mark != segment.mark:
                self.end(_lost("the balance store gave a number twice"))
            if len(self._waiting) >= WINDOW_SEGMENTS_MAX:
                self._room.clear()
            self._wake.set()

    def expect(self, sequence: int) -> None:
        """See to it that everything up to a sequence becomes durable, though nobody waits for it."""
        if sequence > self.last:
            self._await(sequence, None).add_done_callback(lambda done: done.cancelled() or done.exception())

    async def durable(self, sequence: int, mark: bytes) -> None:
        """Wait until everything up to a segment is durable.

        Raises:
            CellClosedError: it never will be in this epoch; the decisions do not count.
            JournalAwayError: it is not yet.
        """
        if self.broken:
            raise self.broken
        if sequence > self.last or self._marks.get(sequence) != mark:
            await self._within_patience(self._await(sequence, mark))

    async def _within_patience(self, waiting: Awaitable[object]) -> None:
        try:
            async with asyncio.timeout(STUCK_SECONDS):
                await waiting
        except TimeoutError:
            raise self._stuck() from None

    def _stuck(self) -> JournalAwayError:
        return JournalAwayError(
            "JOURNAL_UNAVAILABLE",
            f"The journal cannot be written, so no charge is certain. {self._trouble} "
            "Then repeat with the same ids: what was charged is answered, not charged again.",
            retry_after_ms=1000,
        )

    def _await(self, sequence: int, mark: bytes | None) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._durable.append((sequence, mark, future))
        self._wake.set()
        return future

    async def run(self) -> None:
        """Commit until cancelled or broken."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting or self._durable:
                    await self._commit_once()
        except MeterlineError as error:
            self.end(error)
        except Exception:
            log.exception("journaller failed")
            self.end(closed("the journaller failed; the fault is logged"))

    def end(self, error: MeterlineError) -> None:
        """Tell everybody who waits that it ended; what is not durable by now does not count."""
        self.broken = self.broken or error
        self._room.set()
        for _, _, future in self._durable:
            if not future.done():
                future.set_exception(error)
        self._durable.clear()
        self._on_broken()

    async def _commit_once(self) -> None:
        if self.broken:
            raise self.broken
        await self._tell()
        first = self.last + 1
        if first not in self._waiting and (self._waiting or self._durable):
            await self._fill_gap(first)
        ready = await self._ready()
        if not ready:
            return
        self._stuck_at = min(self._stuck_at, asyncio.get_running_loop().time() + STUCK_SECONDS)
        try:
            with COMMITTING.time():
                await self._journal.append(self._engine.cell, self.epoch, ready)
        except MeterlineError as error:
            if error.reason != "DATABASE_UNAVAILABLE":
                raise
            self._trouble = error.message
            log.warning("journal away", waiting=len(self._waiting))
            await asyncio.sleep(RETRY_SECONDS)
            return
        self._stuck_at = math.inf
        for segment in ready:
            self._waiting.pop(segment.sequence, None)
            self._keep_mark(segment.sequence, segment.mark)
        self.last = ready[-1].sequence
        UNDURABLE.set(len(self._waiting))
        if len(self._waiting) < WINDOW_SEGMENTS_MAX:
            self._room.set()
        await self._tell()

    async def _ready(self) -> list[Segment]:
        """The segments that come next, each decided on the state that the one before left."""
        ready: list[Segment] = []
        while len(ready) < COMMIT_SEGMENTS_MAX and (segment := self._waiting.get(self.last + 1 + len(ready))):
            before = ready[-1].mark if ready else await self._mark(self.last)
            if segment.mark_before != before:
                raise _lost("the balance store holds old data")
            ready.append(segment)
        return ready

    async def _fill_gap(self, first: int) -> None:
        await asyncio.sleep(GAP_SECONDS)
        if first in self._waiting:
            return
        last = max([first, *self._waiting, *(sequence for sequence, _, _ in self._durable)])
        for segment in await self._engine.segments(first, last):
            self._waiting.setdefault(segment.sequence, segment)
        if first not in self._waiting:
            journalled = await self._journal.last_sequence(self._engine.cell)
            if journalled < first:
                raise _lost("a decided segment was lost with the balance store")
            self.last = min([journalled, *(sequence - 1 for sequence in self._waiting)])

    async def _tell(self) -> None:
        """Tell those whose segments are durable."""
        for sequence, mark, future in [each for each in self._durable if each[0] <= self.last]:
            if mark is not None and await self._mark(sequence) != mark:
                raise _lost("the balance store holds old data")
            if not future.done():
                future.set_result(None)
        self._durable = [each for each in self._durable if not each[2].done()]

    async def _mark(self, sequence: int) -> bytes:
        """The mark of a segment of the journal."""
        if sequence not in self._marks:
            found = await self._journal.get(self._engine.cell, [sequence])
            self._keep_mark(sequence, found[sequence].mark)
        return self._marks[sequence]

    def _keep_mark(self, sequence: int, mark: bytes) -> None:
        if len(self._marks) >= MARKS_MAX:
            self._marks.pop(next(iter(self._marks)))
        self._marks[sequence] = mark


def _lost(why: str) -> MeterlineError:
    return closed(why, StateLostError)
