"""A real endpoints service among small servicers of the contracts of accounts, catalog and rating."""
# ruff: noqa: N802 - methods are named as in the contracts

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from stdnum import luhn

from meterline.accounts.v1 import accounts_pb2, accounts_pb2_grpc, identity_pb2, identity_pb2_grpc
from meterline.catalog.v1 import (
    charging_catalog_pb2,
    charging_catalog_pb2_grpc,
    plans_pb2,
    profiles_pb2,
    profiles_pb2_grpc,
)
from meterline.endpoints.v1 import (
    assignments_pb2,
    assignments_pb2_grpc,
    audit_pb2_grpc,
    charging_context_pb2_grpc,
    endpoints_pb2,
    endpoints_pb2_grpc,
    sims_pb2,
    sims_pb2_grpc,
)
from meterline.rating.v1 import charging_pb2, charging_pb2_grpc
from services.common.clock import FixedClock
from services.common.errors import not_found
from services.common.identity import AccountKind, Principal, Role
from services.common.ids import derived_id
from services.endpoints.__main__ import start
from services.endpoints.settings import Settings
from services.runtime.channels import Channel
from services.runtime.identity import Authenticator, ServiceTokens, service_principal, unauthenticated
from services.runtime.server import Adder, Door, Server, current_call

M = TypeVar("M", bound=Message)

SECRET = "a secret of at least thirty-two characters"
TOKENS = ServiceTokens(SECRET)
NOW_MS = 1_800_000_000_000

TREE = {
    "operator": (AccountKind.OPERATOR, ""),
    "reseller": (AccountKind.RESELLER, "operator"),
    "nested": (AccountKind.RESELLER, "reseller"),
    "enterprise": (AccountKind.ENTERPRISE, "reseller"),
    "sub": (AccountKind.SUB_ACCOUNT, "enterprise"),
    "other_sub": (AccountKind.SUB_ACCOUNT, "enterprise"),
    "sibling": (AccountKind.ENTERPRISE, "reseller"),
    "deep": (AccountKind.ENTERPRISE, "nested"),
    "ended": (AccountKind.ENTERPRISE, "reseller"),
    "stranger": (AccountKind.RESELLER, "operator"),
    "far": (AccountKind.ENTERPRISE, "stranger"),
}
"""operator > reseller > (nested > deep, enterprise > (sub, other_sub), sibling, ended); operator > stranger > far."""


def account(name: str) -> str:
    return derived_id("acc", name)


def path(name: str) -> tuple[str, ...]:
    parent = TREE[name][1]
    return (*path(parent), account(name)) if parent else (account(name),)


def iccid(number: int) -> str:
    body = f"893200000{number:09d}"
    return body + luhn.calc_check_digit(body)


def plan_id(name: str) -> str:
    return derived_id("pln", name)


class Accounts(accounts_pb2_grpc.AccountServiceServicer, identity_pb2_grpc.IdentityServiceServicer):
    """The tree, unchanging, and one API key: `mk_` and an account's name."""

    async def BatchGetAccounts(
        self, request: accounts_pb2.BatchGetAccountsRequest, _: object
    ) -> accounts_pb2.BatchGetAccountsResponse:
        names = {account(name): name for name in TREE}
        found = [names[key] for key in request.account_ids if key in names]
        return accounts_pb2.BatchGetAccountsResponse(
            accounts=[
                accounts_pb2.Account(
                    id=account(name),
                    kind=accounts_pb2.AccountKind.ValueType(TREE[name][0]),
                    state=accounts_pb2.ACCOUNT_STATE_TERMINATED
                    if name == "ended"
                    else accounts_pb2.ACCOUNT_STATE_ACTIVE,
                    path=path(name),
                    currency="EUR",
                )
                for name in found
            ]
        )

    async def WatchAccountChanges(
        self, _: object, __: object
    ) -> AsyncIterator[accounts_pb2.WatchAccountChangesResponse]:
        while True:
            yield accounts_pb2.WatchAccountChangesResponse(cursor=1)
            await asyncio.sleep(1)

    async def Authenticate(self, request: identity_pb2.AuthenticateRequest, _: object) -> identity_pb2.Principal:
        name = request.credential.removeprefix("mk_")
        if name not in TREE:
            raise unauthenticated()
        return identity_pb2.Principal(
            actor=derived_id("key", name),
            account_id=account(name),
            account_kind=accounts_pb2.AccountKind.ValueType(TREE[name][0]),
            account_path=path(name),
            role=identity_pb2.ROLE_ADMIN,
        )


class Catalog(charging_catalog_pb2_grpc.ChargingCatalogServiceServicer, profiles_pb2_grpc.ProfileServiceServicer):
    """Plans by name. What an enterprise called `enterprise`, `sibling` or `deep` has by default is `default of it`."""

    def __init__(self) -> None:
        self.plans: dict[str, plans_pb2.Plan] = {}
        self._versions: dict[tuple[str, int], plans_pb2.Plan] = {}
        self.delay_seconds = 0.0
        for name in ("enterprise", "sibling", "deep", "far", "ended"):
            self.add(f"default of {name}", name)

    def add(self, name: str, owner: str, *, addon: bool = False, days: int = 0, **fields: Any) -> str:
        plan = plans_pb2.Plan(
            id=plan_id(name),
            account_id=account(owner),
            type=plans_pb2.PLAN_TYPE_ADDON if addon else plans_pb2.PLAN_TYPE_BASE,
            validity=Duration(seconds=days * 86_400) if days else None,
            **{"version": 1, "state": plans_pb2.PLAN_STATE_PUBLISHED, **fields},
        )
        self.plans[plan.id] = self._versions[plan.id, plan.version] = plan
        return plan.id

    async def BatchGetPlanVersions(
        self, request: charging_catalog_pb2.BatchGetPlanVersionsRequest, _: object
    ) -> charging_catalog_pb2.BatchGetPlanVersionsResponse:
        current_call().caller.require_service()
        await asyncio.sleep(self.delay_seconds)
        found: list[plans_pb2.Plan] = []
        for key in request.keys:
            plan = self.plans.get(key.plan_id)
            if plan is not None and key.version:
                plan = self._versions.get((key.plan_id, key.version))
            elif plan is not None and plan.state != plans_pb2.PLAN_STATE_PUBLISHED:
                plan = None
            if plan is not None:
                found.append(plan)
        return charging_catalog_pb2.BatchGetPlanVersionsResponse(plans=found)

    async def GetDefaults(
        self, request: charging_catalog_pb2.GetDefaultsRequest, _: object
    ) -> charging_catalog_pb2.GetDefaultsResponse:
        names = {account(name): name for name in TREE}
        plan = plan_id(f"default of {names[request.account_id]}")
        return charging_catalog_pb2.GetDefaultsResponse(
            plan_id=plan if plan in self.plans else "", apn_group_id=derived_id("apn", request.account_id)
        )

    async def GetApnGroup(self, request: profiles_pb2.GetApnGroupRequest, _: object) -> profiles_pb2.ApnGroup:
        if request.apn_group_id != derived_id("apn", current_call().caller.account_id):
            raise not_found("apn_group", request.apn_group_id)
        return profiles_pb2.ApnGroup(id=request.apn_group_id)


class Rating(charging_pb2_grpc.ChargingServiceServicer):
    """Notes what it was asked to wait for."""

    def __init__(self) -> None:
        self.cursors: list[int] = []
        self.hang: Callable[[], Awaitable[None]] | None = None

    async def WaitForChanges(
        self, request: charging_pb2.WaitForChangesRequest, _: object
    ) -> charging_pb2.WaitForChangesResponse:
        self.cursors.append(request.endpoints_cursor)
        if self.hang is not None:
            await self.hang()
        return charging_pb2.WaitForChangesResponse()


class Client:
    """Calls endpoints as one caller."""

    def __init__(self, channel: grpc.aio.Channel, caller: Principal) -> None:
        self._channel = Channel.__new__(Channel)
        self._channel.grpc, self._channel._tokens = channel, TOKENS
        self._caller = caller
        self.sims = sims_pb2_grpc.SimServiceStub(channel)
        self.endpoints = endpoints_pb2_grpc.EndpointServiceStub(channel)
        self.assignments = assignments_pb2_grpc.AssignmentServiceStub(channel)
        self.contexts = charging_context_pb2_grpc.ChargingContextServiceStub(channel)
        self.audit = audit_pb2_grpc.AuditServiceStub(channel)

    async def call(self, method: "grpc.aio.UnaryUnaryMultiCallable[Any, M]", request: Message) -> M:
        return await self._channel.call(method, request, on_behalf_of=self._caller, timeout=30)

    @property
    def metadata(self) -> Any:
        return self._channel.metadata(self._caller)

    async def create(self, sim: str = "", **fields: Any) -> endpoints_pb2.Endpoint:
        request = endpoints_pb2.CreateEndpointRequest(**fields)
        if sim:
            request.endpoint.sim_id = sim
        request.endpoint.SetInParent()
        return await self.call(self.endpoints.CreateEndpoint, request)

    async def move(self, verb: str, endpoint_id: str, **fields: Any) -> endpoints_pb2.Endpoint:
        request = endpoints_pb2.ChangeEndpointStateRequest(endpoint_id=endpoint_id, **fields)
        return await self.call(getattr(self.endpoints, verb), request)

    async def link(self, verb: str, endpoint_id: str, sim_id: str) -> endpoints_pb2.Endpoint:
        request = endpoints_pb2.LinkSimRequest(endpoint_id=endpoint_id, sim_id=sim_id)
        return await self.call(getattr(self.endpoints, verb), request)

    async def endpoint(self, endpoint_id: str) -> endpoints_pb2.Endpoint:
        return await self.call(self.endpoints.GetEndpoint, endpoints_pb2.GetEndpointRequest(endpoint_id=endpoint_id))

    async def sim(self, sim_id: str) -> sims_pb2.Sim:
        return await self.call(self.sims.GetSim, sims_pb2.GetSimRequest(sim_id=sim_id))

    async def addon(self, endpoint_id: str, plan: str, request_id: str = "") -> assignments_pb2.PlanAssignment:
        request = assignments_pb2.AssignEndpointAddonRequest(
            endpoint_id=endpoint_id, plan_id=plan, request_id=request_id
        )
        return await self.call(self.assignments.AssignEndpointAddon, request)

    async def price(self, account_name: str, plan: str) -> assignments_pb2.PlanAssignment:
        request = assignments_pb2.AssignAccountPlanRequest(account_id=account(account_name), plan_id=plan)
        return await self.call(self.assignments.AssignAccountPlan, request)

    async def assignment(self, assignment_id: str) -> assignments_pb2.PlanAssignment:
        request = assignments_pb2.GetAssignmentRequest(assignment_id=assignment_id)
        return await self.call(self.assignments.GetAssignment, request)

    async def assigned(self, **filters: Any) -> list[assignments_pb2.PlanAssignment]:
        request = assignments_pb2.ListAssignmentsRequest(**filters)
        return list((await self.call(self.assignments.ListAssignments, request)).assignments)

    async def remove(self, assignment_id: str) -> assignments_pb2.PlanAssignment:
        request = assignments_pb2.RemoveAssignmentRequest(assignment_id=assignment_id)
        return await self.call(self.assignments.RemoveAssignment, request)


class World:
    """The service and its surroundings; `as_("reseller")` calls it in that account's context."""

    def __init__(self) -> None:
        self.clock = FixedClock(NOW_MS)
        self.catalog = Catalog()  # type: ignore[abstract]
        self.rating = Rating()  # type: ignore[abstract]
        self.address = ""
        self._channel: grpc.aio.Channel
        self._sims = 0

    async def start(self, stack: AsyncExitStack, database_url: str, cells: int = 1) -> None:
        accounts = Accounts()  # type: ignore[abstract]

        async def resolve_key(_: str) -> Principal:
            raise unauthenticated()

        door = Door("surroundings", Authenticator(TOKENS, resolve_key))
        servicers: list[tuple[object, Adder]] = [
            (accounts, accounts_pb2_grpc.add_AccountServiceServicer_to_server),
            (accounts, identity_pb2_grpc.add_IdentityServiceServicer_to_server),
            (self.catalog, charging_catalog_pb2_grpc.add_ChargingCatalogServiceServicer_to_server),
            (self.catalog, profiles_pb2_grpc.add_ProfileServiceServicer_to_server),
            (self.rating, charging_pb2_grpc.add_ChargingServiceServicer_to_server),
        ]
        around = await stack.enter_async_context(Server("127.0.0.1:0", door, servicers, ()))
        there = f"127.0.0.1:{around.port}"
        settings = Settings.model_validate(
            {
                "service_secret": SECRET,
                "accounts_address": there,
                "catalog_address": there,
                "rating_address": there,
                "METERLINE_ENDPOINTS_LISTEN": "127.0.0.1:0",
                "METERLINE_ENDPOINTS_DATABASE_URL": database_url,
                "METERLINE_RATING_CELLS": cells,
            }
        )
        server = await start(stack, settings, self.clock)
        self.address = f"127.0.0.1:{server.port}"
        self._channel = grpc.aio.insecure_channel(self.address)
        stack.push_async_callback(self._channel.close)

    def as_(self, name: str, role: Role = Role.ADMIN) -> Client:
        caller = Principal(derived_id("key", name), account(name), TREE[name][0], path(name), role)
        return Client(self._channel, caller)

    def as_service(self) -> Client:
        return Client(self._channel, service_principal("rating"))

    def new_sims(self, count: int) -> list[sims_pb2.Sim]:
        """SIMs that nobody has, with good numbers."""
        first, self._sims = self._sims, self._sims + count
        return [
            sims_pb2.Sim(iccid=iccid(number), imsi=f"20601{number:010d}", msisdn=f"324600{number:05d}")
            for number in range(first, first + count)
        ]

    async def sims(self, count: int, holder: str = "enterprise", importer: str = "reseller") -> list[str]:
        """Ids of new SIMs that an account holds."""
        request = sims_pb2.ImportSimsRequest(sims=self.new_sims(count), account_id=account(holder))
        client = self.as_(importer)
        return [sim.id for sim in (await client.call(client.sims.ImportSims, request)).sims]

    async def active_endpoint(self, **fields: Any) -> endpoints_pb2.Endpoint:
        """A new active endpoint of `enterprise`."""
        (sim,) = await self.sims(1)
        return await self.as_("enterprise").create(sim, activate=True, **fields)
