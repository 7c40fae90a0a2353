"""A real accounts service beside a small servicer of catalog's contract, and callers with API keys of their own."""
# ruff: noqa: N802 - methods are named as in the contract

import secrets
import socket
from contextlib import AsyncExitStack
from typing import Any, Self, TypeVar

import grpc
from google.protobuf.message import Message

from meterline.accounts.v1 import (
    accounts_pb2,
    accounts_pb2_grpc,
    audit_pb2_grpc,
    companies_pb2_grpc,
    identity_pb2,
    identity_pb2_grpc,
)
from meterline.catalog.v1 import charging_catalog_pb2, charging_catalog_pb2_grpc
from services.accounts.__main__ import start
from services.accounts.settings import Settings
from services.common.clock import FixedClock, SystemClock
from services.common.errors import MeterlineError
from services.common.ids import derived_id, new_id
from services.runtime.channels import Channel
from services.runtime.identity import Authenticator, ServiceTokens, unauthenticated
from services.runtime.server import Door, Server, current_call
from services.runtime.statuses import from_rpc_error
from tests import factories

M = TypeVar("M", bound=Message)

SECRET = "a secret of at least thirty-two characters"
TOKENS = ServiceTokens(SECRET)
RESELLER = accounts_pb2.ACCOUNT_KIND_RESELLER
ENTERPRISE = accounts_pb2.ACCOUNT_KIND_ENTERPRISE
SUB_ACCOUNT = accounts_pb2.ACCOUNT_KIND_SUB_ACCOUNT


def free_address() -> str:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{door.getsockname()[1]}"


def new_key() -> str:
    return f"{new_id('mk')}_{secrets.token_urlsafe(32)}"


class Catalog(charging_catalog_pb2_grpc.ChargingCatalogServiceServicer):
    """Provisions defaults as told.

    Attributes:
        provisioned: requests that succeeded, by account.
        failure: what to answer instead.
        lacking: names of the default elements that no account has.
    """

    def __init__(self) -> None:
        self.provisioned: dict[str, charging_catalog_pb2.ProvisionDefaultsRequest] = {}
        self.failure: MeterlineError | None = None
        self.lacking: set[str] = set()

    async def ProvisionDefaults(
        self, request: charging_catalog_pb2.ProvisionDefaultsRequest, _: object
    ) -> charging_catalog_pb2.ProvisionDefaultsResponse:
        assert current_call().caller.service == "accounts"
        if self.failure:
            raise self.failure
        self.provisioned[request.account_id] = request
        names = ("service_profile_id", "roaming_profile_id", "apn_group_id", "prepaid_plan_id")
        return charging_catalog_pb2.ProvisionDefaultsResponse(**{name: derived_id("any", name) for name in names})

    async def GetDefaults(
        self, request: charging_catalog_pb2.GetDefaultsRequest, _: object
    ) -> charging_catalog_pb2.GetDefaultsResponse:
        if request.account_id not in self.provisioned:
            return charging_catalog_pb2.GetDefaultsResponse()
        names = {"service_profile_id", "roaming_profile_id", "apn_group_id", "plan_id"} - self.lacking
        return charging_catalog_pb2.GetDefaultsResponse(**{name: derived_id("any", name) for name in names})


async def _no_keys(_: str) -> Any:
    raise unauthenticated()


class Caller:
    """Calls with one credential; failures come as the types that the server raised."""

    def __init__(self, channel: grpc.aio.Channel, authorization: str, key_id: str = "") -> None:
        self._metadata = (("authorization", authorization),)
        self.key_id = key_id
        self.account_id = ""
        self.accounts = accounts_pb2_grpc.AccountServiceStub(channel)
        self.companies = companies_pb2_grpc.CompanyServiceStub(channel)
        self.identity = identity_pb2_grpc.IdentityServiceStub(channel)
        self.audit = audit_pb2_grpc.AuditServiceStub(channel)

    async def __call__(self, method: "grpc.aio.UnaryUnaryMultiCallable[Any, M]", request: Message) -> M:
        try:
            response: M = await method(request, metadata=self._metadata, timeout=10)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        return response

    async def refused(self, method: "grpc.aio.UnaryUnaryMultiCallable[Any, M]", request: Message) -> str:
        """The code and reason with which a call is refused, or OK."""
        try:
            await self(method, request)
        except MeterlineError as error:
            return f"{error.code} {error.reason}"
        return "OK"

    async def violations(self, method: "grpc.aio.UnaryUnaryMultiCallable[Any, M]", request: Message) -> list[str]:
        """The fields that a refused call names, in order."""
        try:
            await self(method, request)
        except MeterlineError as error:
            return sorted(violation.field for violation in error.violations)
        return []

    async def get(self, account_id: str) -> accounts_pb2.Account:
        return await self(self.accounts.GetAccount, accounts_pb2.GetAccountRequest(account_id=account_id))

    async def ids(self, **wanted: Any) -> list[str]:
        """Ids of the accounts of a list."""
        response = await self(self.accounts.ListAccounts, accounts_pb2.ListAccountsRequest(**wanted))
        return [account.id for account in response.accounts]

    async def create(
        self, kind: accounts_pb2.AccountKind.ValueType, parent_id: str, **fields: Any
    ) -> accounts_pb2.Account:
        return await self(self.accounts.CreateAccount, factories.create_account(kind, parent_id, **fields))

    async def do(self, verb: str, account_id: str, **fields: Any) -> accounts_pb2.Account:
        """Apply a state verb, for example `suspend`."""
        request = accounts_pb2.ChangeAccountStateRequest(account_id=account_id, **fields)
        return await self(self.method(verb), request)

    def method(self, verb: str) -> Any:
        return getattr(self.accounts, f"{verb.capitalize()}Account")

    async def me(self) -> identity_pb2.Principal:
        return await self(self.identity.GetMe, identity_pb2.GetMeRequest())


class World:
    """Accounts, its catalog, and the operator as a caller.

    Attributes:
        clock: stands still until a test moves it.
    """

    def __init__(self, database_url: str) -> None:
        self.database_url = database_url
        self.catalog = Catalog()  # type: ignore[abstract] # only what accounts asks for
        self.key = new_key()
        self.clock = FixedClock(SystemClock().now_ms())

    async def start(self, stack: AsyncExitStack) -> Self:
        door = Door("catalog", Authenticator(TOKENS, _no_keys))
        servicers = [(self.catalog, charging_catalog_pb2_grpc.add_ChargingCatalogServiceServicer_to_server)]
        catalog = await stack.enter_async_context(Server("127.0.0.1:0", door, servicers, ()))
        server = await self.serve(stack, catalog_address=f"127.0.0.1:{catalog.port}")
        await self.connect(stack, server.port)
        return self

    async def connect(self, stack: AsyncExitStack, port: int) -> Caller:
        """Call the accounts service at this port from now on; returns the operator."""
        self.clock.advance(1)  # what is made next is younger than the operator
        address = f"127.0.0.1:{port}"
        self._channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
        self.peer = await stack.enter_async_context(Channel(address, "rating", TOKENS))
        self.operator = await self.caller(self.key)
        return self.operator

    async def serve(self, stack: AsyncExitStack, **settings: Any) -> Server:
        """Start a process's worth of accounts on the database."""
        told: dict[str, Any] = {
            "service_secret": SECRET,
            "METERLINE_ACCOUNTS_LISTEN": "127.0.0.1:0",
            "METERLINE_ACCOUNTS_DATABASE_URL": self.database_url,
            "bootstrap_operator_key": self.key,
        }
        return await start(stack, Settings(**told | settings), self.clock)

    async def caller(self, credential: str, key_id: str = "") -> Caller:
        caller = Caller(self._channel, f"Bearer {credential}", key_id)
        caller.account_id = (await caller.me()).account_id
        return caller

    def stranger(self, authorization: str) -> Caller:
        """A caller who may turn out to be nobody."""
        return Caller(self._channel, authorization)

    async def as_(
        self, account_id: str, role: identity_pb2.Role.ValueType = identity_pb2.ROLE_ADMIN, **fields: Any
    ) -> Caller:
        """A caller with a new key of an account."""
        request = identity_pb2.CreateApiKeyRequest(api_key=factories.api_key(account_id, role))
        request.api_key.MergeFrom(identity_pb2.ApiKey(**fields))
        created = await self.operator(self.operator.identity.CreateApiKey, request)
        return await self.caller(created.credential, created.api_key.id)

    def as_service(self) -> Caller:
        """One of Meterline's own services."""
        ((_, authorization),) = self.peer.metadata()
        return Caller(self._channel, authorization)
