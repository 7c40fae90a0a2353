import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from meterline.catalog.v1 import charging_catalog_pb2, plans_pb2, profiles_pb2
from meterline.type.v1 import service_pb2 as types
from tests.integration.catalog.world import OPERATIONAL, access, account, refused


async def defaults_of(client, name):
    request = charging_catalog_pb2.GetDefaultsRequest(account_id=account(name))
    return await client.call(client.charging.GetDefaults, request)


@pytest.mark.requirement("R001", "R003", "R009", "R018", "R019", "R021", "R022", "R023", "R024")
async def test_an_enterprise_is_born_with_its_defaults(world):
    made = await world.covered()
    enterprise = world.as_("enterprise")
    assert (await enterprise.service_profile(made.service_profile_id)).name == "DEFAULT"
    assert (await enterprise.roaming_profile(made.roaming_profile_id)).name == "DEFAULT"
    group = await enterprise.call(
        enterprise.profiles.GetApnGroup, profiles_pb2.GetApnGroupRequest(apn_group_id=made.apn_group_id)
    )
    assert (group.name, group.system_managed, [apn.name for apn in group.apns]) == ("DEFAULT", True, ["iot.meterline"])
    postpaid, prepaid = [await enterprise.plan(key) for key in (made.postpaid_plan_id, made.prepaid_plan_id)]
    assert (postpaid.name, postpaid.charging_mode) == ("DEFAULT POSTPAID PLAN", plans_pb2.CHARGING_MODE_POSTPAID)
    assert (prepaid.name, prepaid.charging_mode) == ("DEFAULT PREPAID PLAN", plans_pb2.CHARGING_MODE_PREPAID)
    for plan in (postpaid, prepaid):
        assert plan.service_profile_id == made.service_profile_id
        assert plan.roaming_profile_id == made.roaming_profile_id
        assert (plan.state, plan.currency, plan.tariff_id) == (plans_pb2.PLAN_STATE_PUBLISHED, "EUR", "")
    defaults = await defaults_of(world.as_service(), "enterprise")
    assert (defaults.plan_id, defaults.apn_group_id) == (made.prepaid_plan_id, made.apn_group_id)


async def test_provisioning_again_changes_nothing(world):
    first = await world.covered()
    enterprise = world.as_("enterprise")
    await enterprise.change_plan(first.prepaid_plan_id, labels=["mine"])
    await world.as_("reseller").remove_coverage("enterprise", country_codes=["DE"])
    assert await world.as_service().provision("enterprise") == first
    assert list((await enterprise.plan(first.prepaid_plan_id)).labels) == ["mine"]
    assert "net_26201" not in await enterprise.coverage("enterprise")
    assert len(await enterprise.list_plans()) == 2


async def test_an_account_without_defaults_has_none(small_world):
    defaults = await defaults_of(small_world.as_service(), "enterprise")
    assert defaults == charging_catalog_pb2.GetDefaultsResponse()


@pytest.mark.requirement("R004", "R005", "R036")
async def test_the_default_service_profile_is_the_granted_scope_whatever_it_becomes(world):
    made = await world.covered()
    enterprise, reseller = world.as_("enterprise"), world.as_("reseller")
    assert len((await enterprise.service_profile(made.service_profile_id)).services) == 4
    granted = [access(types.SERVICE_DATA, 1, 3), access(types.SERVICE_SMS_MO, 1)]
    before = await enterprise.service_profile(made.service_profile_id)
    await reseller.set_scope("enterprise", *granted)
    after = await enterprise.service_profile(made.service_profile_id)
    assert list(after.services) == granted
    assert after.etag != before.etag
    await world.as_("operator").set_scope("reseller", access(types.SERVICE_DATA, 3, 4))
    assert list((await enterprise.service_profile(made.service_profile_id)).services) == [access(types.SERVICE_DATA, 3)]


@pytest.mark.requirement("R006", "R026")
async def test_a_default_plan_can_be_cloned_and_the_clone_changed(world):
    made = await world.covered()
    enterprise = world.as_("enterprise")
    clone = await enterprise.clone_plan(made.prepaid_plan_id, "Travellers")
    assert (clone.state, clone.version, clone.system_managed) == (plans_pb2.PLAN_STATE_DRAFT, 1, False)
    assert clone.service_profile_id == made.service_profile_id
    benefit = plans_pb2.Benefit(services=[types.SERVICE_DATA], quantity=10)
    await enterprise.change_plan(clone.id, benefits=[benefit])
    assert (await enterprise.publish_plan(clone.id)).state == plans_pb2.PLAN_STATE_PUBLISHED
    original = await enterprise.plan(made.prepaid_plan_id)
    assert (original.version, len(original.benefits)) == (1, 0)


@pytest.mark.requirement("R028", "R029", "R030")
async def test_default_plans_take_notifications_benefits_and_counters(world):
    made = await world.covered()
    enterprise = world.as_("enterprise")
    for plan_id in (made.prepaid_plan_id, made.postpaid_plan_id):
        changed = await enterprise.change_plan(
            plan_id,
            notifications=[plans_pb2.PlanNotification(threshold_percent=80, target="ops@example.com")],
            benefits=[plans_pb2.Benefit(services=[types.SERVICE_DATA], quantity=1000)],
            counters=[plans_pb2.Counter(name="all data", services=[types.SERVICE_DATA], limit=5000)],
        )
        assert (changed.version, changed.state) == (2, plans_pb2.PLAN_STATE_PUBLISHED)
        assert (changed.benefits[0].benefit_id, changed.counters[0].limit) == ("b1", 5000)
        assert not (await enterprise.plan(plan_id, version=1)).benefits


async def test_what_makes_a_default_the_default_stays(small_world):
    made = await small_world.covered()
    enterprise = small_world.as_("enterprise")
    custom = await enterprise.new_roaming_profile("Benelux", "net_20601")
    async with refused("FAILED_PRECONDITION", "SYSTEM_MANAGED"):
        await enterprise.change_plan(made.prepaid_plan_id, roaming_profile_id=custom.id)
    async with refused("FAILED_PRECONDITION", "SYSTEM_MANAGED"):
        await enterprise.change_plan(made.prepaid_plan_id, name="Other")
    async with refused("FAILED_PRECONDITION", "SYSTEM_MANAGED"):
        await enterprise.call(enterprise.plans.RetirePlan, plans_pb2.RetirePlanRequest(plan_id=made.prepaid_plan_id))
    async with refused("FAILED_PRECONDITION", "SYSTEM_MANAGED"):
        await enterprise.change_service_profile(made.service_profile_id, services=[access(types.SERVICE_DATA, 1)])
    async with refused("FAILED_PRECONDITION", "SYSTEM_MANAGED"):
        await enterprise.change_roaming_profile(made.roaming_profile_id, network_ids=["net_20601"])
    async with refused("FAILED_PRECONDITION", "SYSTEM_MANAGED"):
        request = profiles_pb2.DeleteApnGroupRequest(apn_group_id=made.apn_group_id)
        await enterprise.call(enterprise.profiles.DeleteApnGroup, request)
    for name in ("DEFAULT PREPAID PLAN", "DEFAULT POSTPAID PLAN"):
        async with refused("INVALID_ARGUMENT", "NAME_RESERVED", "name"):
            await enterprise.clone_plan(made.prepaid_plan_id, name)
    async with refused("INVALID_ARGUMENT", "NAME_RESERVED", "roaming_profile.name"):
        await enterprise.new_roaming_profile("DEFAULT", "net_20601")


@pytest.mark.requirement("R020", "R229")
async def test_the_default_apn_group_can_be_changed(world):
    made = await world.covered()
    enterprise = world.as_("enterprise")
    apns = [
        profiles_pb2.Apn(name="iot.meterline"),
        profiles_pb2.Apn(name="fixed.meterline", ip_allocation=profiles_pb2.IP_ALLOCATION_STATIC),
    ]
    request = profiles_pb2.UpdateApnGroupRequest(
        apn_group=profiles_pb2.ApnGroup(id=made.apn_group_id, apns=apns), update_mask=FieldMask(paths=["apns"])
    )
    changed = await enterprise.call(enterprise.profiles.UpdateApnGroup, request)
    assert [apn.ip_allocation for apn in changed.apns] == [1, 2]
    request.apn_group.apns.add(name="IOT.meterline")
    async with refused("INVALID_ARGUMENT", "APN_TWICE", "apn_group.apns[2].name"):
        await enterprise.call(enterprise.profiles.UpdateApnGroup, request)


@pytest.mark.requirement("R010")
async def test_the_default_roaming_profile_is_the_coverage(world):
    made = await world.covered()
    profile = await world.as_("enterprise").roaming_profile(made.roaming_profile_id)
    assert list(profile.network_ids) == OPERATIONAL


async def test_internal_methods_do_not_exist_for_customers(small_world):
    async with refused("NOT_FOUND", "METHOD_NOT_FOUND"):
        await small_world.as_("operator").provision("enterprise")
    async with refused("NOT_FOUND", "METHOD_NOT_FOUND"):
        await small_world.as_("operator").plan_versions()


@pytest.mark.requirement("R027")
async def test_an_addon_stands_beside_a_default_plan(small_world):
    made = await small_world.covered()
    addon = await small_world.as_("enterprise").new_addon(
        made.service_profile_id,
        benefits=[plans_pb2.Benefit(services=[types.SERVICE_DATA], quantity=500_000_000)],
        validity=Duration(seconds=7 * 86_400),
    )
    assert (
        addon.service_profile_id == (await small_world.as_("enterprise").plan(made.prepaid_plan_id)).service_profile_id
    )
