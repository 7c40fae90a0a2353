"""A rating core on real stores, with terms that stand still: for tests of deciding, journalling and folding."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from meterline.rating.v1 import charging_pb2
from services.common.clock import FixedClock
from services.common.errors import not_found
from services.common.identity import AccountKind, Principal, Role
from services.rating.convert.charging import event_from_proto
from services.rating.domain.decisions import Outcome, SegmentContent, Status
from services.rating.domain.events import Answer, UsageEvent
from services.rating.domain.terms import AccountTerms, CatalogTerms, EndpointTerms
from services.rating.engine.driver import Engine
from services.rating.engine.records import read_segment
from services.rating.ports import ChainTerms, KnownEndpoint
from services.rating.storage.books import Books
from services.rating.storage.escrow import Escrows
from services.rating.storage.journal import Journal
from services.rating.storage.ledger import Ledger
from services.rating.storage.refunds import Refunds as RefundStore
from services.rating.usecases.balances import Balances
from services.rating.usecases.cells import Cell
from services.rating.usecases.charging import Charging
from services.rating.usecases.corrections import Corrections
from services.rating.usecases.escrow import Escrow
from services.rating.usecases.folding import Folder
from services.rating.usecases.kit import Kit
from services.rating.usecases.refunds import Refunds
from services.rating.usecases.routes import Cells
from services.rating.usecases.sessions import Sessions
from services.runtime.database import Database
from services.runtime.valkey import connect
from tests.unit.rating.terms import EU, members_of

NOW_MS = 1_760_000_000_000
OPERATOR_CALLER = Principal("key_o", "acc_o", AccountKind.OPERATOR, ("acc_o",), Role.ADMIN)
MIGRATIONS = Path("services/rating/migrations")


class StillTerms:
    """Terms that a test sets and changes itself."""

    def __init__(
        self, endpoints: Iterable[EndpointTerms], chain: Sequence[AccountTerms], catalog: CatalogTerms
    ) -> None:
        self.endpoints = {endpoint.id: endpoint for endpoint in endpoints}
        self.accounts = tuple(chain)
        self.catalog = catalog
        self.known: dict[str, KnownEndpoint] = {}
        self._make()

    def _make(self) -> None:
        self._count_members()
        chain = ChainTerms(self.accounts, self.catalog, set(self.catalog.plans))
        self.known = {
            name: KnownEndpoint(terms, chain, chain.programs_of(terms)) for name, terms in self.endpoints.items()
        }

    def _count_members(self) -> None:
        members = members_of(self.endpoints.values(), self.catalog)
        if self.accounts and self.accounts[0].members != members:
            enterprise = self.accounts[0]
            changed = replace(enterprise, members=members, version=enterprise.version + 1)
            self.accounts = (changed, *self.accounts[1:])

    def change(self, *endpoints: EndpointTerms, chain: Sequence[AccountTerms] | None = None) -> None:
        """Put changed endpoints or accounts in place, each with its next version."""
        for endpoint in endpoints:
            version = self.endpoints[endpoint.id].version + 1
            self.endpoints[endpoint.id] = replace(endpoint, version=version)
        if chain is not None:
            self.accounts = tuple(chain)
        self._make()

    def become(self, other: "StillTerms") -> None:
        """Be other terms from now on."""
        self.__dict__.update(other.__dict__)

    @property
    def networks(self) -> dict[str, str]:
        return self.catalog.networks

    async def countries(self) -> dict[str, str]:
        return self.catalog.networks

    def require_current(self) -> None: ...

    async def load(self, endpoint_ids: Iterable[str]) -> set[str]:
        return set(endpoint_ids) - self.known.keys()

    async def account(self, account_id: str) -> tuple[AccountTerms, CatalogTerms]:
        for account in self.accounts:
            if account.id == account_id:
                return account, self.catalog
        raise not_found("account", account_id)

    def forget(self, endpoint_id: str) -> None: ...

    async def wait_for(self, cursors: Sequence[int], seconds: float) -> None: ...


@dataclass
class World:
    """A rating core."""

    terms: StillTerms
    journal: Journal
    ledger: Ledger
    client: Redis
    cell: Cell
    kit: Kit
    clock: FixedClock

    def __post_init__(self) -> None:
        self.charging = Charging(self.kit)
        self.sessions = Sessions(self.kit)
        self.balances = Balances(self.kit)
        self.corrections = Corrections(self.kit, self.balances)
        self.books = Books(self.ledger.database, self.journal, (0,))
        self.refunds = Refunds(self.kit, self.corrections, self.books, RefundStore(self.ledger.database))
        self.folder = Folder(self.journal, self.ledger, (0,))

    async def use(self, quantity: int, event_id: str, **fields: Any) -> Answer:
        """Charge one event."""
        return (
            await self.charging.charge(fields.pop("caller", OPERATOR_CALLER), [event(quantity, event_id, **fields)])
        )[0]

    async def fold(self) -> None:
        """Fold all that is journalled."""
        while await self.folder.fold_some(0):
            pass

    async def remaining(self, owner: str = "ep_1") -> list[tuple[str, int]]:
        """What is left of each balance, by assignment."""
        holder = (await self.cell.engine.holders([owner]))[owner]
        return [(bucket.assignment_id, bucket.remaining) for bucket in holder.buckets]

    async def contents(self) -> list[SegmentContent]:
        """All segments of the journal, read."""
        return [read_segment(segment) async for segment in self.journal.read_all(0, 0)]

    async def charged_in_journal(self) -> list[Outcome]:
        """Outcomes of all charges in the journal."""
        return [
            used.outcome
            for content in await self.contents()
            for used in content.used
            if used.outcome[0] == Status.CHARGED
        ]


async def snapshot(client: Redis) -> dict[bytes, bytes]:
    """All that is in Valkey."""
    return {key: await client.dump(key) or b"" async for key in client.scan_iter("*")}


async def bring_back(client: Redis, old: Mapping[bytes, bytes]) -> None:
    """Let Valkey come back with what was in it."""
    await client.flushall()
    for key, value in old.items():
        await client.restore(key, 0, value)


def event(quantity: int, event_id: str, **fields: Any) -> UsageEvent:
    values: dict[str, Any] = {
        "event_id": event_id,
        "endpoint_id": "ep_1",
        "service": 1,
        "network_id": EU,
        "access_type": 3,
        "usage_time_ms": NOW_MS,
        "quantity": quantity,
        "mode": charging_pb2.USAGE_MODE_ONLINE,
    }
    return event_from_proto(charging_pb2.UsageEvent(**{**values, **fields}))


@asynccontextmanager
async def world(terms: StillTerms, valkey_url: str, database_url: str, ledger_url: str = "") -> AsyncIterator[World]:
    """Start a core; its journal and ledger are in the databases."""
    databases = []
    for url, name in ((database_url, "journal"), (ledger_url or _beside(database_url), "ledger")):
        database = Database(url)
        await database.migrate(MIGRATIONS / name)
        databases.append(database)
    client = connect(valkey_url)
    clock = FixedClock(NOW_MS)
    journal, ledger = Journal(databases[0], read_segment), Ledger(databases[1])
    cell = Cell(Engine(client, 0), journal, ledger, clock)
    cells = Cells([cell])
    kit = Kit(cells, terms, journal, ledger, clock, Escrow(cells, Escrows(databases[1])))
    task = asyncio.create_task(cell.run())
    try:
        yield World(terms, journal, ledger, client, cell, kit, clock)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await client.aclose()
        for database in databases:
            await database.close()


def _beside(url: str) -> str:
    """A second database beside the first (SQLite: another file)."""
    assert url.startswith("sqlite"), "give ledger_url"
    return url.replace(".sqlite", "_ledger.sqlite")
