"""`make bench-scale`: what a charge costs as an installation grows.

It runs the core (use cases, Function, journal) in one process on a private Valkey and SQLite, without gRPC and the other
services, and varies one thing at a time from a base point. Every step above the endpoint has a credit limit, every
endpoint draws an add-on's volume. It prints a table in Markdown and ends with one line of JSON.

    Function us     time of a charge inside FCALL, by INFO commandstats
    Valkey us       processor time of a charge in the server
    Python us       processor time of a charge in this process, its journal included
    charges/s       batches of 100, sixteen under way, each durable
    B in Valkey     used_memory for each endpoint after each was charged once, without the remembered ids
    B in rating     resident memory of this process for each endpoint, terms included

Of three rounds at each point the best figure counts, since other work may share the machine.
"""

import argparse
import asyncio
import gc
import json
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import uvloop

from meterline.rating.v1 import charging_pb2
from services.common.clock import SystemClock
from services.common.errors import not_found
from services.common.identity import AccountKind, Principal, Role
from services.rating.convert.charging import event_from_proto
from services.rating.domain.events import UsageEvent
from services.rating.domain.reasons import Outcome
from services.rating.domain.terms import AccountTerms, Assignment, CatalogTerms, EndpointTerms, PlanTerms
from services.rating.engine.driver import Engine
from services.rating.engine.records import read_segment
from services.rating.ports import ChainTerms, KnownEndpoint
from services.rating.storage.escrow import Escrows
from services.rating.storage.journal import Journal
from services.rating.storage.ledger import Ledger
from services.rating.usecases.cells import Cell
from services.rating.usecases.charging import Charging
from services.rating.usecases.escrow import Escrow
from services.rating.usecases.kit import Kit
from services.rating.usecases.routes import Cells
from services.runtime.database import Database
from services.runtime.valkey import EmbeddedValkey, connect
from tests.unit.rating.terms import EU, account, addon, catalog, given, plan, tariff

MIGRATIONS = Path("services/rating/migrations")
OPERATOR = Principal("key_o", "acc_o", AccountKind.OPERATOR, ("acc_o",), Role.ADMIN)
BATCH, IN_FLIGHT = 100, 16
ROUNDS = 3
HEADINGS = (
    "endpoints",
    "resellers",
    "add-ons",
    "levels",
    "Function us",
    "Valkey us",
    "Python us",
    "charges/s",
    "B in Valkey",
    "B in rating",
)
ENTERPRISES = 100
LIMIT = 10**15
VOLUME = 1 << 50
RETAIL, WHOLESALE = plan("pln_retail", tariff_id="tar_retail"), plan("pln_wholesale", tariff_id="tar_wholesale")
ADDON = addon("pln_addon", VOLUME)
CATALOG = [RETAIL, WHOLESALE, ADDON], [tariff("tar_retail", 2_000_000), tariff("tar_wholesale", 1_000_000)]


@dataclass(frozen=True)
class Point:
    """An installation.

    Attributes:
        addons: add-ons of each endpoint.
        levels: from the operator down to the endpoint, both counted: one less is the number of steps of a charge.
    """

    endpoints: int = 10_000
    resellers: int = 10
    addons: int = 1
    levels: int = 4


BASE = Point()
POINTS = [
    BASE,
    *(replace(BASE, endpoints=number) for number in (100_000, 1_000_000)),
    *(replace(BASE, resellers=number) for number in (1, 100, 1_000)),
    *(replace(BASE, addons=number) for number in (10, 50)),
    *(replace(BASE, levels=number) for number in (3, 5, 6)),
]


@dataclass(frozen=True)
class Cost:
    """What was measured."""

    function_us: float
    valkey_us: float
    python_us: float
    per_second: int
    valkey_bytes: int
    rating_bytes: int


class ScaleTerms:
    """The terms of an installation, all of them known."""

    def __init__(self, point: Point) -> None:
        self.catalog: CatalogTerms = catalog(*CATALOG)
        self.chains = [self._chain(point, number) for number in range(max(ENTERPRISES, point.resellers))]
        self.known: dict[str, KnownEndpoint] = {}
        for number in range(point.endpoints):
            chain = self.chains[number % len(self.chains)]
            endpoint = _endpoint(f"ep_{number:026d}", chain.accounts[0].id, number, point.addons)
            programs = chain.programs.setdefault(("retail",), {})
            self.known[endpoint.id] = KnownEndpoint(endpoint, chain, programs)

    def _chain(self, point: Point, number: int) -> ChainTerms:
        """Enterprise, reseller (one of many), the resellers above that one, operator."""
        names = ["acc_o", *(f"acc_top{level}" for level in range(point.levels - 4))]
        if point.levels > 3:
            names.append(f"acc_reseller{number % point.resellers}")
        names.append(f"acc_enterprise{number}")
        self.catalog.coverage[names[-1]] = frozenset({EU})
        accounts = [
            _account(tuple(names[: depth + 1]), RETAIL if name == names[-1] else WHOLESALE)
            for depth, name in enumerate(names)
        ]
        return ChainTerms(tuple(reversed(accounts)), self.catalog, set(self.catalog.plans))

    @property
    def networks(self) -> dict[str, str]:
        """Country code by network id."""
        return self.catalog.networks

    async def countries(self) -> dict[str, str]:
        """Country code by network id."""
        return self.catalog.networks

    def require_current(self) -> None:
        """They are."""

    async def load(self, endpoint_ids: Iterable[str]) -> set[str]:
        """Return those that do not exist."""
        return {name for name in endpoint_ids if name not in self.known}

    async def account(self, account_id: str) -> tuple[AccountTerms, CatalogTerms]:
        """Nobody asks for one."""
        raise not_found("account", account_id)

    def forget(self, endpoint_id: str) -> None:
        """They do not change."""

    async def wait_for(self, cursors: Sequence[int], seconds: float) -> None:
        """They do not change."""


def _account(path: tuple[str, ...], base: PlanTerms) -> AccountTerms:
    if len(path) == 1:
        return account(path[-1], path)
    return account(path[-1], path, given(f"base{path[-1]}", base.key), limit=LIMIT)


def _endpoint(name: str, enterprise: str, number: int, addons: int) -> EndpointTerms:
    base = Assignment(f"asg_{number:026d}", RETAIL.key, 0, 0, 0)
    given_addons = tuple(Assignment(f"asg_{number:020d}{n:06d}", ADDON.key, n, 0, 0) for n in range(addons))
    return EndpointTerms(
        name, enterprise, enterprise, active=True, owner_active=True, barred=frozenset(),
        base=base, addons=given_addons, version=1,
    )  # fmt: skip


def _event(number: int, endpoint_id: str, now_ms: int) -> UsageEvent:
    return event_from_proto(
        charging_pb2.UsageEvent(
            event_id=f"s{number}",
            endpoint_id=endpoint_id,
            service=1,  # type: ignore[arg-type]
            network_id=EU,
            access_type=3,  # type: ignore[arg-type]
            usage_time_ms=now_ms,
            quantity=1_000 + number % 100_000,
            mode=charging_pb2.USAGE_MODE_ONLINE,
        )
    )


@asynccontextmanager
async def core(terms: ScaleTerms, folder: Path, valkey_url: str) -> AsyncIterator[tuple[Charging, Any]]:
    """A rating core of one cell, and a client of its Valkey."""
    databases = Database(f"sqlite+aiosqlite:///{folder}/journal"), Database(f"sqlite+aiosqlite:///{folder}/ledger")
    for database, name in zip(databases, ("journal", "ledger"), strict=True):
        await database.migrate(MIGRATIONS / name)
    client = connect(valkey_url)
    clock = SystemClock()
    journal, ledger = Journal(databases[0], read_segment), Ledger(databases[1])
    cells = Cells([Cell(Engine(client, 0), journal, ledger, clock)])
    running = asyncio.create_task(cells[0].run())
    try:
        yield Charging(Kit(cells, terms, journal, ledger, clock, Escrow(cells, Escrows(databases[1])))), client
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await client.aclose()
        for database in databases:
            await database.close()


async def charge(charging: Charging, events: Sequence[UsageEvent]) -> None:
    """Charge events, each of which must be charged."""
    batches = iter([events[start : start + BATCH] for start in range(0, len(events), BATCH)])

    async def caller() -> None:
        for batch in batches:
            answers = await charging.charge(OPERATOR, batch)
            assert all(answer.outcome is Outcome.CHARGED for answer in answers), answers[0]

    await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))


async def spent(client: Any, server: psutil.Process) -> tuple[float, float, float, float]:
    """Microseconds so far: inside the Function, processor time of Valkey and of this process, on the clock."""
    stats = await client.info("commandstats")
    times = server.cpu_times()
    in_server = (times.user + times.system) * 1e6
    return stats["cmdstat_fcall"]["usec"], in_server, time.process_time() * 1e6, time.perf_counter() * 1e6


async def used_memory(client: Any) -> int:
    """Bytes of all data but what is remembered of answered ids and of segments on their way to the journal."""
    used = int((await client.info("memory"))["used_memory"])
    passing = [name async for name in client.scan_iter(match="*}d:*", count=1000)]
    for name in [*passing, "{c0}j"]:
        used -= await client.memory_usage(name, samples=0) or 0
    return used


async def measure(point: Point, charges: int) -> Cost:
    """Build an installation, charge each endpoint once, then measure."""
    process = psutil.Process()
    gc.collect()
    resident = process.memory_info().rss
    terms = ScaleTerms(point)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with EmbeddedValkey(folder / "valkey") as server, core(terms, folder, server.url) as (charging, client):
            empty = int((await client.info("memory"))["used_memory"])
            now_ms = time.time_ns() // 1_000_000
            names = list(terms.known)
            for start in range(0, len(names), 20_000):
                chunk = names[start : start + 20_000]
                await charge(charging, [_event(start + n, each, now_ms) for n, each in enumerate(chunk)])
            gc.collect()
            grown = process.memory_info().rss - resident
            full = await used_memory(client)
            rng = random.Random(1)
            first = len(names)
            rounds = []
            for _ in range(1 + ROUNDS):  # the first warms up
                events = [_event(first + n, rng.choice(names), now_ms) for n in range(charges)]
                first += charges
                before = await spent(client, psutil.Process(server.pid))
                await charge(charging, events)
                after = await spent(client, psutil.Process(server.pid))
                rounds.append([(end - start) / charges for start, end in zip(before, after, strict=True)])
    in_function, in_valkey, in_python, on_clock = (min(column) for column in zip(*rounds[1:], strict=True))
    return Cost(
        function_us=round(in_function, 1),
        valkey_us=round(in_valkey, 1),
        python_us=round(in_python, 1),
        per_second=round(1e6 / on_clock),
        valkey_bytes=round((full - empty) / point.endpoints),
        rating_bytes=round(grown / point.endpoints),
    )


async def measured(point: Point, charges: int) -> Cost:
    """Measure in a process of its own, so that memory is what this installation takes."""
    command = [
        sys.executable,
        "-m",
        "tests.load.scale",
        "--point",
        json.dumps(asdict(point)),
        "--charges",
        str(charges),
    ]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    if process.returncode:
        raise SystemExit(process.returncode)
    return Cost(**json.loads(output.splitlines()[-1]))


def row(*cells: object) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(f'{cell:,}' if isinstance(cell, int) else str(cell) for cell in cells)} |"


async def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all points, or one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--point", type=json.loads, help="measure one installation, given as JSON")
    parser.add_argument("--charges", type=int, default=20_000, help="charges of a round at each point")
    parser.add_argument("--endpoints-max", type=int, default=1_000_000, help="leave larger installations out")
    options = parser.parse_args(arguments)
    if options.point is not None:
        print(json.dumps(asdict(await measure(Point(**options.point), options.charges))))
        return
    print(row(*HEADINGS))
    print(row(*["---:"] * len(HEADINGS)))
    found = []
    for point in POINTS:
        if point.endpoints <= options.endpoints_max:
            cost = await measured(point, options.charges)
            found.append({**asdict(point), **asdict(cost)})
            print(row(*found[-1].values()), flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    uvloop.run(main())
