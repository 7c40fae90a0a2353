"""How rating comes to know the terms of endpoints that it has not seen before."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from meterline.accounts.v1 import accounts_pb2
from meterline.catalog.v1 import charging_catalog_pb2
from meterline.endpoints.v1 import charging_context_pb2
from meterline.rating.v1 import charging_pb2
from services.common.errors import UnavailableError
from services.runtime.channels import Channel
from tests.system.launching import System
from tests.system.market import MB, Market, default_of, plan, tariff, usage, zone
from tests.system.replay import view_of
from tests.system.stranger import Json

NOBODY = f"ep_{'0' * 26}"


class Watched(Channel):
    """Counts the calls by what they ask, and does something of a test's beside the next of a kind."""

    asked: ClassVar[Counter[str]] = Counter()
    beside: ClassVar[dict[str, Callable[[], None]]] = {}

    async def call(self, method: Any, request: Any, **options: Any) -> Any:
        """Pass a call on."""
        kind = type(request).__name__.removesuffix("Request")
        Watched.asked[kind] += 1
        answer = await super().call(method, request, **options)
        Watched.beside.pop(kind, lambda: None)()
        return answer


def fail() -> None:
    """Fail the call beside which it is done."""
    raise UnavailableError("AWAY", "It is away.")


async def test_who_comes_while_others_are_loaded_is_loaded_with_all_who_wait(system: System, market: Market):
    names = await market.endpoints(30)
    Watched.asked.clear()
    async with view_of(system, Watched) as view:
        *found, absent = await asyncio.gather(*(view.load([name]) for name in names), view.load([NOBODY, names[0]]))
        assert (found, absent) == ([set()] * len(names), {NOBODY})
        assert {view.known[name].terms.id for name in names} == set(names)
        assert len({id(view.known[name].chain) for name in names}) == 1
    assert Watched.asked["BatchGetEndpointContexts"] == 1
    assert Watched.asked.total() <= 9, "one chain: what each call asks, once"


async def test_a_caller_who_goes_away_spoils_no_other_and_a_failure_is_told_to_each_who_waits(
    system: System, market: Market
):
    first, second = await market.endpoints(2)
    async with view_of(system, Watched) as view:
        gone, stays = (asyncio.create_task(view.load([name])) for name in (first, second))
        await asyncio.sleep(0)
        gone.cancel()
        assert await stays == set()
        assert first in view.known
        view.known.clear()
        view.endpoints.clear()
        Watched.beside["BatchGetEndpointContexts"] = fail
        told = await asyncio.gather(view.load([first]), view.load([second]), return_exceptions=True)
        assert [type(each) for each in told] == [UnavailableError] * 2
        assert await view.load([first, second]) == set()


async def test_what_is_answered_is_charged_by(system: System, market: Market):
    """A change of an account or of the catalogue is known to charging when its answer is there."""
    account, (name,) = f"/v1/accounts/{market.enterprise.account_id}", await market.endpoints(1)
    changes: tuple[tuple[str, Json, int], ...] = (
        (f"{account}:suspend", {}, charging_pb2.REASON_ACCOUNT_NOT_ACTIVE),
        (f"{account}:resume", {}, charging_pb2.REASON_NO_VALID_ADDON),
        (f"{account}/coverage:remove", {"country_codes": ["BE"]}, charging_pb2.REASON_NETWORK_NOT_ALLOWED),
        (f"{account}/coverage:add", {"country_codes": ["BE"]}, charging_pb2.REASON_NO_VALID_ADDON),
    )
    for path, body, reason in changes * 5:
        await market.reseller.post(path, body)
        assert (await market.operator.charge_one(usage(name, MB))).reason == reason, path


def catalog_change(kind: str, name: str) -> charging_catalog_pb2.WatchCatalogChangesResponse:
    return charging_catalog_pb2.WatchCatalogChangesResponse(resource_type=kind, resource_id=name)


async def test_a_change_of_the_catalogue_is_asked_for_by_those_whom_it_concerns(system: System, market: Market):
    zone_id = await zone(market.enterprise, ["BE"])
    profile_id = (await default_of(market.enterprise, "service-profiles", "DEFAULT"))["id"]
    roaming_id = (await default_of(market.enterprise, "roaming-profiles", "DEFAULT"))["id"]
    base = await plan(
        market.enterprise, type="PLAN_TYPE_BASE", charging_mode="CHARGING_MODE_POSTPAID",
        tariff_id=await tariff(market.enterprise, zone_id, 5),
        service_profile_id=profile_id, roaming_profile_id=roaming_id,
    )  # fmt: skip
    (name,) = await market.endpoints(1, base)
    tariff_id = (await market.enterprise.get(f"/v1/plans/{base}"))["tariff_id"]
    nobodys = {
        "rate_zone": "zon",
        "tariff": "tar",
        "service_profile": "svp",
        "roaming_profile": "rop",
        "coverage": "acc",
    }
    ours = {
        "rate_zone": zone_id, "tariff": tariff_id, "service_profile": profile_id, "roaming_profile": roaming_id,
        "coverage": market.reseller.account_id, "network": "net_20601",
    }  # fmt: skip
    async with view_of(system, Watched) as view:
        feed = next(each for each in view.feeds if each.name == "catalog")
        assert await view.load([name]) == set()
        known = view.known[name]
        for kind, prefix in [*nobodys.items(), ("plan", "pln"), ("apn_group", "apn")]:
            feed.apply(catalog_change(kind, f"{prefix}_{'0' * 26}"))
            assert view.known.get(name) is known, kind
            assert market.enterprise.account_id in known.chain.catalog.coverage, kind
        for kind, changed in ours.items():
            Watched.asked.clear()
            feed.apply(catalog_change(kind, changed))
            assert name not in view.known, kind
            assert known.terms.plans <= known.chain.catalog.plans.keys(), "who works with it goes on with what he has"
            assert await view.load([name]) == set()
            known = view.known[name]
            assert Watched.asked["BatchGetPlanVersions"] == (kind != "coverage"), kind
            assert Watched.asked["BatchGetCoverage"] == (kind in {"coverage", "network"}), kind


@pytest.mark.parametrize(
    ("beside", "change", "again"),
    [
        ("BatchGetCoverage", "enterprise", {"BatchGetAccountAssignments": 2, "BatchGetEndpointContexts": 1}),
        ("BatchGetAccountAssignments", "operator", {"BatchGetAccountAssignments": 2, "BatchGetEndpointContexts": 1}),
        ("BatchGetAccountAssignments", "stranger", {"BatchGetAccountAssignments": 1, "BatchGetEndpointContexts": 1}),
        ("BatchGetEndpointContexts", "endpoint", {"BatchGetAccountAssignments": 1, "BatchGetEndpointContexts": 2}),
        ("BatchGetEndpointContexts", "enterprise", {"BatchGetAccountAssignments": 1, "BatchGetEndpointContexts": 2}),
        ("BatchGetCoverage", "network", {"BatchGetAccountAssignments": 2, "BatchGetNetworks": 2}),
        ("BatchGetPlanVersions", "network", {"BatchGetAccountAssignments": 2, "BatchGetNetworks": 2}),
        ("BatchGetCoverage", "coverage", {"BatchGetAccountAssignments": 1, "BatchGetCoverage": 2}),
        ("BatchGetPlanVersions", "profile", {"BatchGetAccountAssignments": 1, "BatchGetPlanVersions": 2}),
        ("BatchGetPlanVersions", "tariff", {"BatchGetAccountAssignments": 1, "BatchGetPlanVersions": 1}),
        ("BatchGetPlanVersions", "zone", {"BatchGetAccountAssignments": 1, "BatchGetPlanVersions": 1}),
    ],
)
async def test_what_changes_while_it_is_loaded_is_asked_again_and_nothing_else(
    system: System, market: Market, beside: str, change: str, again: dict[str, int]
):
    (name,) = await market.endpoints(1)
    changed = {
        "enterprise": charging_context_pb2.WatchEndpointChangesResponse(account_id=market.enterprise.account_id),
        "operator": accounts_pb2.WatchAccountChangesResponse(
            account=accounts_pb2.Account(id=market.operator.account_id)
        ),
        "stranger": charging_context_pb2.WatchEndpointChangesResponse(account_id=f"acc_{'0' * 26}"),
        "endpoint": charging_context_pb2.WatchEndpointChangesResponse(endpoint_id=name),
        "network": catalog_change("network", "net_20601"),
        "coverage": catalog_change("coverage", f"acc_{'0' * 26}"),
        "profile": catalog_change(
            "service_profile", (await default_of(market.enterprise, "service-profiles", "DEFAULT"))["id"]
        ),
        "tariff": catalog_change("tariff", f"tar_{'0' * 26}"),
        "zone": catalog_change("rate_zone", f"zon_{'0' * 26}"),
    }[change]
    Watched.asked.clear()
    async with view_of(system, Watched) as view:
        feeds = dict(zip(("accounts", "catalog", "endpoints"), view.feeds, strict=True))
        is_catalog = isinstance(changed, charging_catalog_pb2.WatchCatalogChangesResponse)
        feed = feeds["accounts" if change == "operator" else "catalog" if is_catalog else "endpoints"]
        Watched.beside[beside] = lambda: feed.apply(changed)
        assert await view.load([name]) == set()
        assert name in view.known
    assert not Watched.beside
    assert {kind: Watched.asked[kind] for kind in again} == again
