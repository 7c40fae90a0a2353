"""One run: a seed in, what was wrong and what happened out."""

import asyncio
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from random import Random
from typing import Any
from unittest.mock import patch

import structlog

from services.rating.domain import payments, refills
from services.rating.domain.payments import Payment
from services.rating.engine import driver
from services.rating.usecases import cells, folding, journalling, paying, wallets
from services.rating.usecases.cells import IDS_TTL_MS
from tests.simulation.checks import check
from tests.simulation.clients import Client, History
from tests.simulation.faults import Faults
from tests.simulation.loop import SimulatedLoop
from tests.simulation.network import Trace
from tests.simulation.payments import disable_rules
from tests.simulation.processes import CELL, START_MS, FoldProcess, Process, RatingProcess, Surroundings

DRAIN_S = 200.0
CYCLE_ENDS_MS = 1_761_955_200_000
"""1 November 2025, midnight."""
TAIL = 80


@dataclass(frozen=True)
class Result:
    """What became of a run.

    Attributes:
        wrong: what must not be, as sentences; empty is good.
        digest: stands for all that happened: the same seed, the same digest.
        segments: segments in the journal at the end.
        steps: steps of the event loop.
        trace: the last lines of what happened.
    """

    seed: int
    wrong: list[str]
    digest: str
    segments: int
    steps: int
    trace: list[str]

    def _told(self) -> list[str]:
        """The last lines without the polling of the folders."""
        return [line for line in self.trace if " fold" not in line or " post " in line][-TAIL:]

    def report(self) -> str:
        """For people: what is wrong, what happened last, how to see it again."""
        shown = [line if len(line) < 400 else f"{line[:400]}..." for line in self._told()]
        wrong = [f"  {each[:1500]}" for each in self.wrong[:12]]
        if not self.wrong:
            return f"seed {self.seed}, trace {self.digest}: {self.segments} segments, {self.steps} steps, nothing wrong"
        return "\n".join(
            [
                f"seed {self.seed}, trace {self.digest}",
                *shown,
                "",
                "wrong:",
                *wrong,
                "",
                f"make test-sim SEED={self.seed}",
            ]
        )


def simulate(seed: int) -> Result:
    """Run a seed."""
    random = Random(seed)
    loop = SimulatedLoop(random)  # type: ignore[abstract] # it has what is used
    around = Surroundings(loop, random, _start_ms(random))
    history = History()
    wrong: list[str] = []
    with _logged(around.trace), _sizes(random), _names(random):
        try:
            loop.run(_run(around, history))
        except Exception as error:  # noqa: BLE001 - whatever it is, the seed must be told
            around.trace(f"WRONG {error!r}")
            wrong.append(f"the run ended with {error!r}")
        else:
            wrong += check(around, history)
    wrong += loop.unseen
    segments = len(around.journal.segments.get(CELL, {}))
    return Result(seed, wrong, around.trace.digest, segments, loop.steps, around.trace.lines)


def _start_ms(random: Random) -> int:
    """Some time; often a little before the memory of ids begins a new stretch, or before a billing cycle ends."""
    if random.random() < 0.2:
        return CYCLE_ENDS_MS - random.randrange(60_000)
    if random.random() < 0.3:
        return (START_MS // IDS_TTL_MS + 1) * IDS_TTL_MS - random.randrange(60_000)
    return START_MS + random.randrange(IDS_TTL_MS)


async def _run(around: Surroundings, history: History) -> None:
    random = around.random
    rating = [RatingProcess(f"rating{n}", around) for n in range(random.choice([1, 2, 2, 3]))]
    folders = [FoldProcess(f"fold{n}", around) for n in range(random.choice([1, 1, 2]))]
    processes: list[Process] = [*rating, *folders]
    for process in processes:
        process.start()
    faults = Faults(around, processes)
    going_wrong = asyncio.create_task(faults.run())
    clients = [Client(f"c{n}", around, rating, history) for n in range(random.choice([1, 2, 4]))]
    await asyncio.gather(*(client.run(random.randrange(3, 14)) for client in clients))
    going_wrong.cancel()
    with suppress(asyncio.CancelledError):
        await going_wrong
    await faults.end()
    await asyncio.gather(*(clients[0].settle(ask) for ask in history.unsettled))
    await _settle_payments(around)
    await _drain(around, clients[0], rating)


async def _settle_payments(around: Surroundings) -> None:
    """No rule begins anything any more, and what is open comes to its end; who would wait for long need not."""
    while around.wallets.is_written:
        await asyncio.sleep(0.1)
    disable_rules(around.wallets)
    ends = around.loop.time() + DRAIN_S
    while waiting := [payment for payment in around.wallets.all(Payment) if payment.next_ms]:
        if around.loop.time() > ends:
            around.failures.append(f"payments do not end: {waiting}")
            return
        due_ms = min(payment.next_ms for payment in waiting)
        around.clock.start_ms += max(0, due_ms - around.clock.now_ms())
        await asyncio.sleep(1.0)


async def _drain(around: Surroundings, client: Client, rating: list[RatingProcess]) -> None:
    """Each process decides once more, and what was decided reaches journal and books."""
    for process in rating:
        await client.settle_on(process)
    ends = around.loop.time() + DRAIN_S
    while True:
        last = around.journal.last_sequence(CELL)
        cursor = around.ledger.cursors.get(CELL)
        if around.valkey.decided(CELL) > last:  # its reply was lost, and nobody waits for it: the next call journals it
            await client.settle_on(rating[0])
        elif last and cursor is not None and cursor.sequence == last:
            return
        if around.loop.time() > ends:
            around.failures.append(f"the books stand at {cursor}, the journal at {last}")
            return
        await asyncio.sleep(0.5)


SIZES: list[tuple[Any, str, int]] = [
    (cells, "OPS_MAX", 3),
    (cells, "GATHER_OPS", 1),
    (journalling, "COMMIT_SEGMENTS_MAX", 1),
    (journalling, "WINDOW_SEGMENTS_MAX", 2),
    (journalling, "MARKS_MAX", 2),
    (folding, "SEGMENTS_MAX", 2),
    (driver, "LOAD_CHUNK", 2),
    (driver, "IDS_CHUNK", 2),
]
"""Bounds that a small world never reaches, and what they are in half of the runs."""

WAITS: list[tuple[Any, str, float]] = [
    (payments, "CLAIM_MS", 6000),
    (paying, "ASK_SECONDS", 5.0),
    (payments, "RETRY_FIRST_MS", 500),
    (refills, "BACK_OFF_FIRST_MS", 3000),
]
"""Waits of payments that are longer than a run, and what they are in it."""


@contextmanager
def _sizes(random: Random) -> Iterator[None]:
    """Make some bounds small."""
    with ExitStack() as stack:
        for module, name, small in SIZES:
            if random.random() < 0.5:
                stack.enter_context(patch.object(module, name, small))
        yield


@contextmanager
def _names(random: Random) -> Iterator[None]:
    """Ids that the seed decides, and waits of payments that fit into a run."""

    def new_id(prefix: str) -> str:
        return f"{prefix}_{random.getrandbits(64):016x}"

    with ExitStack() as stack:
        for module, name, value in (*WAITS, (paying, "new_id", new_id), (wallets, "new_id", new_id)):
            stack.enter_context(patch.object(module, name, value))
        yield


@contextmanager
def _logged(trace: Trace) -> Iterator[None]:
    """Write what the code logs into the trace."""

    def write(_: Any, level: str, fields: Any) -> Any:
        failed = fields.pop("exc_info", None)
        trace(f"log {level}: {fields}")
        if failed:
            trace(traceback.format_exc())
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[write], cache_logger_on_first_use=False)
    try:
        yield
    finally:
        structlog.configure(**before)
