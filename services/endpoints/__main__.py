"""Runs the endpoints service: `python -m services.endpoints`."""

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from meterline.endpoints.v1 import (
    assignments_pb2_grpc,
    audit_pb2_grpc,
    charging_context_pb2_grpc,
    endpoints_pb2_grpc,
    sims_pb2_grpc,
)
from services.common.clock import Clock, SystemClock
from services.endpoints.api.assignments import AssignmentServicer
from services.endpoints.api.charging_context import ChargingContextServicer
from services.endpoints.api.desk import Desk
from services.endpoints.api.endpoints import EndpointServicer
from services.endpoints.api.sims import SimServicer
from services.endpoints.peers import CatalogClient
from services.endpoints.settings import SERVICE, Settings
from services.endpoints.storage.store import newest_for_charging, reading, writing
from services.endpoints.storage.tables import runtime
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
    f"meterline.endpoints.v1.{name}"
    for name in ("SimService", "EndpointService", "AssignmentService", "ChargingContextService", "AuditService")
)


async def start(stack: AsyncExitStack, settings: Settings, clock: Clock) -> Server:
    """Start the service; what it needs ends with the stack, in the reverse order."""
    database = Database(settings.database_url, PATIENCE_SECONDS)
    stack.push_async_callback(database.close)
    await database.migrate(MIGRATIONS, START_SECONDS)
    tokens = ServiceTokens(settings.service_secret.get_secret_value())
    addresses = (settings.accounts_address, settings.catalog_address, settings.rating_address)
    accounts, catalog, rating = [
        await stack.enter_async_context(Channel(address, SERVICE, tokens)) for address in addresses
    ]
    authenticator = Authenticator(tokens, remote_key_resolver(accounts))
    directory = AccountDirectory(accounts, on_key_change=authenticator.forget)
    background(stack, directory.follow())
    feed = ChangeFeed(database, runtime)
    settle = Settling(rating, SERVICE, partial(newest_for_charging, database)).settle
    desk = Desk(
        writes=Writes(database, runtime, clock, feed.wake, settle),
        writing=writing,
        reading=partial(reading, database),
        accounts=directory,
        catalog=CatalogClient(catalog),
    )
    servicers = (
        (SimServicer(desk), sims_pb2_grpc.add_SimServiceServicer_to_server),
        (EndpointServicer(desk), endpoints_pb2_grpc.add_EndpointServiceServicer_to_server),
        (
            AssignmentServicer(desk, reseller_addons=settings.rating_cells == 1),
            assignments_pb2_grpc.add_AssignmentServiceServicer_to_server,
        ),
        (
            ChargingContextServicer(desk, feed),
            charging_context_pb2_grpc.add_ChargingContextServiceServicer_to_server,
        ),
        (AuditServicer(database, runtime.audit), audit_pb2_grpc.add_AuditServiceServicer_to_server),
    )
    door, checks = Door(SERVICE, authenticator), {"database": database.ping}
    server = await stack.enter_async_context(Server(settings.listen, door, servicers, NAMES, checks))
    stack.callback(feed.close)
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
