"""Accounts beside the real catalog: an enterprise is born ready in one call."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest

from meterline.accounts.v1 import accounts_pb2
from meterline.catalog.v1 import plans_pb2, plans_pb2_grpc, profiles_pb2, profiles_pb2_grpc
from services.accounts import peers
from services.catalog.__main__ import start as start_catalog
from services.catalog.settings import Settings as CatalogSettings
from services.common.clock import SystemClock
from tests import factories
from tests.integration.accounts.world import ENTERPRISE, RESELLER, SECRET, World, free_address


@pytest.mark.requirement("R001", "R003", "R009", "R018", "R021", "R022")
async def test_an_enterprise_has_its_defaults_when_its_creation_is_answered(tmp_path: Path):
    world = World(f"sqlite+aiosqlite:///{tmp_path / 'accounts.sqlite'}")
    catalog_at = free_address()
    async with AsyncExitStack() as stack:
        server = await world.serve(stack, catalog_address=catalog_at)
        settings = {
            "service_secret": SECRET,
            "accounts_address": f"127.0.0.1:{server.port}",
            "METERLINE_CATALOG_LISTEN": catalog_at,
            "METERLINE_CATALOG_DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path / 'catalog.sqlite'}",
        }
        await start_catalog(stack, CatalogSettings.model_validate(settings), SystemClock())
        operator = await world.connect(stack, server.port)
        reseller = await operator.create(RESELLER, operator.account_id)
        enterprise = await operator.create(ENTERPRISE, reseller.id)
        assert enterprise.state == accounts_pb2.ACCOUNT_STATE_ACTIVE
        caller = await world.as_(enterprise.id)
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(catalog_at))
        profiles = profiles_pb2_grpc.ProfileServiceStub(channel)
        plans = plans_pb2_grpc.PlanServiceStub(channel)
        of_caller = profiles_pb2.ListServiceProfilesRequest(account_id=enterprise.id)
        assert [p.name for p in (await caller(profiles.ListServiceProfiles, of_caller)).service_profiles] == ["DEFAULT"]
        roaming = profiles_pb2.ListRoamingProfilesRequest(account_id=enterprise.id)
        assert [p.name for p in (await caller(profiles.ListRoamingProfiles, roaming)).roaming_profiles] == ["DEFAULT"]
        apns = profiles_pb2.ListApnGroupsRequest(account_id=enterprise.id)
        assert [group.name for group in (await caller(profiles.ListApnGroups, apns)).apn_groups] == ["DEFAULT"]
        listed = await caller(plans.ListPlans, plans_pb2.ListPlansRequest(account_id=enterprise.id))
        assert {plan.name for plan in listed.plans} == {"DEFAULT POSTPAID PLAN", "DEFAULT PREPAID PLAN"}
        bare = factories.create_account(ENTERPRISE, reseller.id, activate=False)
        bare.skip_defaults = True
        created = await operator(operator.accounts.CreateAccount, bare)
        readiness = accounts_pb2.GetAccountReadinessRequest(account_id=created.id)
        assert list((await operator(operator.accounts.GetAccountReadiness, readiness)).missing) == [
            "SERVICE_PROFILE_DEFAULT",
            "ROAMING_PROFILE_DEFAULT",
            "APN_GROUP_DEFAULT",
            "PRICE_PLAN_DEFAULT",
        ]


async def test_while_catalog_is_away_no_enterprise_is_born_and_all_else_answers(database_url, monkeypatch):
    monkeypatch.setattr(peers, "DEADLINE_SECONDS", 0.5)
    world = World(database_url)
    async with AsyncExitStack() as stack:
        server = await world.serve(stack, catalog_address=free_address())
        operator = await world.connect(stack, server.port)
        request = factories.create_account(ENTERPRISE, operator.account_id)
        attempts = [operator.refused(operator.accounts.CreateAccount, request) for _ in range(12)]
        waiting = asyncio.gather(*attempts)
        await asyncio.sleep(0.1)  # they wait for the catalog
        for _ in range(20):
            await operator.get(operator.account_id)
            await world.stranger(f"Bearer {world.key}").me()
        assert not waiting.done()
        assert set(await waiting) == {"UNAVAILABLE CATALOG_UNAVAILABLE"}
        await operator.create(RESELLER, operator.account_id)
        assert len(await operator.ids()) == 2
