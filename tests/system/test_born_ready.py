"""A new enterprise is born with its defaults (document 000), as its own key holder finds them."""

import pytest

from meterline.rating.v1.charging_pb2 import Outcome, Reason
from tests.system.market import BE, DE, SERVICES, UNCOVERED, ZA, Market, account, addon, default_of, sim, usage, zone
from tests.system.stranger import Stranger, done, fresh


async def networks_of(owner: Stranger, name: str) -> set[str]:
    """The networks of a roaming profile."""
    return set((await default_of(owner, "roaming-profiles", name))["network_ids"])


@pytest.mark.requirement("R001", "R003", "R004", "R009", "R010", "R018", "R021", "R022", "R023", "R024")
async def test_an_enterprise_is_born_with_profiles_apn_group_and_two_plans(market: Market):
    born = await account(market.reseller, "ENTERPRISE")
    profile = await default_of(born, "service-profiles", "DEFAULT")
    scope = (await born.get(f"/v1/accounts/{born.account_id}/service-scope"))["services"]
    assert profile["services"] == scope
    assert {"SERVICE_DATA", "SERVICE_SMS_MO"} <= {access["service"] for access in scope}
    assert await networks_of(born, "DEFAULT") == {BE, DE, ZA}
    assert (await default_of(born, "apn-groups", "DEFAULT"))["apns"]
    roaming = await default_of(born, "roaming-profiles", "DEFAULT")
    for name, mode in (("DEFAULT POSTPAID PLAN", "POSTPAID"), ("DEFAULT PREPAID PLAN", "PREPAID")):
        plan = await default_of(born, "plans", name)
        assert (plan["state"], plan["charging_mode"]) == ("PLAN_STATE_PUBLISHED", f"CHARGING_MODE_{mode}")
        assert (plan["service_profile_id"], plan["roaming_profile_id"]) == (profile["id"], roaming["id"])


@pytest.mark.requirement("R002", "R019", "R025", "R033", "R034", "R035", "R037")
async def test_an_endpoint_with_defaults_passes_traffic_only_with_an_addon_and_only_in_its_zone(market: Market):
    enterprise = market.enterprise
    sims = {"sims": [sim()], "account_id": enterprise.account_id}
    (imported,) = (await market.operator.post("/v1/sims:import", sims))["sims"]
    made = await enterprise.post("/v1/endpoints", {"sim_id": imported["id"]}, activate="true")
    assert made["state"] == "ENDPOINT_STATE_ACTIVE"
    assert made["base_assignment"]["plan_id"] == market.prepaid_plan
    assert made["apn_group_id"] == (await default_of(enterprise, "apn-groups", "DEFAULT"))["id"]

    refused = await enterprise.charge_one(usage(made["id"], 1))
    assert (refused.outcome, refused.reason) == (Outcome.OUTCOME_REFUSED, Reason.REASON_NO_VALID_ADDON)
    german = await addon(
        enterprise,
        (await default_of(enterprise, "service-profiles", "DEFAULT"))["id"],
        await zone(enterprise, ["DE"]),
        10,
    )
    given = await enterprise.post(f"/v1/endpoints/{made['id']}/addons", {"plan_id": german})
    assert given["id"].startswith("asg_")
    results = [await enterprise.charge_one(usage(made["id"], 6, network_id=network)) for network in (DE, BE, ZA, DE)]
    assert [result.outcome for result in results] == [1, 2, 2, 2]  # covered; out of the zone, twice; used up
    assert {result.reason for result in results[1:]} == {Reason.REASON_NO_VALID_ADDON}
    assert results[0].amounts_micros[0] == 0, "the enterprise pays its add-on, never a byte beyond it"


@pytest.mark.requirement("R011", "R012", "R014", "R015", "R016")
async def test_the_default_roaming_profile_follows_coverage_and_a_custom_one_only_shrinks(market: Market):
    enterprise = await account(market.reseller, "ENTERPRISE")
    coverage = f"/v1/accounts/{enterprise.account_id}/coverage"
    name = fresh("custom")
    made = await enterprise.post("/v1/roaming-profiles", {"name": name, "network_ids": [BE, ZA]})
    await market.reseller.post(f"{coverage}:remove", {"network_ids": [ZA]})
    assert await networks_of(enterprise, "DEFAULT") == {BE, DE}
    assert await networks_of(enterprise, name) == {BE}
    await market.reseller.post(f"{coverage}:add", {"network_ids": [ZA]})
    assert await networks_of(enterprise, "DEFAULT") == {BE, DE, ZA}
    assert await networks_of(enterprise, name) == {BE}
    await enterprise.patch(f"/v1/roaming-profiles/{made['id']}", {"network_ids": [BE, ZA]})
    assert await networks_of(enterprise, name) == {BE, ZA}


@pytest.mark.requirement("R037")
async def test_a_network_out_of_coverage_is_refused_whatever_was_bought(market: Market):
    endpoint_id = await market.endpoint(addons=[market.addon_a])
    refused = await market.enterprise.charge_one(usage(endpoint_id, 1, network_id=UNCOVERED))
    assert (refused.outcome, refused.reason) == (Outcome.OUTCOME_REFUSED, Reason.REASON_NETWORK_NOT_ALLOWED)


@pytest.mark.requirement("R007", "R008", "R013", "R017")
async def test_custom_profiles_restrict_and_never_exceed_what_was_granted(market: Market):
    enterprise = await account(market.reseller, "ENTERPRISE")
    scope = f"/v1/accounts/{enterprise.account_id}/service-scope"
    done(await market.reseller.ask("PUT", scope, {"services": SERVICES}))
    await enterprise.post("/v1/service-profiles", {"name": "data only", "services": SERVICES[:1]})
    wider = {"name": "wider", "services": [{"service": "SERVICE_NB_IOT", "access_types": ["ACCESS_TYPE_4G"]}]}
    refused = await enterprise.problem("POST", "/v1/service-profiles", wider)
    assert refused["code"] == "SERVICE_OUTSIDE_SCOPE"
    far = await enterprise.problem("POST", "/v1/roaming-profiles", {"name": "far", "network_ids": [BE, UNCOVERED]})
    assert (far["code"], far["metadata"]["network_ids"]) == ("NETWORK_NOT_IN_COVERAGE", UNCOVERED)


@pytest.mark.requirement("R026", "R027", "R028", "R029")
async def test_a_default_plan_is_cloned_and_changed_and_the_original_stays(market: Market):
    enterprise = market.enterprise
    original = await default_of(enterprise, "plans", "DEFAULT PREPAID PLAN")
    clone = await enterprise.post(f"/v1/plans/{original['id']}:clone", {"name": fresh("clone")})
    benefit = {"services": ["SERVICE_DATA"], "quantity": "1000"}
    changed = await enterprise.patch(f"/v1/plans/{clone['id']}", {"benefits": [benefit]})
    assert [one["quantity"] for one in changed["benefits"]] == ["1000"]
    assert await default_of(enterprise, "plans", "DEFAULT PREPAID PLAN") == original
    await enterprise.post(f"/v1/plans/{clone['id']}:publish")
    result = await enterprise.charge_one(usage(await market.endpoint(clone["id"]), 1000))
    assert result.outcome == Outcome.OUTCOME_CHARGED
