import asyncio

import pytest

from meterline.catalog.v1 import networks_pb2, plans_pb2
from meterline.type.v1 import service_pb2 as types
from services.common.identity import Role
from tests.integration.catalog.world import NETWORKS, OPERATIONAL, account, all_pages, refused


async def test_networks_are_imported_once_and_updated_after(world):
    first = await world.import_networks()
    assert (first.created_count, first.updated_count, first.unchanged_count) == (len(NETWORKS), 0, 0)
    again = await world.import_networks()
    assert (again.created_count, again.updated_count, again.unchanged_count) == (0, 0, len(NETWORKS))
    operator = world.as_("operator")
    network = networks_pb2.Network(
        mcc="206",
        mnc="01",
        country_code="BE",
        brand="Renamed",
        access_types=[types.ACCESS_TYPE_4G, types.ACCESS_TYPE_3G],
        operational=True,
    )
    changed = await operator.call(
        operator.networks.ImportNetworks, networks_pb2.ImportNetworksRequest(networks=[network])
    )
    assert changed.updated_count == 1
    found = await operator.call(operator.networks.GetNetwork, networks_pb2.GetNetworkRequest(network_id="net_20601"))
    assert (found.brand, list(found.access_types)) == ("Renamed", [2, 3])


async def test_a_bad_network_refuses_the_whole_import(small_world):
    operator = small_world.as_("operator")
    good = networks_pb2.Network(mcc="206", mnc="01", country_code="BE")
    bad = networks_pb2.Network(mcc="20", mnc="0", country_code="Belgium", access_types=[types.ACCESS_TYPE_UNSPECIFIED])
    async with refused("INVALID_ARGUMENT", "FIELD_INVALID", "networks[1].mnc"):
        await operator.call(operator.networks.ImportNetworks, networks_pb2.ImportNetworksRequest(networks=[good, bad]))
    async with refused("INVALID_ARGUMENT", "NETWORK_TWICE", "networks[1]"):
        await operator.call(operator.networks.ImportNetworks, networks_pb2.ImportNetworksRequest(networks=[good, good]))
    assert not (await operator.search()).networks


async def test_only_the_operator_imports_networks(small_world):
    request = networks_pb2.ImportNetworksRequest(
        networks=[networks_pb2.Network(mcc="206", mnc="01", country_code="BE")]
    )
    for name in ("reseller", "enterprise"):
        client = small_world.as_(name)
        async with refused("PERMISSION_DENIED", "ACCOUNT_KIND_NOT_PERMITTED"):
            await client.call(client.networks.ImportNetworks, request)
    viewer = small_world.as_("operator", Role.VIEWER)
    async with refused("PERMISSION_DENIED", "ROLE_NOT_PERMITTED"):
        await viewer.call(viewer.networks.ImportNetworks, request)


async def test_networks_are_listed_by_country_and_found_by_name_or_number(world):
    await world.import_networks()
    operator = world.as_("operator")
    pages = await all_pages(lambda token: operator.search(page_size=3, page_token=token), "networks")
    assert [len(page) for page in pages] == [3, 3, 2]
    listed = [network.id for page in pages for network in page]
    assert listed == sorted(OPERATIONAL, key=lambda key: (NETWORKS[key][0], key))

    async def found(**search):
        return {network.id for network in (await operator.search(**search)).networks}

    assert await found(country_code="ge") == {"net_28201", "net_28967"}
    assert await found(country_code="GE-AB") == {"net_28967"}
    assert await found(query="PROXI") == {"net_20601"}
    assert await found(query="310-410") == await found(query="310410") == {"net_310410"}
    assert await found(query="AT&") == {"net_310410"}
    assert await found(query="_") == await found(query="%") == set()
    assert await found(query="closed") == set()
    assert await found(query="closed", include_not_operational=True) == {"net_20699"}


async def test_a_page_token_of_another_list_is_refused(small_world):
    await small_world.import_networks()
    operator = small_world.as_("operator")
    token = (await operator.search(page_size=1)).next_page_token
    async with refused("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID", "page_token"):
        await operator.call(operator.plans.ListPlans, plans_pb2.ListPlansRequest(page_token=token))


async def test_an_account_sees_the_networks_that_it_covers(world):
    await world.covered()
    await world.as_("reseller").remove_coverage("enterprise", country_codes=["BE"])
    for name in ("enterprise", "sub"):
        client = world.as_(name)
        assert {n.id for n in (await client.search(include_not_operational=True)).networks} == set(OPERATIONAL) - {
            "net_20601",
            "net_20610",
            "net_20620",
        }
        async with refused("NOT_FOUND", "NETWORK_NOT_FOUND"):
            await client.call(client.networks.GetNetwork, networks_pb2.GetNetworkRequest(network_id="net_20601"))


async def test_a_child_covers_only_what_its_parent_covers(world):
    await world.import_networks()
    operator, reseller = world.as_("operator"), world.as_("reseller")
    assert await operator.add_coverage("operator", country_codes=["BE", "DE"], network_ids=["net_310410"]) == [
        "net_20601",
        "net_20610",
        "net_20620",
        "net_26201",
        "net_26202",
        "net_310410",
    ]
    assert await operator.add_coverage("reseller", country_codes=["BE", "GE"]) == [
        "net_20601",
        "net_20610",
        "net_20620",
    ]
    async with refused("FAILED_PRECONDITION", "NETWORK_NOT_IN_PARENT_COVERAGE"):
        await reseller.add_coverage("enterprise", network_ids=["net_20601", "net_26201"])
    assert await reseller.coverage("enterprise") == []
    assert await reseller.add_coverage("enterprise", all_networks=True) == ["net_20601", "net_20610", "net_20620"]


async def test_what_is_not_operational_cannot_be_covered(small_world):
    await small_world.import_networks()
    operator = small_world.as_("operator")
    async with refused("FAILED_PRECONDITION", "NETWORK_NOT_OPERATIONAL"):
        await operator.add_coverage("operator", network_ids=["net_20699"])
    async with refused("FAILED_PRECONDITION", "NETWORK_NOT_IN_PARENT_COVERAGE"):
        await operator.add_coverage("operator", network_ids=["net_99999"])
    async with refused("INVALID_ARGUMENT", "NETWORKS_REQUIRED"):
        await operator.add_coverage("operator")
    assert await operator.add_coverage("operator", all_networks=True) == OPERATIONAL


async def test_coverage_is_granted_from_above_and_seen_from_above(small_world):
    await small_world.covered()
    async with refused("PERMISSION_DENIED", "GRANTED_BY_PARENT"):
        await small_world.as_("enterprise").add_coverage("enterprise", all_networks=True)
    async with refused("PERMISSION_DENIED", "GRANTED_BY_PARENT"):
        await small_world.as_("reseller").remove_coverage("reseller", all_networks=True)
    for other in ("sibling", "reseller", "operator"):
        async with refused("NOT_FOUND", "ACCOUNT_NOT_FOUND"):
            await small_world.as_("enterprise").coverage(other)
    async with refused("NOT_FOUND", "ACCOUNT_NOT_FOUND"):
        await small_world.as_("stranger").add_coverage("enterprise", all_networks=True)
    async with refused("FAILED_PRECONDITION", "ACCOUNT_IS_PARTITION"):
        await small_world.as_("reseller").add_coverage("sub", all_networks=True)
    assert await small_world.as_("sub").coverage("sub") == OPERATIONAL


@pytest.mark.requirement("R011", "R012", "R013", "R014", "R015", "R016", "R017")
async def test_the_default_profile_follows_coverage_and_a_custom_one_only_shrinks(world):
    made = await world.covered()
    enterprise, reseller = world.as_("enterprise"), world.as_("reseller")
    custom = await enterprise.new_roaming_profile("Two", "net_26201", "net_20601", "net_20601")
    assert list(custom.network_ids) == ["net_20601", "net_26201"]

    await reseller.remove_coverage("enterprise", network_ids=["net_26201", "net_310410"])
    left = [key for key in OPERATIONAL if key not in {"net_26201", "net_310410"}]
    assert await enterprise.coverage("enterprise") == left
    assert list((await enterprise.roaming_profile(made.roaming_profile_id)).network_ids) == left
    assert list((await enterprise.roaming_profile(custom.id)).network_ids) == ["net_20601"]
    async with refused("FAILED_PRECONDITION", "NETWORK_NOT_IN_COVERAGE"):
        await enterprise.change_roaming_profile(custom.id, network_ids=["net_26201"])
    async with refused("FAILED_PRECONDITION", "NETWORK_NOT_IN_COVERAGE"):
        await enterprise.new_roaming_profile("Beyond", "net_310410")

    await reseller.add_coverage("enterprise", network_ids=["net_26201", "net_310410"])
    assert list((await enterprise.roaming_profile(made.roaming_profile_id)).network_ids) == OPERATIONAL
    assert list((await enterprise.roaming_profile(custom.id)).network_ids) == ["net_20601"]
    grown = await enterprise.change_roaming_profile(custom.id, network_ids=["net_20601", "net_310410"])
    assert list(grown.network_ids) == ["net_20601", "net_310410"]


@pytest.mark.requirement("R012", "R016")
async def test_a_network_taken_from_the_top_is_gone_everywhere_below(world):
    made = await world.covered()
    enterprise = world.as_("enterprise")
    custom = await enterprise.new_roaming_profile("Belgium", "net_20601", "net_20610")
    await world.as_("operator").remove_coverage("operator", network_ids=["net_20601", "net_99999"])
    for name in ("operator", "reseller", "enterprise"):
        assert "net_20601" not in await world.as_("operator").coverage(name)
    assert "net_20601" not in (await enterprise.roaming_profile(made.roaming_profile_id)).network_ids
    assert list((await enterprise.roaming_profile(custom.id)).network_ids) == ["net_20610"]
    await world.as_("operator").add_coverage("operator", all_networks=True)
    assert "net_20601" not in await world.as_("operator").coverage("reseller")


async def test_a_removal_and_an_addition_at_the_same_time_leave_no_child_wider_than_its_parent(world):
    await world.covered()
    operator = world.as_("operator")
    await operator.remove_coverage("enterprise", country_codes=["DE"])
    await asyncio.gather(
        operator.add_coverage("enterprise", country_codes=["DE"]),
        operator.remove_coverage("reseller", country_codes=["DE"]),
        operator.add_coverage("sibling", all_networks=True),
    )
    above = set(await operator.coverage("reseller"))
    for child in ("enterprise", "sibling"):
        assert set(await operator.coverage(child)) <= above


async def test_a_repeated_request_gets_its_first_answer(world):
    await world.covered()
    reseller = world.as_("reseller")
    first = await reseller.remove_coverage("enterprise", country_codes=["BE"], request_id="once")
    await reseller.add_coverage("enterprise", country_codes=["BE"])
    assert await reseller.remove_coverage("enterprise", country_codes=["BE"], request_id="once") == first
    assert await reseller.coverage("enterprise") == OPERATIONAL
    async with refused("ALREADY_EXISTS", "REQUEST_ID_REUSED"):
        await reseller.remove_coverage("enterprise", country_codes=["DE"], request_id="once")


async def test_an_unknown_account_is_not_found(small_world):
    async with refused("NOT_FOUND", "ACCOUNT_NOT_FOUND"):
        request = networks_pb2.GetCoverageRequest(account_id=account("nobody"))
        client = small_world.as_("operator")
        await client.call(client.networks.GetCoverage, request)
