"""One account of the demo as a caller: stubs of all services, its key, and request ids that are the same each time."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Self, TypeVar

import grpc
from google.protobuf.message import Message

from cli.client import Connection, Target
from meterline.accounts.v1 import accounts_pb2_grpc, identity_pb2_grpc
from meterline.accounts.v1.identity_pb2 import ApiKey, CreateApiKeyRequest, GetMeRequest, RevokeApiKeyRequest, Role
from meterline.catalog.v1 import networks_pb2_grpc, plans_pb2_grpc, profiles_pb2_grpc, tariffs_pb2_grpc
from meterline.endpoints.v1 import assignments_pb2_grpc, endpoints_pb2_grpc, sims_pb2_grpc
from meterline.rating.v1 import balances_pb2_grpc
from services.common.clock import SystemClock
from services.common.ids import derived_id

M = TypeVar("M", bound=Message)

KEY_LIFE = timedelta(hours=12)
SERVICES = ("accounts", "catalog", "endpoints", "rating")


class Actor:
    """Speaks to every service in the context of one account.

    Args:
        system: host:port of each service.
        key: an API key's credential.
        run: what tells this demo's request ids from another's.
    """

    def __init__(self, system: Mapping[str, str], key: str, run: str) -> None:
        self._system, self._run = system, run
        self._connections = {name: Connection(Target(system[name], key)) for name in SERVICES}
        channels = {name: connection.channel for name, connection in self._connections.items()}
        self.accounts = accounts_pb2_grpc.AccountServiceStub(channels["accounts"])
        self.identity = identity_pb2_grpc.IdentityServiceStub(channels["accounts"])
        self.networks = networks_pb2_grpc.NetworkServiceStub(channels["catalog"])
        self.profiles = profiles_pb2_grpc.ProfileServiceStub(channels["catalog"])
        self.tariffs = tariffs_pb2_grpc.TariffServiceStub(channels["catalog"])
        self.plans = plans_pb2_grpc.PlanServiceStub(channels["catalog"])
        self.sims = sims_pb2_grpc.SimServiceStub(channels["endpoints"])
        self.endpoints = endpoints_pb2_grpc.EndpointServiceStub(channels["endpoints"])
        self.assignments = assignments_pb2_grpc.AssignmentServiceStub(channels["endpoints"])
        self.balances = balances_pb2_grpc.BalanceServiceStub(channels["rating"])
        self.account_id = ""
        self.key_id = ""

    @property
    def rating(self) -> Connection:
        """The connection to rating."""
        return self._connections["rating"]

    async def call(self, method: "grpc.aio.UnaryUnaryMultiCallable[Any, M]", request: Message) -> M:
        """Call a method of one of the stubs."""
        return await self._connections["accounts"].call(method, request)  # the key is the same on every connection

    async def once(self, method: "grpc.aio.UnaryUnaryMultiCallable[Any, M]", request: Message, *what: str) -> M:
        """Call a method that writes; ``what`` names this write in the account, so that a second run repeats it."""
        request.request_id = derived_id("req", self._run, *what)  # type: ignore[attr-defined]
        return await self.call(method, request)

    async def identify(self) -> Self:
        """Ask which account this is."""
        self.account_id = (await self.call(self.identity.GetMe, GetMeRequest())).account_id
        return self

    async def act_as(self, account_id: str, name: str) -> "Actor":
        """Become an account below this one, by a key that ends after ``KEY_LIFE``."""
        key = ApiKey(account_id=account_id, name=f"demo: {name}", role=Role.ROLE_MANAGER)
        key.expire_time.FromMilliseconds(SystemClock().now_ms() + int(KEY_LIFE.total_seconds()) * 1000)
        created = await self.call(self.identity.CreateApiKey, CreateApiKeyRequest(api_key=key))
        actor = Actor(self._system, created.credential, self._run)
        actor.account_id, actor.key_id = account_id, created.api_key.id
        return actor

    async def revoke(self, actor: "Actor") -> None:
        """End the key of an account below this one."""
        await self.call(self.identity.RevokeApiKey, RevokeApiKeyRequest(api_key_id=actor.key_id))

    async def close(self) -> None:
        """Close the channels."""
        for connection in self._connections.values():
            await connection.channel.close()
