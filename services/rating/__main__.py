"""Runs rating: `python -m services.rating` serves, `python -m services.rating fold` posts the journal to the books."""

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from meterline.rating.v1 import (
    audit_pb2_grpc,
    balances_pb2_grpc,
    charges_pb2_grpc,
    charging_pb2_grpc,
    events_pb2_grpc,
    rating_pb2_grpc,
    refunds_pb2_grpc,
    wallets_pb2_grpc,
)
from services.common.clock import Clock, SystemClock
from services.rating.api.balances import BalanceServicer
from services.rating.api.books import UsageServicer
from services.rating.api.charging import ChargingServicer
from services.rating.api.events import EventServicer
from services.rating.api.rating import RatingServicer
from services.rating.api.refunds import RefundServicer
from services.rating.api.wallets import WalletServicer
from services.rating.engine.driver import Engine
from services.rating.engine.records import read_segment
from services.rating.payments.choosing import provider_for
from services.rating.peers import TermsView
from services.rating.settings import RatingSettings
from services.rating.storage.books import Books as BooksStore
from services.rating.storage.escrow import Escrows
from services.rating.storage.happenings import Happenings as HappeningsStore
from services.rating.storage.journal import Journal
from services.rating.storage.ledger import Ledger
from services.rating.storage.refunds import Refunds as RefundStore
from services.rating.storage.tables import audit, wallet_requests
from services.rating.storage.wallets import Wallets as WalletStore
from services.rating.usecases.auto_refill import AutoRefill
from services.rating.usecases.balances import Balances
from services.rating.usecases.books import Books
from services.rating.usecases.cells import Cell
from services.rating.usecases.corrections import Corrections
from services.rating.usecases.counters import Counters
from services.rating.usecases.enquiring import Enquiries
from services.rating.usecases.escrow import Escrow
from services.rating.usecases.folding import Folder
from services.rating.usecases.happenings import Happenings
from services.rating.usecases.kit import Kit
from services.rating.usecases.paying import Cashier
from services.rating.usecases.refills import Refills
from services.rating.usecases.refunds import Refunds
from services.rating.usecases.routes import Cells
from services.rating.usecases.wallets import Wallets
from services.runtime.audit import AuditServicer
from services.runtime.channels import Channel
from services.runtime.database import PATIENCE_SECONDS, START_SECONDS, Database
from services.runtime.identity import Authenticator, ServiceTokens
from services.runtime.keys import remote_key_resolver
from services.runtime.server import Check, Door, Server, run
from services.runtime.tasks import background
from services.runtime.telemetry import configure_logging, logger, serve_metrics
from services.runtime.valkey import connect
from services.runtime.writes import RuntimeTables, Writes

SERVICE = "rating"
MIGRATIONS = Path(__file__).parent / "migrations"
NAMES = tuple(
    f"meterline.rating.v1.{name}"
    for name in (
        "ChargingService",
        "BalanceService",
        "UsageService",
        "AuditService",
        "RefundService",
        "RatingService",
        "EventService",
        "WalletService",
    )
)
JOURNAL_PATIENCE_SECONDS = 10.0
"""Of the journal's transactions, which take milliseconds and for which callers wait."""
VALKEY_TIMEOUT_S = 1.0
"""A Valkey that says nothing for so long is away; its calls take milliseconds."""
UNCHECKED = ("ChargeUsage", "ChargeEvent", "StreamUsage")
"""Methods that answer for each event by itself."""


async def stores(stack: AsyncExitStack, settings: RatingSettings) -> tuple[Journal, Ledger]:
    """Open journal and ledger, in their newest form."""
    journal = Database(settings.journal_url, JOURNAL_PATIENCE_SECONDS)
    ledger = Database(settings.database_url, PATIENCE_SECONDS)
    for database, name in ((journal, "journal"), (ledger, "ledger")):
        stack.push_async_callback(database.close)
        await database.migrate(MIGRATIONS / name, START_SECONDS)
    kept = Journal(journal, read_segment)
    await kept.settle_cells(settings.cells)
    return kept, Ledger(ledger)


async def start(stack: AsyncExitStack, settings: RatingSettings, clock: Clock) -> Server:
    """Start serving; what it needs ends with the stack, in the reverse order."""
    journal, ledger = await stores(stack, settings)
    tokens = ServiceTokens(settings.service_secret.get_secret_value())
    addresses = (settings.accounts_address, settings.catalog_address, settings.endpoints_address)
    channels = [await stack.enter_async_context(Channel(address, SERVICE, tokens)) for address in addresses]
    authenticator = Authenticator(tokens, remote_key_resolver(channels[0]))
    terms = TermsView(*channels)
    terms.on_key_change = authenticator.forget
    background(stack, terms.run())
    client = connect(settings.valkey_url, socket_timeout=VALKEY_TIMEOUT_S, socket_connect_timeout=VALKEY_TIMEOUT_S)
    stack.push_async_callback(client.aclose)
    numbers = range(settings.cells)
    cells = Cells([Cell(Engine(client, number), journal, ledger, clock, settings.cells) for number in numbers])
    for cell in cells:
        background(stack, cell.run())
    escrow = Escrow(cells, Escrows(ledger.database))
    if cells.count > 1:
        background(stack, escrow.run())
    kit = Kit(cells, terms, journal, ledger, clock, escrow)
    store = BooksStore(ledger.database, journal, numbers)
    books, balances = Books(store, journal, terms), Balances(kit)
    corrections = Corrections(kit, balances)
    refunds = Refunds(kit, corrections, store, RefundStore(ledger.database))
    provider = provider_for(settings, ledger.database, clock)
    stack.push_async_callback(provider.aclose)
    wallets = Wallets(WalletStore(ledger.database), balances, provider)
    refills = Refills(kit, balances)
    cashier = Cashier(wallets.store, provider, balances, refills, corrections, clock)
    background(stack, cashier.run())
    writes = Writes(ledger.database, RuntimeTables(wallet_requests, audit), clock)
    servicers = (
        (ChargingServicer(kit), charging_pb2_grpc.add_ChargingServiceServicer_to_server),
        (
            BalanceServicer(balances, corrections, refills, books, Counters(kit, balances)),
            balances_pb2_grpc.add_BalanceServiceServicer_to_server,
        ),
        (AuditServicer(ledger.database, audit), audit_pb2_grpc.add_AuditServiceServicer_to_server),
        (UsageServicer(books, terms), charges_pb2_grpc.add_UsageServiceServicer_to_server),
        (RefundServicer(refunds), refunds_pb2_grpc.add_RefundServiceServicer_to_server),
        (RatingServicer(Enquiries(kit), clock), rating_pb2_grpc.add_RatingServiceServicer_to_server),
        (
            EventServicer(Happenings(HappeningsStore(ledger.database), terms)),
            events_pb2_grpc.add_EventServiceServicer_to_server,
        ),
        (
            WalletServicer(wallets, AutoRefill(wallets, refills), cashier, writes),
            wallets_pb2_grpc.add_WalletServiceServicer_to_server,
        ),
    )
    door = Door(SERVICE, authenticator, UNCHECKED)
    checks: dict[str, Check] = {"valkey": client.ping, "journal": journal.ping, "books": ledger.database.ping}
    checks |= {f"cell {cell.engine.cell}": cell.require_sound for cell in cells}
    return await stack.enter_async_context(Server(settings.listen, door, servicers, NAMES, checks))


async def serve(stop: asyncio.Event) -> None:
    """Serve until told to stop."""
    settings = RatingSettings()  # type: ignore[call-arg] # the environment gives them
    configure_logging(settings.log_level, settings.log_format)
    serve_metrics(settings.metrics_listen)
    async with AsyncExitStack() as stack:
        server = await start(stack, settings, SystemClock())
        logger(SERVICE).info("serving", port=server.port)
        await stop.wait()


async def fold(stop: asyncio.Event) -> None:
    """Fold until told to stop."""
    settings = RatingSettings()  # type: ignore[call-arg] # the environment gives them
    configure_logging(settings.log_level, settings.log_format)
    serve_metrics(settings.metrics_listen)
    async with AsyncExitStack() as stack:
        journal, ledger = await stores(stack, settings)
        background(stack, Folder(journal, ledger, range(settings.cells)).run())
        logger(SERVICE).info("folding")
        await stop.wait()


if __name__ == "__main__":
    run(fold if sys.argv[1:] == ["fold"] else serve)
