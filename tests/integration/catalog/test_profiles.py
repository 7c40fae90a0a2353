import pytest

from meterline.catalog.v1 import plans_pb2, profiles_pb2
from meterline.type.v1 import service_pb2 as types
from tests.integration.catalog.world import OPERATIONAL, access, account, all_pages, refused

DATA_AND_SMS = (access(types.SERVICE_DATA, 1, 3, 4), access(types.SERVICE_SMS_MO, 1))


@pytest.mark.requirement("R007", "R008")
async def test_a_custom_service_profile_lies_within_the_granted_scope(world):
    await world.covered()
    enterprise, reseller = world.as_("enterprise"), world.as_("reseller")
    await reseller.set_scope("enterprise", *DATA_AND_SMS)
    data_only = await enterprise.new_service_profile("Data", access(types.SERVICE_DATA, 4, 1))
    assert list(data_only.services) == [access(types.SERVICE_DATA, 1, 4)]
    async with refused("FAILED_PRECONDITION", "SERVICE_OUTSIDE_SCOPE"):
        await enterprise.new_service_profile("3G too", access(types.SERVICE_DATA, 2))
    async with refused("FAILED_PRECONDITION", "SERVICE_OUTSIDE_SCOPE"):
        await enterprise.new_service_profile("NB-IoT", access(types.SERVICE_NB_IOT, 3))
    async with refused("FAILED_PRECONDITION", "SERVICE_OUTSIDE_SCOPE"):
        await enterprise.change_service_profile(data_only.id, services=[access(types.SERVICE_DATA, 2)])


@pytest.mark.requirement("R038", "R039", "R040", "R041", "R042")
async def test_a_service_profile_has_a_name_and_services_with_their_own_access_types(small_world):
    operator = small_world.as_("operator")
    profile = await operator.new_service_profile(
        "All", *(access(service, service) for service in (4, 3, 2, 1)), description="each over one"
    )
    assert [(s.service, list(s.access_types)) for s in profile.services] == [(n, [n]) for n in (1, 2, 3, 4)]
    async with refused("INVALID_ARGUMENT", "FIELD_REQUIRED", "service_profile.name"):
        await operator.new_service_profile("", access(types.SERVICE_DATA))
    async with refused("INVALID_ARGUMENT", "FIELD_REQUIRED", "service_profile.services"):
        await operator.new_service_profile("Empty")
    async with refused("INVALID_ARGUMENT", "FIELD_REQUIRED", "service_profile.services[0].service"):
        await operator.new_service_profile("No service", access(types.SERVICE_UNSPECIFIED))
    async with refused("INVALID_ARGUMENT", "FIELD_REQUIRED", "service_profile.services[0].access_types"):
        await operator.new_service_profile("No access", profiles_pb2.ServiceAccess(service=types.SERVICE_DATA))
    async with refused("INVALID_ARGUMENT", "FIELD_REQUIRED", "service_profile.services[0].access_types[1]"):
        await operator.new_service_profile("Odd access", access(types.SERVICE_DATA, 1, 0))
    async with refused("INVALID_ARGUMENT", "FIELD_INVALID", "service_profile.services[0].service"):
        await operator.new_service_profile("Voice", access(5))
    async with refused("INVALID_ARGUMENT", "SERVICE_TWICE", "service_profile.services[1].service"):
        await operator.new_service_profile("Twice", access(types.SERVICE_DATA, 1), access(types.SERVICE_DATA, 3))


@pytest.mark.requirement("R045")
async def test_a_service_profile_freezes_when_a_plan_references_it(world):
    await world.covered()
    enterprise = world.as_("enterprise")
    profile = await enterprise.new_service_profile("Data", access(types.SERVICE_DATA))
    changed = await enterprise.change_service_profile(profile.id, services=[access(types.SERVICE_DATA, 3)])
    assert list(changed.services) == [access(types.SERVICE_DATA, 3)]
    addon = await enterprise.new_addon(profile.id)
    async with refused("FAILED_PRECONDITION", "SERVICE_PROFILE_FROZEN"):
        await enterprise.change_service_profile(profile.id, services=[access(types.SERVICE_DATA, 3, 4)])
    renamed = await enterprise.change_service_profile(profile.id, name="Fast data", description="4G")
    assert (renamed.name, renamed.description, renamed.etag) == ("Fast data", "4G", "3")
    delete = profiles_pb2.DeleteServiceProfileRequest(service_profile_id=profile.id)
    async with refused("FAILED_PRECONDITION", "SERVICE_PROFILE_IN_USE"):
        await enterprise.call(enterprise.profiles.DeleteServiceProfile, delete)
    other = await enterprise.new_service_profile("Other", access(types.SERVICE_DATA))
    async with refused("FAILED_PRECONDITION", "PLAN_SERVICE_PROFILE_FROZEN"):
        await enterprise.change_plan(addon.id, service_profile_id=other.id)
    await enterprise.call(enterprise.plans.DeletePlan, plans_pb2.DeletePlanRequest(plan_id=addon.id))
    await enterprise.call(enterprise.profiles.DeleteServiceProfile, delete)
    async with refused("NOT_FOUND", "SERVICE_PROFILE_NOT_FOUND"):
        await enterprise.service_profile(profile.id)


@pytest.mark.requirement("R048")
async def test_service_profiles_are_listed_cloned_and_deleted(world):
    made = await world.covered()
    enterprise = world.as_("enterprise")
    clone = await enterprise.call(
        enterprise.profiles.CloneServiceProfile,
        profiles_pb2.CloneServiceProfileRequest(service_profile_id=made.service_profile_id, name="Copy"),
    )
    assert (clone.system_managed, len(clone.services)) == (False, 4)
    for number in range(3):
        await enterprise.new_service_profile(f"P{number}", access(types.SERVICE_DATA))
        world.clock.advance(1)

    def fetch(token):
        request = profiles_pb2.ListServiceProfilesRequest(page_size=2, page_token=token)
        return enterprise.call(enterprise.profiles.ListServiceProfiles, request)

    names = [[profile.name for profile in page] for page in await all_pages(fetch, "service_profiles")]
    assert [len(page) for page in names] == [2, 2, 1]
    assert sorted(names[0] + names[1][:1]) == ["Copy", "DEFAULT", "P0"]
    assert names[1][1:] + names[2] == ["P1", "P2"]


async def test_narrowing_a_scope_is_refused_while_a_custom_profile_below_would_be_wider(world):
    await world.covered()
    enterprise, operator = world.as_("enterprise"), world.as_("operator")
    profile = await enterprise.new_service_profile("SMS", access(types.SERVICE_SMS_MT, 1))
    async with refused("FAILED_PRECONDITION", "SERVICE_SCOPE_IN_USE"):
        await operator.set_scope("reseller", *DATA_AND_SMS)
    delete = profiles_pb2.DeleteServiceProfileRequest(service_profile_id=profile.id)
    await enterprise.call(enterprise.profiles.DeleteServiceProfile, delete)
    scope = await operator.set_scope("reseller", *DATA_AND_SMS)
    assert list(scope.services) == list(DATA_AND_SMS)
    async with refused("FAILED_PRECONDITION", "SERVICE_OUTSIDE_SCOPE"):
        await world.as_("reseller").set_scope("enterprise", access(types.SERVICE_NB_IOT))
    async with refused("PERMISSION_DENIED", "GRANTED_BY_PARENT"):
        await enterprise.set_scope("enterprise", access(types.SERVICE_DATA, 1))
    for name in ("reseller", "enterprise", "sub"):
        request = profiles_pb2.GetServiceScopeRequest(account_id=account(name))
        found = await operator.call(operator.profiles.GetServiceScope, request)
        assert list(found.services) == list(DATA_AND_SMS)


async def test_no_scope_leaves_an_enterprise_without_any_service(small_world):
    await small_world.covered()
    await small_world.as_("reseller").set_scope("enterprise", access(types.SERVICE_DATA, 1))
    async with refused("FAILED_PRECONDITION", "SERVICE_SCOPE_IN_USE"):
        await small_world.as_("operator").set_scope("reseller", access(types.SERVICE_SMS_MO, 1))


async def test_a_name_belongs_to_one_object_of_an_account(world):
    await world.covered()
    enterprise = world.as_("enterprise")
    first = await enterprise.new_roaming_profile("One", "net_20601")
    second = await enterprise.new_roaming_profile("Two", "net_20601")
    async with refused("ALREADY_EXISTS", "NAME_TAKEN"):
        await enterprise.new_roaming_profile("One", "net_20601")
    async with refused("ALREADY_EXISTS", "NAME_TAKEN"):
        await enterprise.change_roaming_profile(second.id, name="One")
    assert (await enterprise.change_roaming_profile(first.id, name="One")).name == "One"
    await world.as_("reseller").new_roaming_profile("One", "net_20601")


async def test_a_clone_of_the_default_roaming_profile_is_a_custom_one(world):
    made = await world.covered()
    enterprise = world.as_("enterprise")
    request = profiles_pb2.CloneRoamingProfileRequest(roaming_profile_id=made.roaming_profile_id, name="Frozen")
    clone = await enterprise.call(enterprise.profiles.CloneRoamingProfile, request)
    assert (list(clone.network_ids), clone.system_managed) == (OPERATIONAL, False)
    await world.as_("reseller").remove_coverage("enterprise", country_codes=["DE"])
    await world.as_("reseller").add_coverage("enterprise", country_codes=["DE"])
    assert "net_26201" not in (await enterprise.roaming_profile(clone.id)).network_ids


async def test_an_update_changes_what_its_mask_names_and_nothing_else(small_world):
    await small_world.covered()
    enterprise = small_world.as_("enterprise")
    profile = await enterprise.new_roaming_profile("One", "net_20601", description="text")
    changed = await enterprise.change_roaming_profile(profile.id, "description", name="Ignored")
    assert (changed.name, changed.description) == ("One", "")
    replaced = await enterprise.change_roaming_profile(profile.id, "*", name="Whole")
    assert (replaced.name, list(replaced.network_ids), replaced.account_id) == ("Whole", [], account("enterprise"))
    ignored = await enterprise.change_roaming_profile(profile.id, "system_managed", system_managed=True)
    assert ignored.system_managed is False
    async with refused("INVALID_ARGUMENT", "UPDATE_MASK_INVALID", "update_mask"):
        await enterprise.change_roaming_profile(profile.id, "nothing")
    async with refused("INVALID_ARGUMENT", "FIELD_IMMUTABLE", "roaming_profile.account_id"):
        await enterprise.change_roaming_profile(profile.id, account_id=account("sibling"))
    async with refused("INVALID_ARGUMENT", "FIELD_REQUIRED", "roaming_profile.name"):
        await enterprise.change_roaming_profile(profile.id, "name")
    async with refused("INVALID_ARGUMENT", "FIELD_REQUIRED", "roaming_profile.name"):
        await enterprise.change_roaming_profile(profile.id, "*")
    same = await enterprise.change_roaming_profile(profile.id, account_id=account("enterprise"), name="Same account")
    assert same.name == "Same account"


async def test_an_update_on_an_old_state_is_refused(small_world):
    await small_world.covered()
    enterprise = small_world.as_("enterprise")
    profile = await enterprise.new_roaming_profile("One", "net_20601")
    changed = await enterprise.change_roaming_profile(profile.id, name="Two", etag=profile.etag)
    async with refused("ABORTED", "ETAG_MISMATCH"):
        await enterprise.change_roaming_profile(profile.id, name="Three", etag=profile.etag)
    assert (await enterprise.change_roaming_profile(profile.id, name="Four", etag=changed.etag)).name == "Four"


@pytest.mark.requirement("R286")
async def test_what_is_outside_the_subtree_does_not_exist(world):
    await world.covered()
    mine = await world.as_("enterprise").new_roaming_profile("Mine", "net_20601")
    above = await world.as_("reseller").new_roaming_profile("Above", "net_20601")
    for name in ("sibling", "stranger", "sub"):
        async with refused("NOT_FOUND", "ROAMING_PROFILE_NOT_FOUND"):
            await world.as_(name).roaming_profile(mine.id)
        async with refused("NOT_FOUND", "ROAMING_PROFILE_NOT_FOUND"):
            await world.as_(name).change_roaming_profile(mine.id, name="Stolen")
    async with refused("NOT_FOUND", "ROAMING_PROFILE_NOT_FOUND"):
        await world.as_("enterprise").roaming_profile(above.id)

    async def seen(name, **fields):
        client = world.as_(name)
        request = profiles_pb2.ListRoamingProfilesRequest(**fields)
        found = await client.call(client.profiles.ListRoamingProfiles, request)
        return {profile.name for profile in found.roaming_profiles}

    assert await seen("operator") == await seen("reseller") == {"Mine", "Above", "DEFAULT"}
    assert await seen("reseller", account_id=account("reseller")) == {"Above"}
    assert await seen("enterprise") == {"Mine", "DEFAULT"}
    assert await seen("enterprise", account_id=account("reseller")) == set()
    assert await seen("sibling") == await seen("stranger") == set()


@pytest.mark.requirement("R257")
async def test_a_reseller_keeps_the_profiles_of_its_children(small_world):
    await small_world.covered()
    reseller = small_world.as_("reseller")
    made = await reseller.new_roaming_profile("For you", "net_20601", account_id=account("enterprise"))
    assert made.account_id == account("enterprise")
    assert (await small_world.as_("enterprise").roaming_profile(made.id)).name == "For you"
    async with refused("NOT_FOUND", "ACCOUNT_NOT_FOUND"):
        await small_world.as_("stranger").new_roaming_profile("Foreign", account_id=account("enterprise"))
    async with refused("FAILED_PRECONDITION", "ACCOUNT_IS_PARTITION"):
        await small_world.as_("sub").new_roaming_profile("Partition")
