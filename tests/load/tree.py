"""The tree that the benchmark charges: three steps, each with a limit or a balance, in one currency."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.type.money_pb2 import Money

from meterline.accounts.v1 import accounts_pb2, accounts_pb2_grpc, companies_pb2, identity_pb2, identity_pb2_grpc
from meterline.catalog.v1 import (
    networks_pb2,
    networks_pb2_grpc,
    plans_pb2,
    plans_pb2_grpc,
    profiles_pb2,
    profiles_pb2_grpc,
    tariffs_pb2,
    tariffs_pb2_grpc,
)
from meterline.endpoints.v1 import (
    assignments_pb2,
    assignments_pb2_grpc,
    endpoints_pb2,
    endpoints_pb2_grpc,
    sims_pb2,
    sims_pb2_grpc,
)
from meterline.type.v1 import service_pb2

BATCH = 1000
VOLUME = 1 << 50
LIMIT_EUR = 1_000_000_000
SERVICES = [service_pb2.SERVICE_DATA, service_pb2.SERVICE_SMS_MO]
ACCESS_TYPES = [service_pb2.ACCESS_TYPE_4G, service_pb2.ACCESS_TYPE_5G]
NETWORK = "net_20601"


@dataclass(frozen=True, slots=True)
class Tree:
    """What was built."""

    enterprise_id: str
    enterprise_key: str
    endpoint_ids: Sequence[str]


def luhn(digits: str) -> str:
    """Append the check digit of ITU-T E.118 to the digits of an ICCID."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        doubled = int(digit) * (2 if place % 2 == 0 else 1)
        total += doubled - 9 if doubled > 9 else doubled
    return f"{digits}{-total % 10}"


class Builder:
    """Builds the tree over gRPC.

    Args:
        addresses: host:port by service.
        key: the operator's API key.
    """

    def __init__(self, addresses: dict[str, str], key: str) -> None:
        self._channels = {name: grpc.aio.insecure_channel(address) for name, address in addresses.items()}
        self._key = key

    async def call(self, service: str, stub: Any, method: str, request: Any, key: str = "") -> Any:
        """Call a method in the context of a key, the operator's if left out."""
        bound = getattr(stub(self._channels[service]), method)
        return await bound(request, metadata=(("authorization", f"Bearer {key or self._key}"),), timeout=60)

    async def close(self) -> None:
        """Close the channels."""
        await asyncio.gather(*(channel.close() for channel in self._channels.values()))

    async def account(self, kind: int, parent_id: str, name: str) -> accounts_pb2.Account:
        """Create an ACTIVE account with a large credit limit."""
        company = companies_pb2.Company(
            name=name,
            type=companies_pb2.COMPANY_TYPE_CUSTOMER,
            phone_number="+3225476111",
            address=companies_pb2.Address(country="BE", city="Brussels", street="Main", number="1"),
        )
        account = accounts_pb2.Account(
            kind=kind,  # type: ignore[arg-type]
            parent_id=parent_id,
            name=name,
            currency="EUR",
            credit_limit=Money(currency_code="EUR", units=LIMIT_EUR),
        )
        request = accounts_pb2.CreateAccountRequest(account=account, company=company, activate=True)
        created: accounts_pb2.Account = await self.call(
            "accounts", accounts_pb2_grpc.AccountServiceStub, "CreateAccount", request
        )
        return created

    async def key(self, account_id: str) -> str:
        """Make an API key of an account."""
        api_key = identity_pb2.ApiKey(account_id=account_id, name="load", role=identity_pb2.ROLE_ADMIN)
        request = identity_pb2.CreateApiKeyRequest(api_key=api_key)
        made = await self.call("accounts", identity_pb2_grpc.IdentityServiceStub, "CreateApiKey", request)
        credential: str = made.credential
        return credential

    async def plan(self, owner: str, name: str, price_per_gb: int, child: str = "") -> str:
        """Publish a postpaid plan with a tariff and, if a child is named, assign it as the price to it."""
        profile = profiles_pb2.ServiceProfile(
            account_id=owner,
            name=name,
            services=[profiles_pb2.ServiceAccess(service=s, access_types=ACCESS_TYPES) for s in SERVICES],
        )
        stub = profiles_pb2_grpc.ProfileServiceStub
        made = await self.call(
            "catalog", stub, "CreateServiceProfile", profiles_pb2.CreateServiceProfileRequest(service_profile=profile)
        )
        rate = tariffs_pb2.Rate(
            services=SERVICES, price=Money(currency_code="EUR", units=price_per_gb), per_quantity=10**9
        )
        tariff = await self.call(
            "catalog",
            tariffs_pb2_grpc.TariffServiceStub,
            "CreateTariff",
            tariffs_pb2.CreateTariffRequest(
                tariff=tariffs_pb2.Tariff(account_id=owner, name=name, currency="EUR", rates=[rate])
            ),
        )
        publish = tariffs_pb2.PublishTariffRequest(tariff_id=tariff.id)
        await self.call("catalog", tariffs_pb2_grpc.TariffServiceStub, "PublishTariff", publish)
        plan = plans_pb2.Plan(
            account_id=owner,
            name=name,
            type=plans_pb2.PLAN_TYPE_BASE,
            charging_mode=plans_pb2.CHARGING_MODE_POSTPAID,
            currency="EUR",
            service_profile_id=made.id,
            tariff_id=tariff.id,
        )
        plan_id = await self._publish(plan)
        if child:
            request = assignments_pb2.AssignAccountPlanRequest(account_id=child, plan_id=plan_id)
            await self.call("endpoints", assignments_pb2_grpc.AssignmentServiceStub, "AssignAccountPlan", request)
        return plan_id

    async def _publish(self, plan: plans_pb2.Plan, key: str = "") -> str:
        stub = plans_pb2_grpc.PlanServiceStub
        created = await self.call("catalog", stub, "CreatePlan", plans_pb2.CreatePlanRequest(plan=plan), key)
        await self.call("catalog", stub, "PublishPlan", plans_pb2.PublishPlanRequest(plan_id=created.id), key)
        plan_id: str = created.id
        return plan_id

    async def addon(self, key: str, profile_id: str) -> str:
        """Publish an add-on that never ends."""
        benefit = plans_pb2.Benefit(services=[service_pb2.SERVICE_DATA], quantity=VOLUME)
        plan = plans_pb2.Plan(
            name="Endless",
            type=plans_pb2.PLAN_TYPE_ADDON,
            currency="EUR",
            service_profile_id=profile_id,
            benefits=[benefit],
        )
        return await self._publish(plan, key)

    async def tree(self, endpoints: int) -> Tree:
        """Build operator, reseller, enterprise and its endpoints."""
        me = await self.call("accounts", identity_pb2_grpc.IdentityServiceStub, "GetMe", identity_pb2.GetMeRequest())
        network = networks_pb2.Network(mcc="206", mnc="01", country_code="BE", operator="Proximus", operational=True)
        networks = networks_pb2_grpc.NetworkServiceStub
        await self.call("catalog", networks, "ImportNetworks", networks_pb2.ImportNetworksRequest(networks=[network]))
        operator: str = me.account_id
        reseller = await self.account(accounts_pb2.ACCOUNT_KIND_RESELLER, operator, "Reseller")
        for account_id in (operator, reseller.id):
            cover = networks_pb2.ChangeCoverageRequest(account_id=account_id, all_networks=True)
            await self.call("catalog", networks, "AddCoverage", cover)
        enterprise = await self.account(accounts_pb2.ACCOUNT_KIND_ENTERPRISE, reseller.id, "Enterprise")
        await self.plan(operator, "wholesale", 1, reseller.id)
        reseller_key, key = await self.key(reseller.id), await self.key(enterprise.id)
        operator_key, self._key = self._key, reseller_key
        await self.plan(reseller.id, "retail", 2, enterprise.id)
        self._key = operator_key
        listed = await self.call(
            "catalog",
            profiles_pb2_grpc.ProfileServiceStub,
            "ListServiceProfiles",
            profiles_pb2.ListServiceProfilesRequest(),
            key,
        )
        addon_id = await self.addon(key, listed.service_profiles[0].id)
        return Tree(enterprise.id, key, await self._endpoints(enterprise.id, key, addon_id, endpoints))

    async def _endpoints(self, enterprise_id: str, key: str, addon_id: str, count: int) -> list[str]:
        created: list[str] = []
        for start in range(0, count, BATCH):
            numbers = range(start, min(start + BATCH, count))
            sims = [sims_pb2.Sim(iccid=luhn(f"8932010{number:011d}"), imsi=f"20601{number:010d}") for number in numbers]
            imported = await self.call(
                "endpoints",
                sims_pb2_grpc.SimServiceStub,
                "ImportSims",
                sims_pb2.ImportSimsRequest(sims=sims, account_id=enterprise_id),
            )
            requests = [
                endpoints_pb2.CreateEndpointRequest(
                    endpoint=endpoints_pb2.Endpoint(name=f"device {number}", sim_id=sim.id),
                    addon_plan_ids=[addon_id],
                    activate=True,
                )
                for number, sim in zip(numbers, imported.sims, strict=True)
            ]
            answer = await self.call(
                "endpoints",
                endpoints_pb2_grpc.EndpointServiceStub,
                "BatchCreateEndpoints",
                endpoints_pb2.BatchCreateEndpointsRequest(requests=requests),
                key,
            )
            created += [endpoint.id for endpoint in answer.endpoints]
        return created
