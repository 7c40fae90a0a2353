"""A cell: decides operations in batches, journals each before it answers, and rebuilds itself from the journal."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import TypeVar

import structlog
from prometheus_client import Counter, Histogram

from services.common.clock import DAY_MS, HOUR_MS, Clock
from services.common.errors import (
    FailedPreconditionError,
    InternalError,
    MeterlineError,
    ResourceExhaustedError,
    UnavailableError,
)
from services.rating.domain.decisions import (
    NO_MARK,
    CellClosedError,
    ChargeOp,
    Decided,
    JournalAwayError,
    Op,
    Outcome,
    Purpose,
    SessionOp,
    StateLostError,
    closed,
)
from services.rating.ports import AnsweredId, Engine, Journal, Ledger
from services.rating.usecases.answering import answered_ids
from services.rating.usecases.holders import Holders
from services.rating.usecases.journalling import Journaller

OPS_MAX = 200
"""Operations that are put together for one call."""
GATHER_OPS = 32
"""Operations below which a call waits for the commit before it: a call and a commit cost about as much for one as for
thirty. More of them at once would all be answered and come again together, while nobody decides."""
GATHER_SECONDS = 0.02
"""How long after the beginning of a call the next such one waits at most for callers to come again."""
GATHER_AGAIN = 0.9
"""The part of the callers before for which it waits; below 1, so that it does not wait for those who went away."""
GATHER_CALLERS = 8
"""Callers from which a call also waits for as long as more of them come, up to GATHER_OPS."""
GATHER_TURNS = 60
"""Turns of the event loop without anybody new after which no more are coming."""
CALLS_MAX = 3
"""Calls under way at once: one decides while others are made up and read."""
QUEUE_OPS_MAX = 50_000
"""Operations that wait; more are turned away."""
PREVIEWS_MAX = 16
"""Calls under way at once that only say what would be decided."""
TRIES_MAX = 8
RETRY_SECONDS = 0.25
MENDED_MS = 10_000
"""After how long to ask again where people have to mend something first."""
IDS_WINDOW_MS = DAY_MS
"""Events used longer ago than this are looked up in the books before they are decided."""
IDS_TTL_MS = IDS_WINDOW_MS + 2 * HOUR_MS
REPLAY_MAX = 10_000
"""Images and ids of the journal that a rebuild has in memory at once."""
REPLAY_MS = 5_000
"""After so long they are written even if they are few: a rebuild that writes nothing for 15 s is taken to be dead."""

T = TypeVar("T")
log = structlog.get_logger(part="cell")
DECIDING = Histogram(
    "meterline_decide_seconds",
    "Time of one call that decides a batch.",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5),
)
OPERATIONS = Histogram(
    "meterline_decide_operations", "Operations in a call.", buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
)
REBUILDS = Counter("meterline_cell_rebuilds", "Times that a cell was rebuilt from the journal.")


@dataclass(frozen=True, slots=True)
class Answered:
    """Durable outcomes of operations that were decided together.

    Attributes:
        sequence: the segment that they stand in.
        first: position of the first of them in it, from 0.
        outcomes: one for each operation.
    """

    sequence: int
    first: int
    outcomes: Sequence[Outcome]


@dataclass(slots=True)
class _Work:
    ops: Sequence[Op]
    expected: Mapping[str, int]
    answer: asyncio.Future[Answered]
    tries: int = field(default=0)
    is_alone: bool = field(default=False)
    """Whether it is decided by itself: with others, something unforeseen happened."""


class Cell:
    """One cell, as one process works with it.

    Args:
        engine: the Function and keys.
        journal: the truth.
        ledger: the books, from which a rebuild begins.
        clock: tells the time.
        cells: how many cells the installation has.
    """

    def __init__(self, engine: Engine, journal: Journal, ledger: Ledger, clock: Clock, cells: int = 1) -> None:
        self.engine = engine
        self._journal = journal
        self._ledger = ledger
        self._clock = clock
        self._queue: deque[_Work] = deque()
        self._queued_ops = 0
        self._enough = 0
        self._last_callers = 0
        self._last_began = 0.0
        self._wake = asyncio.Event()
        self._journaller: Journaller | None = None
        self._committing: asyncio.Task[None] | None = None
        self._adopt = True
        self._least = 0
        self._deciding: dict[asyncio.Task[None], None] = {}  # in the order in which they began
        self._finishing: dict[asyncio.Task[None], None] = {}
        self._opening_task: asyncio.Task[Journaller] | None = None
        self._trouble: MeterlineError | None = None
        self.holders = Holders(clock, engine.cell, cells)
        """What this process configured in it; forgotten when the cell opens anew."""
        self._previewing = asyncio.Semaphore(PREVIEWS_MAX)

    @property
    def is_open(self) -> bool:
        """Whether it can decide."""
        return self._journaller is not None and self._journaller.broken is None

    async def submit(self, ops: Sequence[Op], expected: Mapping[str, int]) -> Answered:
        """Decide operations; return when the outcomes are durable.

        Args:
            ops: decided together, in order.
            expected: version of the configuration of each holder that they touch.

        Raises:
            ResourceExhaustedError: QUEUE_FULL; nothing happened.
            UnavailableError: stores are away; whether it happened is not known. Repeat with the same ids.
        """
        try:
            self._require_room(len(ops))
            work = _Work(ops, expected, asyncio.get_running_loop().create_future())
            self._enqueue(work)
            return await work.answer
        except BaseException:
            self.holders.untold(ops)
            raise

    async def submit_surely(self, ops: Sequence[Op], expected: Mapping[str, int]) -> Answered:
        """Decide as `submit` does, on a state that holds all that was journalled before.

        A Valkey that came back with old data is otherwise not found out before something changes on it: what fails
        there leaves no trace, and may have failed for want of what is lost.
        """
        self._least = max(self._least, await self._journal.last_sequence(self.engine.cell))
        return await self.submit(ops, expected)

    async def read(self, look: Callable[[Engine], Awaitable[T]]) -> T:
        """Read from a state that holds all that was journalled before.

        A Valkey that came back with old data, or empty, is otherwise not found out before something changes on it. Its
        position is read last: all may have been lost just before.

        Raises:
            UnavailableError: stores are away, or the cell is being rebuilt.
        """
        for _ in range(TRIES_MAX):
            journaller = await self.open()
            last = await self._journal.last_sequence(self.engine.cell)
            found = await look(self.engine)
            epoch, sequence = await self.engine.position() or (0, 0)
            if epoch == journaller.epoch and sequence >= last:
                return found
            if journaller is self._journaller:
                await self._heed(closed("its state is not the journal's"))
        raise closed("its state is lost again and again")

    async def preview(
        self, ops: Sequence[Op], expected: Mapping[str, int], purpose: Purpose = Purpose.DRY_RUN
    ) -> Answered:
        """Say what would become of operations if they were decided now; nothing changes, and no id is remembered.

        Args:
            ops: later ones see what the earlier ones would do.
            expected: version of the configuration of each holder that they touch.
            purpose: DRY_RUN or ENQUIRY.

        Raises:
            UnavailableError: stores are away.
        """
        failure: UnavailableError | None = None
        async with self._previewing:
            for _ in range(TRIES_MAX):
                try:
                    journaller = await self.open()
                    least = await self._journal.last_sequence(self.engine.cell)  # nothing else finds old data out here
                    decided = await self.engine.decide(
                        ops, expected, journaller.epoch, least, self._clock.now_ms(), IDS_TTL_MS, purpose
                    )
                    await journaller.durable(decided.sequence, decided.mark)  # what it was decided upon, or repeats
                except UnavailableError as error:
                    failure = error
                    await self._heed(error)
                    await asyncio.sleep(RETRY_SECONDS)
                else:
                    return Answered(decided.sequence, 0, decided.outcomes)
        raise failure or closed("it cannot be opened")

    def _require_room(self, count: int) -> None:
        if self._queued_ops + count > QUEUE_OPS_MAX:
            raise ResourceExhaustedError(
                "QUEUE_FULL", "Too much is waiting to be charged; try again.", retry_after_ms=200
            )

    def _enqueue(self, work: _Work, *, first: bool = False) -> None:
        self._queued_ops += len(work.ops)
        if first:
            self._queue.appendleft(work)
        else:
            self._queue.append(work)
        if self._queued_ops >= self._enough:
            self._wake.set()

    async def run(self) -> None:
        """Decide what comes until cancelled."""
        calls = asyncio.Semaphore(CALLS_MAX)
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._queue:
                    if self._queued_ops < OPS_MAX:  # little waits: let it gather while the present call goes on
                        await self._idle()
                    await calls.acquire()
                    task = asyncio.create_task(self._decide_some())
                    self._deciding[task] = None
                    task.add_done_callback(self._deciding.pop)
                    task.add_done_callback(lambda _: calls.release())
        finally:
            for task in list(self._deciding):
                task.cancel()
            if self._opening_task is not None:
                self._opening_task.cancel()
            await self._stop_committing()

    async def _idle(self) -> None:
        """Wait until no call is under way, and, while very little waits, until what was decided is durable.

        Then those who were answered come again, one by one: wait a little for most of them, and while more come.
        """
        if self._deciding:
            await asyncio.wait(self._deciding)
        if self._finishing and self._queued_ops < GATHER_OPS:
            await asyncio.wait(self._finishing, return_when=asyncio.FIRST_COMPLETED)
        self._enough = min(GATHER_OPS, int(self._last_callers * GATHER_AGAIN))
        if self._queued_ops < self._enough:
            self._wake.clear()
            timer = asyncio.get_running_loop().call_at(self._last_began + GATHER_SECONDS, self._wake.set)
            await self._wake.wait()
            timer.cancel()
        self._enough = 0
        quiet = 0
        while len(self._queue) >= GATHER_CALLERS and self._queued_ops < GATHER_OPS and quiet < GATHER_TURNS:
            before = self._queued_ops
            await asyncio.sleep(0)
            quiet = quiet + 1 if self._queued_ops == before else 0

    def _take(self) -> list[_Work]:
        taken: list[_Work] = []
        ops = 0
        while self._queue and (not taken or ops + len(self._queue[0].ops) <= OPS_MAX):
            if taken and (taken[0].is_alone or self._queue[0].is_alone):
                break
            work = self._queue.popleft()
            self._queued_ops -= len(work.ops)
            if not work.answer.cancelled():
                taken.append(work)
                ops += len(work.ops)
        return taken

    async def _decide_some(self) -> None:
        works = self._take()
        if not works:
            return
        self._last_callers, self._last_began = len(works), asyncio.get_running_loop().time()
        try:
            journaller = await self.open()
            await journaller.room()
            ops: list[Op] = []
            expected: dict[str, int] = {}
            for work in works:
                ops += work.ops
                expected.update(work.expected)
            await self._keep_programs(ops)
            OPERATIONS.observe(len(ops))
            least = max(journaller.last, self._least)
            with DECIDING.time():
                decided = await self.engine.decide(
                    ops, expected, journaller.epoch, least, self._clock.now_ms(), IDS_TTL_MS
                )
        except MeterlineError as error:
            await self._again(works, error)
            return
        except Exception as error:
            log.exception("cannot decide", works=len(works))
            self._one_by_one(works, error)
            return
        if decided.segment is not None:
            journaller.add(decided.segment)
        task = asyncio.create_task(self._finish(journaller, works, decided))
        self._finishing[task] = None
        task.add_done_callback(self._finishing.pop)

    def _one_by_one(self, works: Sequence[_Work], error: Exception) -> None:
        """Decide each work by itself after a fault, so that what one of them brought spoils no other's."""
        for work in reversed(works):
            if work.answer.done():
                continue
            if len(works) == 1:
                work.answer.set_exception(error)
            else:
                work.is_alone = True
                self._enqueue(work, first=True)

    async def _keep_programs(self, ops: Sequence[Op]) -> None:
        programs = [op.program for op in ops if isinstance(op, ChargeOp)]
        lines = [line for op in ops if isinstance(op, SessionOp) for line in op.lines]
        programs += [program for line in lines for program in (line.program, line.grant)]
        await self._journal.keep_programs(programs)

    async def _finish(self, journaller: Journaller, works: Sequence[_Work], decided: Decided) -> None:
        try:
            await journaller.durable(decided.sequence, decided.mark)
        except MeterlineError as error:
            await self._again(works, error)
            return
        start = 0
        for work in works:
            end = start + len(work.ops)
            if not work.answer.done():
                work.answer.set_result(Answered(decided.sequence, start, decided.outcomes[start:end]))
            start = end

    async def _again(self, works: Sequence[_Work], error: MeterlineError) -> None:
        """Decide works once more: ids make a repeat harmless."""
        await self._heed(error)
        is_passing = isinstance(error, UnavailableError) and not isinstance(error, JournalAwayError)
        if is_passing:
            await asyncio.sleep(RETRY_SECONDS)
        for work in reversed(works):
            work.tries += 1
            if work.answer.done():
                continue
            if is_passing and work.tries < TRIES_MAX:
                self._enqueue(work, first=True)
            else:
                work.answer.set_exception(error)

    async def _heed(self, error: MeterlineError) -> None:
        """Close the cell if its state is not the journal's."""
        if isinstance(error, CellClosedError):
            self._adopt = self._adopt and not isinstance(error, StateLostError)
            await self._close(error)

    async def _close(self, error: MeterlineError) -> None:
        if self._journaller is not None:
            log.warning("cell closed", cell=self.engine.cell, why=error.message)
        await self._stop_committing()

    async def _stop_committing(self) -> None:
        committing, journaller = self._committing, self._journaller
        self._committing, self._journaller = None, None
        if journaller is not None:
            journaller.end(closed("it is opened anew"))
        if committing is not None:
            committing.cancel()
            with suppress(asyncio.CancelledError):
                await committing

    def _opening(self) -> "Opening":
        return Opening(self.engine, self._journal, self._ledger, self._clock)

    async def open(self) -> Journaller:
        """Return the journaller of the present epoch, opening the cell if need be."""
        if self._journaller is not None and self._journaller.broken is None:
            return self._journaller
        self._opening_task = self._being_opened()
        return await asyncio.shield(self._opening_task)  # whoever waits no longer ends no rebuild

    def _being_opened(self) -> asyncio.Task[Journaller]:
        """The opening that is under way, or a new one."""
        if self._opening_task is not None and not self._opening_task.done():
            return self._opening_task
        opening = asyncio.create_task(self._open_noting_trouble())
        opening.add_done_callback(lambda task: task.cancelled() or task.exception())
        return opening

    async def _open_noting_trouble(self) -> Journaller:
        try:
            journaller = await self._open()
        except (InternalError, FailedPreconditionError) as error:  # nothing is decided until somebody mends it
            self._trouble = UnavailableError(error.reason, error.message, retry_after_ms=MENDED_MS)
            raise self._trouble from error
        except MeterlineError as error:
            self._trouble = error
            raise
        self._trouble = None
        return journaller

    async def require_sound(self) -> None:
        """Raise what the cell could not be opened for; it is tried again meanwhile, whether anybody asks or not."""
        if self._trouble is None:
            return
        self._opening_task = self._being_opened()
        raise self._trouble

    async def _open(self) -> Journaller:
        if self._journaller is not None and self._journaller.broken is None:
            return self._journaller
        if self._journaller is not None and isinstance(self._journaller.broken, StateLostError):
            self._adopt = False
        await self._stop_committing()
        epoch, last, mark, decided = await self._opening().open(adopt=self._adopt)
        self._adopt = True
        journaller = Journaller(self._journal, self.engine, epoch, last, mark, self._wake.set)
        self._journaller = journaller
        self._committing = asyncio.create_task(journaller.run())
        journaller.expect(decided)
        self.holders.forget_all()
        return journaller


class Opening:
    """Opens a cell: adopts its state if it is the journal's, else rebuilds it from books and journal."""

    def __init__(self, engine: Engine, journal: Journal, ledger: Ledger, clock: Clock) -> None:
        self._engine = engine
        self._journal = journal
        self._ledger = ledger
        self._clock = clock
        self.images = self.ids = self.segments = 0
        """How many images and ids a rebuild loaded, and how many segments it replayed."""

    async def open(self, *, adopt: bool) -> tuple[int, int, bytes, int]:
        """Return the epoch, number and mark of the journal's last segment, and up to where the cell's state reaches."""
        cell = self._engine.cell
        await self._engine.install()
        epoch = await self._journal.epoch(cell)
        last = await self._journal.last_sequence(cell)
        position = await self._engine.position()
        if adopt and epoch and position and position[0] == epoch and position[1] >= last:
            return epoch, last, await self._mark(last), position[1]
        return await self.rebuild(epoch)

    async def _mark(self, last: int) -> bytes:
        return (await self._journal.get(self._engine.cell, [last]))[last].mark if last else NO_MARK

    async def rebuild(self, epoch: int, *, from_journal: bool = False) -> tuple[int, int, bytes, int]:
        """Begin a new epoch with the state that books and journal tell; `from_journal` does not trust the books."""
        cell = self._engine.cell
        started_ms = self._clock.now_ms()
        folded = 0 if from_journal else (await self._ledger.cursor(cell)).sequence
        if folded > (journalled := await self._journal.last_sequence(cell)):
            raise UnavailableError(
                "BOOKS_AHEAD",
                f"The books hold segment {folded} of cell {cell}, and the journal ends with {journalled}: it is not "
                "theirs, or lost its end. Restore it; docs/operations.md says what to do if this is all of it.",
                retry_after_ms=10_000,
            )
        if await self._engine.being_rebuilt() or not await self._journal.raise_epoch(cell, epoch):
            raise UnavailableError(
                "CELL_CLOSED", "Another process rebuilds the balances; try again.", retry_after_ms=1000
            )
        await self._engine.begin_rebuild(epoch + 1)
        await self._engine.clear()
        since_ms = started_ms - IDS_TTL_MS
        last = 0
        if not from_journal:
            async with aclosing(self._ledger.standing(cell, since_ms)) as books:
                async for standing in books:
                    await self._load(standing.images, standing.ids)
                    last = standing.sequence
        last = await self._replay(last, since_ms)
        mark = await self._mark(last)
        await self._engine.open(epoch + 1, last, mark)
        REBUILDS.inc()
        took_ms = self._clock.now_ms() - started_ms
        log.info("cell rebuilt", cell=cell, epoch=epoch + 1, images=self.images, ids=self.ids, took_ms=took_ms)
        return epoch + 1, last, mark, last

    async def _replay(self, after: int, since_ms: int) -> int:
        """Load what segments after a sequence left behind; return the last sequence."""
        last, images, ids = after, dict[str, bytes](), list[AnsweredId]()
        loaded_ms = self._clock.now_ms()
        async with aclosing(self._journal.read_all(self._engine.cell, after)) as segments:
            async for segment in segments:
                content = self._journal.content(segment)
                images.update(content.images)
                if segment.decided_ms >= since_ms:
                    ids += answered_ids(segment, content)
                last = segment.sequence
                self.segments += 1
                if len(images) + len(ids) >= REPLAY_MAX or self._clock.now_ms() - loaded_ms >= REPLAY_MS:
                    await self._load(images, ids)
                    images, ids, loaded_ms = {}, [], self._clock.now_ms()
        await self._load(images, ids)
        return last

    async def _load(self, images: Mapping[str, bytes], ids: Sequence[AnsweredId]) -> None:
        now_ms = self._clock.now_ms()
        if images:
            await self._engine.load(images, now_ms)
            self.images += len(images)
        if ids:
            await self._engine.load_ids(ids, now_ms, IDS_TTL_MS)
            self.ids += len(ids)
