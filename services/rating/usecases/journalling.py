"""Commits decided segments in order, many at a time, and says when each is durable."""

import asyncio
from collections.abc import Callable

import structlog
from prometheus_client import Gauge, Histogram

from services.common.errors import MeterlineError
from services.rating.domain.decisions import Segment, StateLostError, closed
from services.rating.ports import Engine, Journal

COMMIT_SEGMENTS_MAX = 64
GAP_SECONDS = 0.02
"""How long a missing predecessor may be on its way before it is taken from the stream."""
RETRY_SECONDS = 0.1
WINDOW_SEGMENTS_MAX = 512
"""Decided but not yet durable segments at which deciding stops."""

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

    def __init__(self, journal: Journal, engine: Engine, epoch: int, last: int, on_broken: Callable[[], None]) -> None:
        self._journal = journal
        self._engine = engine
        self._epoch = epoch
        self._waiting: dict[int, Segment] = {}
        self._durable: list[tuple[int, asyncio.Future[None]]] = []
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._on_broken = on_broken
        self.broken: MeterlineError | None = None
        self.last = last
        """Sequence up to which everything is durable."""

    async def room(self) -> None:
        """Wait until the window of undurable work has room."""
        await self._room.wait()
        if self.broken:
            raise self.broken

    def add(self, segment: Segment) -> None:
        """Hand over a decided segment."""
        if segment.sequence > self.last:
            self._waiting[segment.sequence] = segment
            if len(self._waiting) >= WINDOW_SEGMENTS_MAX:
                self._room.clear()
            self._wake.set()

    def expect(self, sequence: int) -> None:
        """See to it that everything up to a sequence becomes durable, though nobody waits for it."""
        if sequence > self.last:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._durable.append((sequence, future))
            self._wake.set()

    async def durable(self, sequence: int) -> None:
        """Wait until everything up to a sequence is durable.

        Raises:
            CellClosedError: it never will be in this epoch; the decisions do not count.
        """
        if self.broken:
            raise self.broken
        if sequence <= self.last:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._durable.append((sequence, future))
        self._wake.set()
        await future

    async def run(self) -> None:
        """Commit until cancelled or broken."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting or self._durable:
                    await self._commit_once()
        except MeterlineError as error:
            self._break(error)
        except Exception:
            log.exception("journaller failed")
            self._break(closed("the journaller failed; the fault is logged"))

    def _break(self, error: MeterlineError) -> None:
        self.broken = error
        self._room.set()
        for _, future in self._durable:
            if not future.done():
                future.set_exception(error)
        self._durable.clear()
        self._on_broken()

    async def _commit_once(self) -> None:
        first = self.last + 1
        if first not in self._waiting:
            await self._fill_gap(first)
        ready: list[Segment] = []
        while len(ready) < COMMIT_SEGMENTS_MAX and (segment := self._waiting.get(self.last + 1 + len(ready))):
            ready.append(segment)
        if not ready:
            return
        try:
            with COMMITTING.time():
                await self._journal.append(self._engine.cell, self._epoch, ready)
        except MeterlineError as error:
            if error.reason != "DATABASE_UNAVAILABLE":
                raise
            log.warning("journal away", waiting=len(self._waiting))
            await asyncio.sleep(RETRY_SECONDS)
            return
        for segment in ready:
            self._waiting.pop(segment.sequence, None)
        self.last = ready[-1].sequence
        UNDURABLE.set(len(self._waiting))
        if len(self._waiting) < WINDOW_SEGMENTS_MAX:
            self._room.set()
        self._tell()

    async def _fill_gap(self, first: int) -> None:
        await asyncio.sleep(GAP_SECONDS)
        if first in self._waiting:
            return
        last = max([first, *self._waiting, *(sequence for sequence, _ in self._durable)])
        for segment in await self._engine.segments(first, last):
            self._waiting.setdefault(segment.sequence, segment)
        if first not in self._waiting:
            journalled = await self._journal.last_sequence(self._engine.cell)
            if journalled < first:
                raise closed("a decided segment was lost with the balance store", StateLostError)
            self.last = journalled
            for sequence in [number for number in self._waiting if number <= journalled]:
                del self._waiting[sequence]
            self._tell()

    def _tell(self) -> None:
        still = []
        for sequence, future in self._durable:
            if sequence > self.last:
                still.append((sequence, future))
            elif not future.done():
                future.set_result(None)
        self._durable = still
