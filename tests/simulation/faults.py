"""What goes wrong: crashes at any step, pauses, lost and old data, stores away, cut wires, stepped clocks."""

import asyncio
from typing import Any

from services.common.clock import MINUTE_MS
from tests.simulation.network import Server, Weather
from tests.simulation.processes import Process, Surroundings

WEATHERS = [
    Weather(),
    Weather(lost=0.01, doubled=0.01, slow=0.05),
    Weather(lost=0.03, doubled=0.05, slow=0.2, very_slow=0.01),
    Weather(lost=0.1, doubled=0.1, slow=0.3, very_slow=0.05),
]
SNAPSHOTS_KEPT = 4


class Faults:
    """Makes things go wrong until it is told to end; then everything works again."""

    def __init__(self, around: Surroundings, processes: list[Process]) -> None:
        self._around = around
        self._random = around.random
        self._processes = processes
        self._snapshots: list[Any] = []
        self._repairs: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """One thing after the other, until cancelled."""
        random, around = self._random, self._around
        kinds = [
            self._crash,
            self._crash_soon,
            self._pause,
            self._valkey,
            self._store,
            self._cut,
            self._clock,
            self._weather,
        ]
        pace = random.choice([0.3, 1.0, 3.0])
        around.network.weather = random.choice(WEATHERS)
        while True:
            await asyncio.sleep(random.expovariate(1 / pace))
            if random.random() < 0.5:
                self._snapshots = [*self._snapshots[-SNAPSHOTS_KEPT + 1 :], around.valkey.snapshot()]
            if random.random() < 0.3:
                around.trace(f"market: {around.market.change()}")
                for process in self._processes:
                    if hasattr(process, "terms") and random.random() < 0.7:
                        process.terms.forget("")
            if random.random() < 0.5:
                random.choice(kinds)()

    async def end(self) -> None:
        """Mend everything."""
        around = self._around
        for repair in tuple(self._repairs):
            await repair
        around.network.weather = Weather()
        around.network.cut.clear()
        around.clock.shifts_ms.clear()
        for process in self._processes:
            if process.actor is None or process.actor.dead:
                process.start()
            process.actor.steps_left = None  # type: ignore[union-attr]
        around.trace("all faults have ended")

    def _later(self, seconds: float, mend: Any) -> None:
        async def wait() -> None:
            await asyncio.sleep(seconds)
            mend()

        task = asyncio.create_task(wait())
        self._repairs.append(task)  # not in a set: it would go through them by their addresses
        task.add_done_callback(self._repairs.remove)

    def _seconds(self) -> float:
        return self._random.choice([0.01, 0.2, 1.0, 4.0]) * self._random.uniform(0.5, 1.5)

    def _living(self) -> Process | None:
        living = [process for process in self._processes if process.actor is not None and not process.actor.dead]
        return self._random.choice(living) if living else None

    def _start_later(self, process: Process) -> None:
        def start() -> None:
            if process.actor is None or process.actor.dead:
                process.start()

        self._later(self._seconds(), start)

    def _crash(self) -> None:
        if process := self._living():
            process.crash()
            self._start_later(process)

    def _crash_soon(self) -> None:
        if (process := self._living()) and process.actor is not None:
            process.actor.steps_left = self._random.randrange(60)

            def crash() -> None:
                process.crash()
                self._start_later(process)

            process.actor.on_crash = crash

    def _pause(self) -> None:
        if (process := self._living()) and (actor := process.actor) is not None and not actor.paused:
            self._around.trace(f"{process.name} pauses")
            actor.paused = True

            def resume() -> None:
                self._around.trace(f"{process.name} goes on")
                self._around.loop.resume(actor)

            self._later(self._seconds(), resume)

    def _valkey(self) -> None:
        around, random = self._around, self._random
        how = random.choice(["empty", "old", "old", "kept", "without ids"])
        around.trace(f"valkey goes down, will come back {how}")
        around.valkey.refuses = True
        snapshot = random.choice(self._snapshots) if how == "old" and self._snapshots else None
        if how == "without ids":
            around.valkey.forget_ids()
        elif how != "kept":
            around.valkey.restore(snapshot)
        self._later(self._seconds() / 4, lambda: self._back(around.valkey))

    def _store(self) -> None:
        around, random = self._around, self._random
        store: Server = random.choice([around.journal, around.ledger, around.valkey, around.provider])
        if random.random() < 0.5:
            store.refuses = True
        else:
            store.silent = True
        around.trace(f"{store.name} is away")
        self._later(self._seconds(), lambda: self._back(store))

    def _back(self, store: Server) -> None:
        self._around.trace(f"{store.name} is back")
        store.refuses = store.silent = False

    def _cut(self) -> None:
        around, random = self._around, self._random
        wire = (random.choice(self._processes).name, random.choice(["valkey", "journal", "ledger", "provider"]))
        around.trace(f"no way from {wire[0]} to {wire[1]}")
        around.network.cut.add(wire)
        self._later(self._seconds(), lambda: around.network.cut.discard(wire))

    def _clock(self) -> None:
        process, shift = self._random.choice(self._processes), self._random.randrange(-40, 41) * MINUTE_MS
        self._around.trace(f"clock of {process.name} is off by {shift} ms")
        self._around.clock.shifts_ms[process.name] = shift

    def _weather(self) -> None:
        weather = self._random.choice(WEATHERS)
        self._around.trace(f"{weather}")
        self._around.network.weather = weather
