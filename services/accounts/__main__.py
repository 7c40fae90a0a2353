"""Runs the accounts service: `python -m services.accounts`."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from google.protobuf.empty_pb2 import Empty

from meterline.accounts.v1 import accounts_pb2_grpc, audit_pb2_grpc, companies_pb2_grpc, identity_pb2_grpc
from services.accounts.api.accounts import AccountServicer
from services.accounts.api.companies import CompanyServicer
from services.accounts.api.desk import Desk
from services.accounts.api.identity import IdentityServicer
from services.accounts.domain.keys import Credential, read_credential
from services.accounts.peers import CatalogClient
from services.accounts.settings import SERVICE, Settings
from services.accounts.storage.store import SqlStores
from services.accounts.storage.tables import runtime
from services.accounts.usecases import bootstrap, formats, keys
from services.common.clock import Clock, SystemClock
from services.common.identity import Principal
from services.runtime.audit import AuditServicer
from services.runtime.changes import ChangeFeed
from services.runtime.channels import Channel
from services.runtime.database import PATIENCE_SECONDS, START_SECONDS, Database
from services.runtime.identity import Authenticator, ResolveKey, ServiceTokens, service_principal, unauthenticated
from services.runtime.server import Door, Server, run
from services.runtime.settling import Settling
from services.runtime.telemetry import configure_logging, logger, serve_metrics
from services.runtime.writes import Writes

MIGRATIONS = Path(__file__).parent / "migrations"
NAMES = tuple(
    f"meterline.accounts.v1.{name}" for name in ("AccountService", "CompanyService", "IdentityService", "AuditService")
)


async def start(stack: AsyncExitStack, settings: Settings, clock: Clock) -> Server:
    """Start the service; what it needs ends with the stack, in the reverse order."""
    credential = _bootstrap_credential(settings)
    database = Database(settings.database_url, PATIENCE_SECONDS)
    stack.push_async_callback(database.close)
    await database.migrate(MIGRATIONS, START_SECONDS)
    stores, feed = SqlStores(database), ChangeFeed(database, runtime)
    tokens = ServiceTokens(settings.service_secret.get_secret_value())
    resolve_key = _local_key_resolver(stores, clock)
    authenticator = Authenticator(tokens, resolve_key)

    def committed() -> None:
        feed.wake()
        authenticator.forget()  # a key may be revoked, an account ended; other processes forget within seconds

    addresses = (settings.catalog_address, settings.rating_address)
    to_catalog, to_rating = [
        await stack.enter_async_context(Channel(address, SERVICE, tokens)) for address in addresses
    ]
    catalog, settle = CatalogClient(to_catalog), Settling(to_rating, SERVICE, feed.newest).settle
    writes = Writes(database, runtime, clock, on_commit=committed, settle=settle)
    await _set_up(writes, stores, settings, credential)
    desk = Desk(writes, stores)
    servicers = (
        (AccountServicer(desk, catalog, feed), accounts_pb2_grpc.add_AccountServiceServicer_to_server),
        (CompanyServicer(desk), companies_pb2_grpc.add_CompanyServiceServicer_to_server),
        (IdentityServicer(desk, resolve_key), identity_pb2_grpc.add_IdentityServiceServicer_to_server),
        (AuditServicer(database, runtime.audit), audit_pb2_grpc.add_AuditServiceServicer_to_server),
    )
    door, checks = Door(SERVICE, authenticator), {"database": database.ping}
    server = await stack.enter_async_context(Server(settings.listen, door, servicers, NAMES, checks))
    stack.callback(feed.close)
    return server


def _bootstrap_credential(settings: Settings) -> Credential | None:
    text = settings.bootstrap_operator_key.get_secret_value().strip()
    credential = read_credential(text)
    if text and credential is None:
        raise SystemExit(
            "METERLINE_BOOTSTRAP_OPERATOR_KEY is not of the form mk_<26 characters>_<43 characters>: "
            "lower-case base32 (Crockford), then base64url."
        )
    if wrong := formats.wrong_currency(settings.operator_currency):
        raise SystemExit(f"METERLINE_OPERATOR_CURRENCY: {wrong}.")
    return credential


async def _set_up(writes: Writes, stores: SqlStores, settings: Settings, credential: Credential | None) -> None:
    """Make the OPERATOR and its key at the first start."""
    await writes.run(
        service_principal(SERVICE),
        f"{SERVICE}/start",
        Empty(),
        Empty,
        lambda write: bootstrap.set_up(
            stores.writing(write), settings.operator_name, settings.operator_currency, credential, write.now_ms
        ),
        lambda _: Empty(),
    )


def _local_key_resolver(stores: SqlStores, clock: Clock) -> ResolveKey:
    async def resolve(credential: str) -> Principal:
        async with stores.reading() as store:
            principal = await keys.authenticate(store, credential, clock.now_ms())
        if principal is None:
            raise unauthenticated()
        return principal

    return resolve


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
