"""A rating core of many cells on real stores: many enterprises under resellers whose limits the cells share."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

import sqlalchemy as sa
from redis.asyncio import Redis

from services.common.clock import FixedClock
from services.common.errors import not_found
from services.common.money import Money
from services.rating.__main__ import VALKEY_TIMEOUT_S
from services.rating.domain.escrow import Kind
from services.rating.domain.events import Answer, UsageEvent
from services.rating.domain.reasons import Outcome
from services.rating.domain.terms import AccountTerms, CatalogTerms, EndpointTerms
from services.rating.engine.driver import Engine
from services.rating.engine.records import read_segment
from services.rating.ports import ChainTerms, KnownEndpoint
from services.rating.storage.escrow import Escrows
from services.rating.storage.journal import Journal
from services.rating.storage.ledger import Ledger
from services.rating.storage.tables import escrow_leases, escrows
from services.rating.usecases.balances import Balances
from services.rating.usecases.cells import Cell
from services.rating.usecases.charging import Charging
from services.rating.usecases.escrow import Escrow
from services.rating.usecases.folding import Folder
from services.rating.usecases.kit import Kit
from services.rating.usecases.routes import Cells
from services.rating.usecases.sessions import Sessions
from services.runtime.database import Database
from services.runtime.valkey import connect
from tests.integration.rating.world import MIGRATIONS, NOW_MS, OPERATOR_CALLER, event
from tests.unit.rating.terms import ALL, EU, GB, MB, OPERATOR, RESELLER, account, catalog, given, plan, tariff

PRICE = 1_000
"""Micros that one megabyte costs the reseller."""
RETAIL = plan("pln_retail", tariff_id="tar_retail")
WHOLESALE = plan("pln_wholesale", tariff_id="tar_wholesale")
PREPAID_WHOLESALE = plan("pln_prewholesale", tariff_id="tar_wholesale", prepaid=True)
TARIFFS = [tariff("tar_retail", 2_000_000), tariff("tar_wholesale", PRICE * GB // MB)]


class ManyTerms:
    """Terms of enterprises under one reseller, one endpoint each.

    Args:
        enterprises: how many.
        limit: credit limit of the reseller in micros; None makes it prepaid.
    """

    def __init__(self, enterprises: int, limit: int | None) -> None:
        wholesale = PREPAID_WHOLESALE if limit is None else WHOLESALE
        self.catalog: CatalogTerms = catalog([RETAIL, WHOLESALE, PREPAID_WHOLESALE], TARIFFS)
        self.reseller = account(RESELLER, (OPERATOR, RESELLER), given("r", wholesale.key), limit=limit)
        self.names = [f"acc_e{number}" for number in range(enterprises)]
        self.catalog.coverage.update(dict.fromkeys(self.names, frozenset({EU})))
        self.endpoints = {f"ep_{name[4:]}": _endpoint(f"ep_{name[4:]}", name) for name in self.names}
        self.known: dict[str, KnownEndpoint] = {}
        self.change(self.reseller)

    def change(self, reseller: AccountTerms) -> None:
        """Put a changed reseller in place."""
        self.reseller = reseller
        operator = account(OPERATOR, (OPERATOR,))
        for name in self.names:
            enterprise = account(name, (OPERATOR, RESELLER, name), given(f"b{name}", RETAIL.key))
            chain = ChainTerms((enterprise, reseller, operator), self.catalog, set(self.catalog.plans))
            endpoint = self.endpoints[f"ep_{name[4:]}"]
            self.known[endpoint.id] = KnownEndpoint(endpoint, chain, {})

    def limit(self, micros: int) -> None:
        """Give the reseller another credit limit."""
        version = self.reseller.limit_version + 1
        self.change(replace(self.reseller, credit_limit_micros=micros, limit_version=version))

    @property
    def networks(self) -> dict[str, str]:
        return self.catalog.networks

    async def countries(self) -> dict[str, str]:
        return self.catalog.networks

    def require_current(self) -> None: ...

    async def load(self, endpoint_ids: Iterable[str]) -> set[str]:
        return set(endpoint_ids) - self.known.keys()

    async def account(self, account_id: str) -> tuple[AccountTerms, CatalogTerms]:
        if account_id != RESELLER:
            raise not_found("account", account_id)
        return self.reseller, self.catalog

    def forget(self, endpoint_id: str) -> None: ...

    async def wait_for(self, cursors: Sequence[int], seconds: float) -> None: ...


def _endpoint(name: str, enterprise: str) -> EndpointTerms:
    return EndpointTerms(
        name, enterprise, enterprise, active=True, owner_active=True, barred=frozenset(),
        base=given(f"b{name}", RETAIL.key), addons=(), version=1,
    )  # fmt: skip


@dataclass
class Standing:
    """Where a limit is, in micros."""

    free: int
    unspent: dict[int, int] = field(default_factory=dict)
    spent: dict[int, int] = field(default_factory=dict)
    under_way: int = 0

    @property
    def total(self) -> int:
        return self.free + self.under_way + sum(self.unspent.values()) + sum(self.spent.values())


@dataclass
class Many:
    """A rating core of many cells."""

    terms: ManyTerms
    journal: Journal
    ledger: Ledger
    client: Redis
    kit: Kit
    clock: FixedClock

    def __post_init__(self) -> None:
        self.cells = self.kit.cells
        self.charging = Charging(self.kit)
        self.sessions = Sessions(self.kit)
        self.balances = Balances(self.kit)
        self.folder = Folder(self.journal, self.ledger, range(self.cells.count))

    async def charge(self, *events: UsageEvent) -> list[Answer]:
        """Charge a batch."""
        return await self.charging.charge(OPERATOR_CALLER, events)

    async def use(self, endpoint: str, quantity: int, event_id: str, **fields: object) -> Answer:
        """Charge one event."""
        return (await self.charge(event(quantity, event_id, endpoint_id=endpoint, **fields)))[0]

    async def fold(self) -> None:
        """Fold all that is journalled."""
        for cell in range(self.cells.count):
            while await self.folder.fold_some(cell):
                pass

    def endpoint_in(self, cell: int, number: int = 0) -> str:
        """An endpoint that lives in a cell."""
        there = [e.id for e in self.terms.endpoints.values() if self.cells.of(e.enterprise_id).engine.cell == cell]
        return there[number]

    async def standing(self, kind: Kind) -> Standing:
        """Where the reseller's limit is now, by what the central row and the cells say."""
        where = sa.and_(escrow_leases.c.account_id == RESELLER, escrow_leases.c.kind == int(kind))
        async with self.ledger.database.reading() as connection:
            query = sa.select(escrows.c.free).where(escrows.c.account_id == RESELLER, escrows.c.kind == int(kind))
            standing = Standing(await connection.scalar(query) or 0)
            leases = {row.cell: row for row in await connection.execute(sa.select(escrow_leases).where(where))}
        for cell in self.cells:
            number = cell.engine.cell
            there = (await cell.engine.slices([(RESELLER, int(kind))]))[0]
            holder = (await cell.engine.holders([RESELLER])).get(RESELLER)
            standing.unspent[number] = there.unspent
            standing.spent[number] = holder.credit_used if holder and kind is Kind.CREDIT else 0
            if number in leases:
                standing.under_way += leases[number].leased - there.leased
                standing.under_way += there.returned - leases[number].returned
        return standing

    async def charged(self) -> int:
        """Micros that the reseller was charged in all, by the journal."""
        total = 0
        for cell in self.cells:
            async for segment in self.journal.read_all(cell.engine.cell, 0):
                for used in read_segment(segment).used:
                    if used.outcome[0] == 0:
                        total += used.outcome[2][2][3]
        return total


@asynccontextmanager
async def many(
    terms: ManyTerms, valkey_url: str, journal_url: str, ledger_url: str, cells: int = 8, *, renewing: bool = True
) -> AsyncIterator[Many]:
    """Start a core; `renewing` runs what renews slices ahead of need."""
    databases = []
    for url, name in ((journal_url, "journal"), (ledger_url, "ledger")):
        database = Database(url)
        await database.migrate(MIGRATIONS / name)
        databases.append(database)
    client = connect(valkey_url, socket_timeout=VALKEY_TIMEOUT_S, socket_connect_timeout=VALKEY_TIMEOUT_S)
    clock = FixedClock(NOW_MS)
    journal, ledger = Journal(databases[0], read_segment), Ledger(databases[1])
    await journal.settle_cells(cells)
    all_cells = Cells([Cell(Engine(client, number), journal, ledger, clock, cells) for number in range(cells)])
    escrow = Escrow(all_cells, Escrows(ledger.database))
    tasks = [asyncio.create_task(cell.run()) for cell in all_cells]
    if renewing:
        tasks.append(asyncio.create_task(escrow.run()))
    try:
        yield Many(terms, journal, ledger, client, Kit(all_cells, terms, journal, ledger, clock, escrow), clock)
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
        await client.aclose()
        for database in databases:
            await database.close()


def count(answers: Iterable[Answer], outcome: Outcome) -> int:
    """How many answers are of a kind."""
    return sum(answer.outcome is outcome for answer in answers)


@asynccontextmanager
async def shared_by_cells(limit: int | None, valkey_url: str, sqlite_url: str) -> AsyncIterator[Many]:
    """Three cells that share the limit of a reseller, or its prepaid money, after some uses that are folded."""
    async with many(ManyTerms(12, limit), valkey_url, sqlite_url, f"{sqlite_url}.ledger", 3) as core:
        if limit is None:
            await core.balances.top_up(OPERATOR_CALLER, "", RESELLER, Money("EUR", 10**9), "t1")
        for number in range(60):
            await core.use(f"ep_e{number % 12}", MB, f"a{number}")
        await core.fold()
        yield core


__all__ = ["ALL", "EU", "GB", "MB", "PRICE", "RESELLER", "Many", "ManyTerms", "count", "many", "shared_by_cells"]
