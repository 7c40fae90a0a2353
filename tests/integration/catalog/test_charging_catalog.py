import asyncio
import time

import grpc
import pytest

from meterline.catalog.v1 import charging_catalog_pb2, networks_pb2, plans_pb2, tariffs_pb2
from meterline.type.v1 import audit_pb2
from meterline.type.v1 import service_pb2 as types
from services.common.ids import derived_id
from tests.integration.catalog.world import NETWORKS, OPERATIONAL, account, rate, refused


@pytest.mark.requirement("R051", "R052")
async def test_plan_versions_come_with_all_that_they_reference(world):
    made = await world.covered()
    enterprise, service = world.as_("enterprise"), world.as_service()
    georgia = await enterprise.new_zone("Georgia", "net_310410", countries=("GE",))
    belgium = await enterprise.new_zone("Belgium", countries=("BE",))
    tariff = await enterprise.new_tariff("Retail", rate(belgium))
    first = await enterprise.publish_tariff(tariff.id)
    await enterprise.change_tariff(tariff.id, rates=[rate(belgium, cents=50)])
    second = await enterprise.publish_tariff(tariff.id)
    await enterprise.change_tariff(tariff.id, rates=[rate(belgium, cents=10)])
    base = await enterprise.new_plan(
        name="Base",
        type=plans_pb2.PLAN_TYPE_BASE,
        charging_mode=plans_pb2.CHARGING_MODE_POSTPAID,
        currency="EUR",
        service_profile_id=made.service_profile_id,
        roaming_profile_id=made.roaming_profile_id,
        tariff_id=tariff.id,
    )
    base = await enterprise.publish_plan(base.id)
    changed = await enterprise.change_plan(base.id, labels=["new"])
    benefit = plans_pb2.Benefit(services=[types.SERVICE_DATA], quantity=1, rate_zone_ids=[georgia])
    addon = await enterprise.new_addon(made.service_profile_id, benefits=[benefit])

    found = await service.plan_versions(
        (base.id, 0),
        (base.id, 1),
        (base.id, 2),
        (base.id, 9),
        (addon.id, 0),
        (addon.id, 1),
        (derived_id("pln", "none"), 0),
    )
    assert [(plan.id, plan.version) for plan in found.plans] == sorted([(base.id, 1), (base.id, 2), (addon.id, 1)])
    assert changed in found.plans
    assert list(found.tariffs) == [first, second]
    zones = {zone.id: list(zone.network_ids) for zone in found.rate_zones}
    assert zones == {
        georgia: ["net_28201", "net_28967", "net_310410"],
        belgium: ["net_20601", "net_20610", "net_20620", "net_20699"],
    }
    assert [profile.id for profile in found.service_profiles] == [made.service_profile_id]
    assert [list(profile.network_ids) for profile in found.roaming_profiles] == [OPERATIONAL]


async def test_a_draft_is_not_the_newest_published_version_and_a_retired_plan_says_so(world):
    made = await world.covered()
    enterprise, service = world.as_("enterprise"), world.as_service()
    addon = await enterprise.new_addon(made.service_profile_id)
    assert not (await service.plan_versions((addon.id, 0))).plans
    await enterprise.publish_plan(addon.id)
    (plan,) = (await service.plan_versions((addon.id, 0))).plans
    assert (plan.account_id, plan.type, plan.state) == (account("enterprise"), 2, plans_pb2.PLAN_STATE_PUBLISHED)
    await enterprise.call(enterprise.plans.RetirePlan, plans_pb2.RetirePlanRequest(plan_id=addon.id))
    for version in (0, 1):
        (plan,) = (await service.plan_versions((addon.id, version))).plans
        assert plan.state == plans_pb2.PLAN_STATE_RETIRED
    assert not (await service.plan_versions()).plans


async def test_networks_and_coverage_come_in_batches(world):
    await world.covered()
    service = world.as_service()
    request = charging_catalog_pb2.BatchGetNetworksRequest()
    everything = await service.call(service.charging.BatchGetNetworks, request)
    assert {network.id for network in everything.networks} == set(NETWORKS)
    request.network_ids.extend(["net_20601", "net_99999"])
    assert len((await service.call(service.charging.BatchGetNetworks, request)).networks) == 1
    accounts = [account(name) for name in ("enterprise", "reseller", "sibling", "nobody")]
    found = await service.call(
        service.charging.BatchGetCoverage, charging_catalog_pb2.BatchGetCoverageRequest(account_ids=accounts)
    )
    assert {coverage.account_id: list(coverage.network_ids) for coverage in found.coverages} == {
        account("enterprise"): OPERATIONAL,
        account("reseller"): OPERATIONAL,
    }


class Watcher:
    """Reads the change feed from where it starts."""

    def __init__(self, client):
        request = charging_catalog_pb2.WatchCatalogChangesRequest(from_cursor=-1)
        self._stream = client.charging.WatchCatalogChanges(request, metadata=client.metadata)

    async def started(self):
        first = await self._stream.read()
        assert first.resource_type == ""
        return self

    async def next(self, count):
        seen: set[tuple[str, str]] = set()
        while len(seen) < count:
            change = await asyncio.wait_for(self._stream.read(), 10)
            if change.resource_type:
                seen.add((change.resource_type, change.resource_id))
        return seen

    def stop(self):
        self._stream.cancel()


async def test_the_feed_names_what_rating_has_to_drop(world):
    made = await world.covered()
    enterprise, reseller, operator = world.as_("enterprise"), world.as_("reseller"), world.as_("operator")
    custom = await enterprise.new_roaming_profile("Custom", "net_20601", "net_26201")
    zone = await enterprise.new_zone("Belgium", countries=("BE",))
    other = await enterprise.new_zone("Germany", "net_26201")
    watcher = await Watcher(world.as_service()).started()

    await reseller.remove_coverage("enterprise", network_ids=["net_26201"])
    assert await watcher.next(3) == {
        ("coverage", account("enterprise")),
        ("roaming_profile", made.roaming_profile_id),
        ("roaming_profile", custom.id),
    }
    await reseller.add_coverage("enterprise", network_ids=["net_26201"])
    assert await watcher.next(2) == {
        ("coverage", account("enterprise")),
        ("roaming_profile", made.roaming_profile_id),
    }
    network = networks_pb2.Network(mcc="206", mnc="05", country_code="BE", operational=True)
    await operator.call(operator.networks.ImportNetworks, networks_pb2.ImportNetworksRequest(networks=[network]))
    assert await watcher.next(2) == {("network", "net_20605"), ("rate_zone", zone)}
    await enterprise.change_zone(other, network_ids=["net_26202"])
    assert await watcher.next(1) == {("rate_zone", other)}
    scope = [s for s in (await enterprise.service_profile(made.service_profile_id)).services if s.service == 1]
    await reseller.set_scope("enterprise", *scope)
    assert await watcher.next(2) == {
        ("service_scope", account("enterprise")),
        ("service_profile", made.service_profile_id),
    }
    tariff = await enterprise.new_tariff("Retail", rate(zone))
    await enterprise.publish_tariff(tariff.id)
    await enterprise.change_plan(made.prepaid_plan_id, labels=["x"])
    assert await watcher.next(2) == {("tariff", tariff.id), ("plan", made.prepaid_plan_id)}
    watcher.stop()


async def test_a_refused_write_leaves_no_change(small_world):
    await small_world.covered()
    reseller = small_world.as_("reseller")
    watcher = await Watcher(small_world.as_service()).started()
    async with refused("FAILED_PRECONDITION", "NETWORK_NOT_IN_PARENT_COVERAGE"):
        await reseller.add_coverage("enterprise", network_ids=["net_99999"])
    zone = await reseller.new_zone("BE", countries=("BE",))
    assert await watcher.next(1) == {("rate_zone", zone)}
    watcher.stop()


async def test_every_write_has_an_audit_entry_with_before_and_after(world):
    await world.covered()
    reseller = world.as_("reseller")
    zone = await reseller.new_zone("Old name", countries=("BE",))
    await reseller.change_zone(zone, name="New name")
    await reseller.call(reseller.tariffs.DeleteRateZone, tariffs_pb2.DeleteRateZoneRequest(rate_zone_id=zone))
    request = audit_pb2.ListAuditEntriesRequest(resource_id=zone)
    entries = (await reseller.call(reseller.audit.ListAuditEntries, request)).audit_entries
    names = [tuple(dict(state).get("name", "") for state in (e.before, e.after)) for e in entries]
    assert names == [("New name", ""), ("Old name", "New name"), ("", "Old name")]
    assert entries[0].method == "meterline.catalog.v1.TariffService/DeleteRateZone"
    assert not (await world.as_("stranger").call(world.as_("stranger").audit.ListAuditEntries, request)).audit_entries


async def test_a_thousand_plans_are_read_at_once(small_world):
    made = await small_world.covered()
    enterprise, service = small_world.as_("enterprise"), small_world.as_service()
    plan = (await enterprise.publish_plan((await enterprise.new_addon(made.service_profile_id)).id)).id
    for number in range(20):
        await enterprise.change_plan(plan, description=str(number))
    started = time.perf_counter()
    found = await service.plan_versions(*((plan, 1 + number % 21) for number in range(1000)))
    assert len(found.plans) == 21
    assert time.perf_counter() - started < 1
    with pytest.raises(Exception, match="1001 elements"):
        await service.plan_versions(*((plan, 1) for _ in range(1001)))


async def test_an_api_key_is_asked_of_accounts(small_world):
    channel = grpc.aio.insecure_channel(small_world.address)
    client = small_world.as_("operator")
    method = type(client.networks)(channel).ListNetworks
    known = await method(networks_pb2.ListNetworksRequest(), metadata=(("authorization", "Bearer mk_operator"),))
    assert not known.networks
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await method(networks_pb2.ListNetworksRequest(), metadata=(("authorization", "Bearer mk_nobody"),))
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
    await channel.close()
