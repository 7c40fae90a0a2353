"""Runs the catalog service: `python -m services.catalog`."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from meterline.catalog.v1 import (
    audit_pb2_grpc,
    charging_catalog_pb2_grpc,
    networks_pb2_grpc,
    plans_pb2_grpc,
    profiles_pb2_grpc,
    tariffs_pb2_grpc,
)
from services.catalog.api.charging_catalog import ChargingCatalogServicer
from services.catalog.api.desk import Desk
from services.catalog.api.networks import NetworkServicer
from services.catalog.api.plans import PlanServicer
from services.catalog.api.profiles import ProfileServicer
from services.catalog.api.tariffs import TariffServicer
from services.catalog.settings import SERVICE, Settings
from services.catalog.storage.store import SqlStores
from services.catalog.storage.tables import runtime
from services.common.clock import Clock, SystemClock
from services.runtime.audit import AuditServicer
from services.runtime.changes import ChangeFeed
from services.runtime.channels import Channel
from services.runtime.database import PATIENCE_SECONDS, START_SECONDS, Database
from services.runtime.directory import AccountDirectory
from services.runtime.identity import Authenticator, ServiceTokens
from services.runtime.keys import remote_key_resolver
from services.runtime.server import Door, Server, run
from services.runtime.settling import Settling
from services.runtime.tasks import background
from services.runtime.telemetry import configure_logging, logger, serve_metrics
from services.runtime.writes import Writes

MIGRATIONS = Path(__file__).parent / "migrations"
NAMES = tuple(
    f"meterline.catalog.v1.{name}"
    for name in (
        "NetworkService",
        "ProfileService",
        "TariffService",
        "PlanService",
        "ChargingCatalogService",
        "AuditService",
    )
)


async def start(stack: AsyncExitStack, settings: Settings, clock: Clock) -> Server:
    """Start the service; what it needs ends with the stack, in the reverse order."""
    database = Database(settings.database_url, PATIENCE_SECONDS)
    stack.push_async_callback(database.close)
    await database.migrate(MIGRATIONS, START_SECONDS)
    tokens = ServiceTokens(settings.service_secret.get_secret_value())
    addresses = (settings.accounts_address, settings.rating_address)
    accounts, rating = [await stack.enter_async_context(Channel(address, SERVICE, tokens)) for address in addresses]
    authenticator = Authenticator(tokens, remote_key_resolver(accounts))
    directory = AccountDirectory(accounts, on_key_change=authenticator.forget)
    background(stack, directory.follow())
    feed, stores = ChangeFeed(database, runtime), SqlStores(database)
    desk = Desk(
        writes=Writes(database, runtime, clock, feed.wake, Settling(rating, SERVICE, feed.newest).settle),
        writing=stores.for_write,
        reading=stores.reading,
        accounts=directory,
    )
    servicers = (
        (NetworkServicer(desk), networks_pb2_grpc.add_NetworkServiceServicer_to_server),
        (ProfileServicer(desk), profiles_pb2_grpc.add_ProfileServiceServicer_to_server),
        (TariffServicer(desk), tariffs_pb2_grpc.add_TariffServiceServicer_to_server),
        (PlanServicer(desk), plans_pb2_grpc.add_PlanServiceServicer_to_server),
        (
            ChargingCatalogServicer(desk, feed),
            charging_catalog_pb2_grpc.add_ChargingCatalogServiceServicer_to_server,
        ),
        (AuditServicer(database, runtime.audit), audit_pb2_grpc.add_AuditServiceServicer_to_server),
    )
    door, checks = Door(SERVICE, authenticator), {"database": database.ping}
    server = await stack.enter_async_context(Server(settings.listen, door, servicers, NAMES, checks))
    stack.callback(feed.close)  # before the server drains: its watchers would never end
    return server


async def main(stop: asyncio.Event) -> None:
    """Serve until told to stop."""
    settings = Settings()  # type: ignore[call-arg] # the environment gives the secret
    configure_logging(settings.log_level, settings.log_format)
    serve_metrics(settings.metrics_listen)
    async with AsyncExitStack() as stack:
        server = await start(stack, settings, SystemClock())
        logger(SERVICE).info("serving", port=server.port)
        await stop.wait()


if __name__ == "__main__":
    run(main)
