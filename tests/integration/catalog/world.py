"""A real catalog service beside a small servicer of the contract of accounts."""
# ruff: noqa: N802 - methods are named as in the contracts

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.type.money_pb2 import Money

from meterline.accounts.v1 import accounts_pb2, accounts_pb2_grpc, identity_pb2, identity_pb2_grpc
from meterline.catalog.v1 import (
    audit_pb2_grpc,
    charging_catalog_pb2,
    charging_catalog_pb2_grpc,
    networks_pb2,
    networks_pb2_grpc,
    plans_pb2,
    plans_pb2_grpc,
    profiles_pb2,
    profiles_pb2_grpc,
    tariffs_pb2,
    tariffs_pb2_grpc,
)
from meterline.type.v1 import service_pb2 as types
from services.catalog.__main__ import start
from services.catalog.settings import Settings
from services.common.clock import FixedClock
from services.common.errors import MeterlineError
from services.common.identity import AccountKind, Principal, Role
from services.common.ids import derived_id
from services.runtime.channels import Channel
from services.runtime.identity import Authenticator, ServiceTokens, service_principal, unauthenticated
from services.runtime.server import Adder, Door, Server

M = TypeVar("M", bound=Message)

SECRET = "a secret of at least thirty-two characters"
TOKENS = ServiceTokens(SECRET)
NOW_MS = 1_800_000_000_000
MB = 1_000_000

TREE = {
    "operator": (AccountKind.OPERATOR, ""),
    "reseller": (AccountKind.RESELLER, "operator"),
    "enterprise": (AccountKind.ENTERPRISE, "reseller"),
    "sub": (AccountKind.SUB_ACCOUNT, "enterprise"),
    "sibling": (AccountKind.ENTERPRISE, "reseller"),
    "stranger": (AccountKind.RESELLER, "operator"),
}
"""operator > (reseller > (enterprise > sub, sibling), stranger)."""

NETWORKS = {
    "net_20601": ("BE", "Proximus", True),
    "net_20610": ("BE", "Orange", True),
    "net_20620": ("BE", "Base", True),
    "net_26201": ("DE", "Telekom", True),
    "net_26202": ("DE", "Vodafone", True),
    "net_310410": ("US", "AT&T", True),
    "net_28967": ("GE-AB", "Aquafon", True),
    "net_28201": ("GE", "Geocell", True),
    "net_20699": ("BE", "Closed Mobile", False),
}
"""Country, brand and whether it is operational."""
OPERATIONAL = sorted(key for key, (_, __, operational) in NETWORKS.items() if operational)


def account(name: str) -> str:
    return derived_id("acc", name)


def path(name: str) -> tuple[str, ...]:
    parent = TREE[name][1]
    return (*path(parent), account(name)) if parent else (account(name),)


def eur(units: int, micros: int = 0, currency: str = "EUR") -> Money:
    return Money(currency_code=currency, units=units, nanos=micros * 1000)


def access(service: int, *generations: int) -> profiles_pb2.ServiceAccess:
    return profiles_pb2.ServiceAccess(service=service, access_types=generations or (1, 2, 3, 4))  # type: ignore[arg-type]


class Accounts(accounts_pb2_grpc.AccountServiceServicer, identity_pb2_grpc.IdentityServiceServicer):
    """The tree, unchanging, and API keys: `mk_` and an account's name."""

    async def BatchGetAccounts(
        self, request: accounts_pb2.BatchGetAccountsRequest, _: object
    ) -> accounts_pb2.BatchGetAccountsResponse:
        names = {account(name): name for name in TREE}
        found = [names[key] for key in request.account_ids if key in names]
        return accounts_pb2.BatchGetAccountsResponse(
            accounts=[
                accounts_pb2.Account(id=account(name), kind=int(TREE[name][0]), path=path(name), currency="EUR")  # type: ignore[arg-type]
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
            account_kind=int(TREE[name][0]),  # type: ignore[arg-type]
            account_path=path(name),
            role=identity_pb2.ROLE_ADMIN,
        )


class Client:
    """Calls catalog as one caller."""

    def __init__(self, channel: grpc.aio.Channel, caller: Principal) -> None:
        self._channel = Channel.__new__(Channel)
        self._channel.grpc, self._channel._tokens = channel, TOKENS
        self._caller = caller
        self.networks = networks_pb2_grpc.NetworkServiceStub(channel)
        self.profiles = profiles_pb2_grpc.ProfileServiceStub(channel)
        self.tariffs = tariffs_pb2_grpc.TariffServiceStub(channel)
        self.plans = plans_pb2_grpc.PlanServiceStub(channel)
        self.charging = charging_catalog_pb2_grpc.ChargingCatalogServiceStub(channel)
        self.audit = audit_pb2_grpc.AuditServiceStub(channel)

    async def call(self, method: "grpc.aio.UnaryUnaryMultiCallable[Any, M]", request: Message) -> M:
        return await self._channel.call(method, request, on_behalf_of=self._caller, timeout=30)

    @property
    def metadata(self) -> Any:
        return self._channel.metadata(self._caller)

    # networks and coverage

    async def add_coverage(self, name: str, **selection: Any) -> list[str]:
        request = networks_pb2.ChangeCoverageRequest(account_id=account(name), **selection)
        return list((await self.call(self.networks.AddCoverage, request)).network_ids)

    async def remove_coverage(self, name: str, **selection: Any) -> list[str]:
        request = networks_pb2.ChangeCoverageRequest(account_id=account(name), **selection)
        return list((await self.call(self.networks.RemoveCoverage, request)).network_ids)

    async def coverage(self, name: str) -> list[str]:
        request = networks_pb2.GetCoverageRequest(account_id=account(name))
        return list((await self.call(self.networks.GetCoverage, request)).network_ids)

    async def search(self, **fields: Any) -> networks_pb2.ListNetworksResponse:
        return await self.call(self.networks.ListNetworks, networks_pb2.ListNetworksRequest(**fields))

    # profiles

    async def set_scope(self, name: str, *services: profiles_pb2.ServiceAccess) -> profiles_pb2.ServiceScope:
        request = profiles_pb2.SetServiceScopeRequest(account_id=account(name), services=services)
        return await self.call(self.profiles.SetServiceScope, request)

    async def new_service_profile(
        self, name: str, *services: profiles_pb2.ServiceAccess, **fields: Any
    ) -> profiles_pb2.ServiceProfile:
        profile = profiles_pb2.ServiceProfile(name=name, services=services, **fields)
        request = profiles_pb2.CreateServiceProfileRequest(service_profile=profile)
        return await self.call(self.profiles.CreateServiceProfile, request)

    async def service_profile(self, profile_id: str) -> profiles_pb2.ServiceProfile:
        request = profiles_pb2.GetServiceProfileRequest(service_profile_id=profile_id)
        return await self.call(self.profiles.GetServiceProfile, request)

    async def change_service_profile(self, profile_id: str, *paths: str, **fields: Any) -> profiles_pb2.ServiceProfile:
        request = profiles_pb2.UpdateServiceProfileRequest(
            service_profile=profiles_pb2.ServiceProfile(id=profile_id, **fields), update_mask=FieldMask(paths=paths)
        )
        return await self.call(self.profiles.UpdateServiceProfile, request)

    async def new_roaming_profile(self, name: str, *networks: str, **fields: Any) -> profiles_pb2.RoamingProfile:
        profile = profiles_pb2.RoamingProfile(name=name, network_ids=networks, **fields)
        request = profiles_pb2.CreateRoamingProfileRequest(roaming_profile=profile)
        return await self.call(self.profiles.CreateRoamingProfile, request)

    async def roaming_profile(self, profile_id: str) -> profiles_pb2.RoamingProfile:
        request = profiles_pb2.GetRoamingProfileRequest(roaming_profile_id=profile_id)
        return await self.call(self.profiles.GetRoamingProfile, request)

    async def change_roaming_profile(self, profile_id: str, *paths: str, **fields: Any) -> profiles_pb2.RoamingProfile:
        request = profiles_pb2.UpdateRoamingProfileRequest(
            roaming_profile=profiles_pb2.RoamingProfile(id=profile_id, **fields), update_mask=FieldMask(paths=paths)
        )
        return await self.call(self.profiles.UpdateRoamingProfile, request)

    # zones and tariffs

    async def new_zone(self, name: str, *networks: str, countries: tuple[str, ...] = (), **fields: Any) -> str:
        zone = tariffs_pb2.RateZone(name=name, network_ids=networks, country_codes=countries, **fields)
        return (await self.call(self.tariffs.CreateRateZone, tariffs_pb2.CreateRateZoneRequest(rate_zone=zone))).id

    async def change_zone(self, zone_id: str, *paths: str, **fields: Any) -> tariffs_pb2.RateZone:
        request = tariffs_pb2.UpdateRateZoneRequest(
            rate_zone=tariffs_pb2.RateZone(id=zone_id, **fields), update_mask=FieldMask(paths=paths)
        )
        return await self.call(self.tariffs.UpdateRateZone, request)

    async def new_tariff(self, name: str, *rates: tariffs_pb2.Rate, **fields: Any) -> tariffs_pb2.Tariff:
        tariff = tariffs_pb2.Tariff(**{"name": name, "currency": "EUR", "rates": rates, **fields})
        return await self.call(self.tariffs.CreateTariff, tariffs_pb2.CreateTariffRequest(tariff=tariff))

    async def change_tariff(self, tariff_id: str, *paths: str, **fields: Any) -> tariffs_pb2.Tariff:
        request = tariffs_pb2.UpdateTariffRequest(
            tariff=tariffs_pb2.Tariff(id=tariff_id, **fields), update_mask=FieldMask(paths=paths)
        )
        return await self.call(self.tariffs.UpdateTariff, request)

    async def publish_tariff(self, tariff_id: str, **fields: Any) -> tariffs_pb2.Tariff:
        return await self.call(
            self.tariffs.PublishTariff, tariffs_pb2.PublishTariffRequest(tariff_id=tariff_id, **fields)
        )

    async def tariff(self, tariff_id: str, version: int = 0) -> tariffs_pb2.Tariff:
        return await self.call(
            self.tariffs.GetTariff, tariffs_pb2.GetTariffRequest(tariff_id=tariff_id, version=version)
        )

    # plans

    async def new_plan(self, **fields: Any) -> plans_pb2.Plan:
        return await self.call(self.plans.CreatePlan, plans_pb2.CreatePlanRequest(plan=plans_pb2.Plan(**fields)))

    async def new_addon(self, profile_id: str, **fields: Any) -> plans_pb2.Plan:
        own = {"name": "Addon", "type": plans_pb2.PLAN_TYPE_ADDON, "service_profile_id": profile_id}
        return await self.new_plan(**{**own, **fields})

    async def change_plan(self, plan_id: str, *paths: str, **fields: Any) -> plans_pb2.Plan:
        request = plans_pb2.UpdatePlanRequest(
            plan=plans_pb2.Plan(id=plan_id, **fields), update_mask=FieldMask(paths=paths)
        )
        return await self.call(self.plans.UpdatePlan, request)

    async def plan(self, plan_id: str, version: int = 0) -> plans_pb2.Plan:
        return await self.call(self.plans.GetPlan, plans_pb2.GetPlanRequest(plan_id=plan_id, version=version))

    async def publish_plan(self, plan_id: str) -> plans_pb2.Plan:
        return await self.call(self.plans.PublishPlan, plans_pb2.PublishPlanRequest(plan_id=plan_id))

    async def clone_plan(self, plan_id: str, name: str, account_id: str = "") -> plans_pb2.Plan:
        request = plans_pb2.ClonePlanRequest(plan_id=plan_id, name=name, account_id=account_id)
        return await self.call(self.plans.ClonePlan, request)

    async def list_plans(self, **fields: Any) -> list[plans_pb2.Plan]:
        return list((await self.call(self.plans.ListPlans, plans_pb2.ListPlansRequest(**fields))).plans)

    # what other services call

    async def provision(self, name: str, currency: str = "EUR") -> charging_catalog_pb2.ProvisionDefaultsResponse:
        request = charging_catalog_pb2.ProvisionDefaultsRequest(
            account_id=account(name), account_path=path(name), currency=currency
        )
        return await self.call(self.charging.ProvisionDefaults, request)

    async def plan_versions(self, *keys: tuple[str, int]) -> charging_catalog_pb2.BatchGetPlanVersionsResponse:
        request = charging_catalog_pb2.BatchGetPlanVersionsRequest(
            keys=[charging_catalog_pb2.PlanVersionKey(plan_id=plan, version=version) for plan, version in keys]
        )
        return await self.call(self.charging.BatchGetPlanVersions, request)


def rate(
    zone: str = "", *, cents: int = 100, services: tuple[int, ...] = (types.SERVICE_DATA,), **fields: Any
) -> tariffs_pb2.Rate:
    """A price per MB in steps of 1000 bytes."""
    own = {"price": eur(0, cents * 10_000) if cents < 100 else eur(cents // 100), "per_quantity": MB, "increment": 1000}
    return tariffs_pb2.Rate(rate_zone_id=zone, services=services, **{**own, **fields})  # type: ignore[arg-type]


async def all_pages(fetch: Callable[[str], Awaitable[Any]], field: str) -> list[list[Any]]:
    """All pages of a list; `fetch` takes a page token."""
    pages, token = [], ""
    while True:
        page = await fetch(token)
        pages.append(list(getattr(page, field)))
        token = page.next_page_token
        if not token:
            return pages


@asynccontextmanager
async def refused(code: str, reason: str, field: str = "") -> AsyncIterator[None]:
    """The block ends in an error with this code and reason, and names the field if one is given."""
    with pytest.raises(MeterlineError) as caught:
        yield
    error = caught.value
    assert (error.code, error.reason) == (code, reason), error.message
    if field:
        assert field in [violation.field for violation in error.violations]


class World:
    """The service and its surroundings; `as_("reseller")` calls it in that account's context."""

    def __init__(self) -> None:
        self.clock = FixedClock(NOW_MS)
        self.address = ""
        self._channel: grpc.aio.Channel

    async def start(self, stack: AsyncExitStack, database_url: str) -> None:
        accounts = Accounts()  # type: ignore[abstract]

        async def resolve_key(_: str) -> Principal:
            raise unauthenticated()

        door = Door("surroundings", Authenticator(TOKENS, resolve_key))
        servicers: list[tuple[object, Adder]] = [
            (accounts, accounts_pb2_grpc.add_AccountServiceServicer_to_server),
            (accounts, identity_pb2_grpc.add_IdentityServiceServicer_to_server),
        ]
        around = await stack.enter_async_context(Server("127.0.0.1:0", door, servicers, ()))
        settings = Settings.model_validate(
            {
                "service_secret": SECRET,
                "accounts_address": f"127.0.0.1:{around.port}",
                "METERLINE_CATALOG_LISTEN": "127.0.0.1:0",
                "METERLINE_CATALOG_DATABASE_URL": database_url,
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

    async def import_networks(self) -> networks_pb2.ImportNetworksResponse:
        """The networks of `NETWORKS`."""
        operator = self.as_("operator")
        networks = [
            networks_pb2.Network(mcc=key[4:7], mnc=key[7:], country_code=country, brand=brand, operational=operational)
            for key, (country, brand, operational) in NETWORKS.items()
        ]
        return await operator.call(
            operator.networks.ImportNetworks, networks_pb2.ImportNetworksRequest(networks=networks)
        )

    async def covered(self) -> charging_catalog_pb2.ProvisionDefaultsResponse:
        """Networks imported, operator and reseller cover all of them, `enterprise` is provisioned."""
        await self.import_networks()
        operator = self.as_("operator")
        await operator.add_coverage("operator", all_networks=True)
        await operator.add_coverage("reseller", all_networks=True)
        return await self.as_service().provision("enterprise")
