"""The processes of the simulation: our own code on simulated stores, from start to crash to start again."""

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

from services.rating.engine.driver import Engine
from services.rating.usecases.balances import Balances
from services.rating.usecases.cells import Cell
from services.rating.usecases.charging import Charging
from services.rating.usecases.corrections import Corrections
from services.rating.usecases.escrow import Escrow
from services.rating.usecases.folding import Folder
from services.rating.usecases.kit import Kit
from services.rating.usecases.paying import Cashier
from services.rating.usecases.refills import Refills
from services.rating.usecases.routes import Cells
from services.rating.usecases.sessions import Sessions
from tests.simulation.loop import WORLD, Actor, SimulatedLoop
from tests.simulation.market import Market, MarketView
from tests.simulation.network import Network, Server, Trace
from tests.simulation.payments import Provider, SimulatedProvider, SimulatedWallets, WalletTables, put_rules
from tests.simulation.stores import JournalStore, LedgerStore, SimulatedJournal, SimulatedLedger
from tests.simulation.valkey import SimulatedClient, SimulatedValkey

CELL = 0
START_MS = 1_760_000_000_000


class WorldClock:
    """The time of day: it follows the loop's time, and can be stepped. A process may see it shifted."""

    def __init__(self, loop: SimulatedLoop, start_ms: int) -> None:
        self._loop = loop
        self.start_ms = start_ms
        self.shifts_ms: dict[str, int] = {}

    def now_ms(self, name: str = "") -> int:
        return self.start_ms + int(self._loop.time() * 1000) + self.shifts_ms.get(name, 0)


class ProcessClock:
    """The clock of one process."""

    def __init__(self, clock: WorldClock, name: str) -> None:
        self._clock = clock
        self._name = name

    def now_ms(self) -> int:
        return self._clock.now_ms(self._name)


class Surroundings:
    """What processes are among."""

    def __init__(self, loop: SimulatedLoop, random: Random, start_ms: int) -> None:
        self.loop = loop
        self.random = random
        self.trace = Trace(loop)
        self.network = Network(loop, random, self.trace)
        self.clock = WorldClock(loop, start_ms)
        self.valkey = SimulatedValkey(self.clock.now_ms)
        self.journal = JournalStore()
        self.ledger = LedgerStore()
        self.market = Market(random)
        self.wallets = WalletTables(self.ledger)
        self.provider = Provider(random)
        self.has_payments = random.random() < 0.5
        if self.has_payments:
            put_rules(self.wallets, self.market, random)
        self.failures: list[str] = []
        """What must not happen and did."""


class Process(Server):
    """A process that can crash at any step and be started again."""

    def __init__(self, name: str, around: Surroundings) -> None:
        super().__init__(name)
        self.around = around
        self.refuses = True

    def start(self) -> None:
        """Start anew, with nothing remembered."""
        actor = self.actor = Actor(self.name)
        actor.on_crash = self.crash
        self.refuses = False
        self.around.trace(f"{self.name} starts")
        task = self.around.loop.create_task(self._run(), context=actor.context.copy())
        task.add_done_callback(self._ended, context=WORLD)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.around.failures.append(f"background work of {self.name} failed: {error!r}")

    def crash(self) -> None:
        """End here and now."""
        if self.actor is not None and not self.actor.dead:
            self.around.trace(f"{self.name} crashes")
            self.actor.dead = True
            self.refuses = True

    async def _run(self) -> None:
        raise NotImplementedError


class RatingProcess(Process):
    """A process that decides."""

    def __init__(self, name: str, around: Surroundings) -> None:
        super().__init__(name, around)
        self.charging: Charging
        self.sessions: Sessions
        self.balances: Balances
        self.terms: MarketView

    def start(self) -> None:
        around = self.around
        journal = SimulatedJournal(around.network, around.journal)
        ledger = SimulatedLedger(around.network, around.ledger)
        client: Any = SimulatedClient(around.network, around.valkey)
        clock = ProcessClock(around.clock, self.name)
        self.terms = MarketView(around.market, around.random)
        self.cell = Cell(Engine(client, CELL, lambda: around.random.randbytes(8)), journal, ledger, clock)
        cells = Cells([self.cell])
        unused: Any = None  # limits are shared out only among several cells
        kit = Kit(cells, self.terms, journal, ledger, clock, Escrow(cells, unused))
        self.charging, self.sessions, self.balances = Charging(kit), Sessions(kit), Balances(kit)
        self.cashier = Cashier(
            SimulatedWallets(around.network, around.wallets),
            SimulatedProvider(around.network, around.provider),
            self.balances,
            Refills(kit, self.balances),
            Corrections(kit, self.balances),
            clock,
        )
        super().start()

    async def _run(self) -> None:
        works = [self.cell.run(), self.cashier.run()] if self.around.has_payments else [self.cell.run()]
        await asyncio.gather(*works)

    async def ask(self, name: str, work: Callable[[], Coroutine[Any, Any, Any]], timeout: float) -> Any:
        """A call of a client."""
        return await self.around.network.call(self, name, work, timeout)


class FoldProcess(Process):
    """A process that folds."""

    def start(self) -> None:
        around = self.around
        journal = SimulatedJournal(around.network, around.journal)
        self._folder = Folder(journal, SimulatedLedger(around.network, around.ledger), (CELL,))
        super().start()

    async def _run(self) -> None:
        await self._folder.run()
