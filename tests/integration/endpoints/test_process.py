"""The endpoints process among the real accounts and catalog processes."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc
import pytest
import pytest_asyncio
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc

from meterline.accounts.v1 import accounts_pb2, accounts_pb2_grpc, companies_pb2, identity_pb2, identity_pb2_grpc
from meterline.catalog.v1 import plans_pb2, plans_pb2_grpc, profiles_pb2, profiles_pb2_grpc
from meterline.endpoints.v1 import (
    assignments_pb2,
    assignments_pb2_grpc,
    endpoints_pb2,
    endpoints_pb2_grpc,
    sims_pb2,
    sims_pb2_grpc,
)
from services.common.ids import new_id
from services.runtime import children
from services.runtime.statuses import from_rpc_error
from tests.integration.endpoints.world import iccid

M = TypeVar("M", bound=Message)

OPERATOR_KEY = f"mk_{new_id('key').removeprefix('key_')}_{'k' * 43}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class System:
    """Three services as processes; `call` speaks to one of them with an API key."""

    environment: dict[str, str]
    channels: dict[str, grpc.aio.Channel]
    processes: dict[str, asyncio.subprocess.Process]

    async def start(self, name: str) -> None:
        self.processes[name] = await asyncio.create_subprocess_exec(
            sys.executable, "-m", f"services.{name}", env=self.environment, preexec_fn=children.dying_with_parent()
        )

    async def serving(self, name: str) -> None:
        health = health_pb2_grpc.HealthStub(self.channels[name])
        await health.Check(  # type: ignore[attr-defined] # its stubs leave it out
            health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=30
        )

    async def call(self, key: str, method: "grpc.aio.UnaryUnaryMultiCallable[Any, M]", request: Message) -> M:
        try:
            return await method(request, metadata=(("authorization", f"Bearer {key}"),), timeout=20)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error


@pytest_asyncio.fixture
async def system(tmp_path: Path) -> AsyncIterator[System]:
    environment = {
        **os.environ,
        "METERLINE_SERVICE_SECRET": "s" * 40,
        "METERLINE_BOOTSTRAP_OPERATOR_KEY": OPERATOR_KEY,
        "METERLINE_RATING_ADDRESS": f"127.0.0.1:{free_port()}",  # nobody is there
    }
    made = System(environment, {}, {})
    async with AsyncExitStack() as stack:
        for name in ("accounts", "catalog", "endpoints"):
            address = f"127.0.0.1:{free_port()}"
            environment[f"METERLINE_{name.upper()}_ADDRESS"] = environment[f"METERLINE_{name.upper()}_LISTEN"] = address
            environment[f"METERLINE_{name.upper()}_DATABASE_URL"] = f"sqlite+aiosqlite:///{tmp_path / name}.sqlite"
            made.channels[name] = grpc.aio.insecure_channel(address)
            stack.push_async_callback(made.channels[name].close)
        for name in made.channels:
            await made.start(name)
        try:
            await asyncio.gather(*(made.serving(name) for name in made.channels))
            yield made
        finally:
            for process in made.processes.values():
                await children.stop(process, 5)


async def account(system: System, key: str, kind: str, parent_id: str) -> tuple[str, str]:
    """Id and key of a new account below the caller's."""
    accounts = accounts_pb2_grpc.AccountServiceStub(system.channels["accounts"])
    identity = identity_pb2_grpc.IdentityServiceStub(system.channels["accounts"])
    company = companies_pb2.Company(
        name=f"{kind} Ltd",
        type=companies_pb2.COMPANY_TYPE_CUSTOMER,
        phone_number="+3222000000",
        address=companies_pb2.Address(country="BE", city="Brussels", street="Rue Royale", number="1"),
    )
    made = await system.call(
        key,
        accounts.CreateAccount,
        accounts_pb2.CreateAccountRequest(
            account=accounts_pb2.Account(
                kind=accounts_pb2.AccountKind.Value(f"ACCOUNT_KIND_{kind}"), parent_id=parent_id, name=kind
            ),
            company=company,
            activate=True,
        ),
    )
    request = identity_pb2.CreateApiKeyRequest(
        api_key=identity_pb2.ApiKey(account_id=made.id, name="test", role=identity_pb2.ROLE_ADMIN)
    )
    return made.id, (await system.call(key, identity.CreateApiKey, request)).credential


@pytest.mark.requirement("R031", "R088", "R259", "R262", "R267", "R280", "R282")
async def test_sims_go_down_and_endpoints_get_the_default_prepaid_plan_and_add_ons(system):
    identity = identity_pb2_grpc.IdentityServiceStub(system.channels["accounts"])
    operator = (await system.call(OPERATOR_KEY, identity.GetMe, identity_pb2.GetMeRequest())).account_id
    reseller, reseller_key = await account(system, OPERATOR_KEY, "RESELLER", operator)
    enterprise, key = await account(system, reseller_key, "ENTERPRISE", reseller)

    sims = sims_pb2_grpc.SimServiceStub(system.channels["endpoints"])
    imported = await system.call(
        reseller_key,
        sims.ImportSims,
        sims_pb2.ImportSimsRequest(sims=[sims_pb2.Sim(iccid=iccid(1), imsi="206010000000001")], account_id=enterprise),
    )
    endpoints = endpoints_pb2_grpc.EndpointServiceStub(system.channels["endpoints"])
    create = endpoints_pb2.CreateEndpointRequest(
        endpoint=endpoints_pb2.Endpoint(sim_id=imported.sims[0].id), activate=True
    )
    made = await system.call(key, endpoints.CreateEndpoint, create)
    assert made.enterprise_id == enterprise
    plans = plans_pb2_grpc.PlanServiceStub(system.channels["catalog"])
    default = await system.call(key, plans.GetPlan, plans_pb2.GetPlanRequest(plan_id=made.base_assignment.plan_id))
    assert (default.name, default.charging_mode) == ("DEFAULT PREPAID PLAN", plans_pb2.CHARGING_MODE_PREPAID)

    profiles = profiles_pb2_grpc.ProfileServiceStub(system.channels["catalog"])
    (apn_group,) = (await system.call(key, profiles.ListApnGroups, profiles_pb2.ListApnGroupsRequest())).apn_groups
    assert made.apn_group_id == apn_group.id
    renamed = endpoints_pb2.UpdateEndpointRequest(
        endpoint=endpoints_pb2.Endpoint(id=made.id, name="pump", apn_group_id=apn_group.id)
    )
    assert (await system.call(key, endpoints.UpdateEndpoint, renamed)).name == "pump"

    plan = plans_pb2.Plan(name="100 MB", type=plans_pb2.PLAN_TYPE_ADDON, service_profile_id=default.service_profile_id)
    plan.benefits.add(services=["SERVICE_DATA"], quantity=100_000_000)
    draft = await system.call(key, plans.CreatePlan, plans_pb2.CreatePlanRequest(plan=plan))
    assignments = assignments_pb2_grpc.AssignmentServiceStub(system.channels["endpoints"])
    assign = assignments_pb2.AssignEndpointAddonRequest(endpoint_id=made.id, plan_id=draft.id)
    with pytest.raises(Exception, match="PLAN_NOT_PUBLISHED"):
        await system.call(key, assignments.AssignEndpointAddon, assign)
    await system.call(key, plans.PublishPlan, plans_pb2.PublishPlanRequest(plan_id=draft.id))
    assigned = await system.call(key, assignments.AssignEndpointAddon, assign)
    assert (assigned.plan_id, assigned.plan_version) == (draft.id, 1)

    with pytest.raises(Exception, match="ACCOUNT_KIND_NOT_PERMITTED"):
        await system.call(reseller_key, endpoints.CreateEndpoint, create)

    assert await children.stop(system.processes["endpoints"], 10) == 0
    await system.start("endpoints")
    await system.serving("endpoints")
    kept = await system.call(key, endpoints.GetEndpoint, endpoints_pb2.GetEndpointRequest(endpoint_id=made.id))
    assert (kept.name, kept.state) == ("pump", endpoints_pb2.ENDPOINT_STATE_ACTIVE)
