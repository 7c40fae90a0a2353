import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from meterline.endpoints.v1 import endpoints_pb2
from meterline.type.v1 import audit_pb2, service_pb2
from services.common.errors import AbortedError, AlreadyExistsError, FailedPreconditionError, InvalidArgumentError
from tests.integration.endpoints.world import account, iccid, plan_id

PRE_ACTIVE, ACTIVE, SUSPENDED, DEACTIVATED, DELETED = range(1, 6)


@pytest.mark.requirement("R031", "R094", "R096", "R099", "R104", "R261", "R266")
async def test_an_enterprise_creates_an_endpoint_with_its_sim_and_its_default_plan(world):
    (sim,) = await world.sims(1)
    enterprise = world.as_("enterprise")
    endpoint = await enterprise.create(sim)
    assert endpoint.id.startswith("ep_")
    assert endpoint.account_id == endpoint.enterprise_id == account("enterprise")
    assert endpoint.state == PRE_ACTIVE
    assert endpoint.base_assignment.plan_id == plan_id("default of enterprise")
    assert endpoint.apn_group_id.startswith("apn_")
    linked = await enterprise.sim(sim)
    assert (linked.endpoint_id, linked.status) == (endpoint.id, 2)
    assert await enterprise.endpoint(endpoint.id) == endpoint


@pytest.mark.requirement("R100", "R101", "R102", "R103", "R112", "R114", "R267")
async def test_the_sim_follows_its_endpoint_through_the_whole_life(world):
    (sim,) = await world.sims(1)
    enterprise = world.as_("enterprise")
    endpoint = await enterprise.create(sim)
    for verb, state, status in [
        ("ActivateEndpoint", ACTIVE, 3),
        ("ActivateEndpoint", ACTIVE, 3),
        ("SuspendEndpoint", SUSPENDED, 4),
        ("SuspendEndpoint", SUSPENDED, 4),
        ("ResumeEndpoint", ACTIVE, 3),
        ("ResumeEndpoint", ACTIVE, 3),
        ("DeactivateEndpoint", DEACTIVATED, 1),
        ("DeactivateEndpoint", DEACTIVATED, 1),
    ]:
        endpoint = await enterprise.move(verb, endpoint.id)
        assert endpoint.state == state, verb
        assert (await enterprise.sim(sim)).status == status, verb
    assert not endpoint.sim_id
    assert endpoint.base_assignment.id  # plans stay on hold
    relinked = await enterprise.link("LinkSim", endpoint.id, sim)
    assert (relinked.state, relinked.sim_id) == (PRE_ACTIVE, sim)


async def test_a_verb_that_is_wrong_in_the_state_names_the_state_and_the_permitted_verbs(small_world):
    enterprise = small_world.as_("enterprise")
    (sim,) = await small_world.sims(1)
    endpoint = await enterprise.create(sim)
    with pytest.raises(FailedPreconditionError) as refused:
        await enterprise.move("SuspendEndpoint", endpoint.id)
    assert refused.value.reason == "ENDPOINT_STATE"
    assert refused.value.metadata["state"] == "PRE_ACTIVE"
    assert "activate" in refused.value.metadata["permitted_verbs"].split(",")
    assert (await enterprise.endpoint(endpoint.id)).state == PRE_ACTIVE


@pytest.mark.requirement("R098", "R106", "R107")
async def test_a_sim_is_linked_swapped_and_taken_away_and_the_endpoint_stays_the_same(world):
    enterprise = world.as_("enterprise")
    first, second = await world.sims(2)
    bare = await enterprise.create()
    assert bare.state == DEACTIVATED
    endpoint = await enterprise.link("LinkSim", bare.id, first)
    assert (endpoint.id, endpoint.state, endpoint.sim_id) == (bare.id, PRE_ACTIVE, first)
    await enterprise.move("ActivateEndpoint", bare.id)
    swapped = await enterprise.link("SwapSim", bare.id, second)
    assert (swapped.id, swapped.state, swapped.sim_id) == (bare.id, ACTIVE, second)
    assert swapped.base_assignment == bare.base_assignment
    assert (await enterprise.sim(first)).status == 1
    assert (await enterprise.sim(second)).status == 3
    assert await enterprise.link("SwapSim", bare.id, second) == swapped
    freed = await enterprise.move("DelinkSim", bare.id)
    assert (freed.state, freed.sim_id) == (DEACTIVATED, "")
    assert not (await enterprise.sim(second)).endpoint_id


async def test_a_sim_that_another_endpoint_has_is_refused(world):
    enterprise = world.as_("enterprise")
    first, second = await world.sims(2)
    await enterprise.create(first)
    other = await enterprise.create(second)
    for attempt in (
        lambda: enterprise.create(first),
        lambda: enterprise.link("SwapSim", other.id, first),
    ):
        with pytest.raises(FailedPreconditionError) as refused:
            await attempt()
        assert refused.value.reason == "SIM_LINKED"
    with pytest.raises(FailedPreconditionError) as refused:
        await enterprise.link("LinkSim", other.id, first)  # it has one: swap instead
    assert refused.value.reason == "ENDPOINT_STATE"


async def test_activation_needs_a_sim_and_a_base_plan(small_world):
    enterprise = small_world.as_("enterprise")
    with pytest.raises(FailedPreconditionError, match="NO_SIM"):
        await enterprise.create(activate=True)
    del small_world.catalog.plans[plan_id("default of enterprise")]
    (sim,) = await small_world.sims(1)
    with pytest.raises(FailedPreconditionError, match="NO_BASE_PLAN"):
        await enterprise.create(sim, activate=True)
    planless = await enterprise.create(sim)
    assert not planless.HasField("base_assignment")
    with pytest.raises(FailedPreconditionError, match="NO_BASE_PLAN"):
        await enterprise.move("ActivateEndpoint", planless.id)


async def test_a_deleted_endpoint_stays_for_the_records_and_does_nothing_more(world):
    endpoint = await world.active_endpoint()
    enterprise = world.as_("enterprise")
    delete = endpoints_pb2.DeleteEndpointRequest(endpoint_id=endpoint.id)
    with pytest.raises(FailedPreconditionError, match="ENDPOINT_STATE"):
        await enterprise.call(enterprise.endpoints.DeleteEndpoint, delete)
    await enterprise.move("DeactivateEndpoint", endpoint.id)
    await enterprise.call(enterprise.endpoints.DeleteEndpoint, delete)
    gone = await enterprise.endpoint(endpoint.id)
    assert (gone.state, gone.HasField("base_assignment")) == (DELETED, False)
    assert await enterprise.assigned(endpoint_id=endpoint.id) == []
    assert len(await enterprise.assigned(endpoint_id=endpoint.id, include_removed=True)) == 1
    for verb in ("ActivateEndpoint", "DeactivateEndpoint", "SuspendEndpoint", "DelinkSim"):
        with pytest.raises(FailedPreconditionError, match="ENDPOINT_STATE"):
            await enterprise.move(verb, endpoint.id)
    listing = endpoints_pb2.ListEndpointsRequest()
    assert not (await enterprise.call(enterprise.endpoints.ListEndpoints, listing)).endpoints
    listing.state = endpoints_pb2.ENDPOINT_STATE_DELETED
    assert len((await enterprise.call(enterprise.endpoints.ListEndpoints, listing)).endpoints) == 1


def updating(endpoint_id: str, *paths: str, **fields: object) -> endpoints_pb2.UpdateEndpointRequest:
    return endpoints_pb2.UpdateEndpointRequest(
        endpoint=endpoints_pb2.Endpoint(id=endpoint_id, **fields),  # type: ignore[arg-type]
        update_mask=FieldMask(paths=paths),
    )


@pytest.mark.requirement("R105", "R113")
async def test_name_tags_and_barring_change_by_mask(world):
    endpoint = await world.active_endpoint()
    enterprise = world.as_("enterprise")
    update = enterprise.endpoints.UpdateEndpoint
    changed = await enterprise.call(
        update,
        updating(endpoint.id, name="meter 7", tags=["north", "old"], barred_services=[service_pb2.SERVICE_SMS_MO]),
    )
    assert (changed.name, list(changed.tags), list(changed.barred_services)) == ("meter 7", ["north", "old"], [2])
    assert changed.etag != endpoint.etag
    untagged = await enterprise.call(update, updating(endpoint.id, "tags", "barred_services", name="ignored"))
    assert (untagged.name, list(untagged.tags), list(untagged.barred_services)) == ("meter 7", [], [])
    with pytest.raises(AbortedError, match="ETAG_MISMATCH"):
        await enterprise.call(update, updating(endpoint.id, name="late", etag=endpoint.etag))
    assert (await enterprise.call(update, updating(endpoint.id, name="now", etag=untagged.etag))).name == "now"


@pytest.mark.parametrize(
    ("paths", "fields", "reason"),
    [
        (["colour"], {}, "FIELD_INVALID"),
        (["account_id"], {}, "FIELD_IMMUTABLE"),
        (["sim_id"], {}, "FIELD_IMMUTABLE"),
        ([], {"barred_services": [0]}, "FIELD_INVALID"),
        ([], {"tags": ["a", "a"]}, "FIELD_INVALID"),
        ([], {"name": "n" * 201}, "FIELD_INVALID"),
    ],
)
async def test_a_wrong_update_is_refused_with_its_field(small_world, paths, fields, reason):
    endpoint = await small_world.active_endpoint()
    enterprise = small_world.as_("enterprise")
    with pytest.raises(InvalidArgumentError) as refused:
        await enterprise.call(enterprise.endpoints.UpdateEndpoint, updating(endpoint.id, *paths, **fields))
    assert refused.value.reason == reason
    assert refused.value.violations
    assert await enterprise.endpoint(endpoint.id) == endpoint


async def test_an_endpoint_can_be_sent_back_whole_with_what_does_not_change(small_world):
    endpoint = await small_world.active_endpoint()
    enterprise = small_world.as_("enterprise")
    paths = ("name", "sim_id", "account_id")
    whole = updating(endpoint.id, *paths, name="new", sim_id=endpoint.sim_id, account_id=endpoint.account_id)
    assert (await enterprise.call(enterprise.endpoints.UpdateEndpoint, whole)).name == "new"


@pytest.mark.requirement("R097", "R098")
async def test_an_endpoint_is_found_by_the_numbers_of_its_sim_and_by_tag(world):
    enterprise = world.as_("enterprise")
    first, second = await world.sims(2)
    made = await enterprise.create(first, endpoint={"tags": ["red"]})
    await enterprise.create(second, endpoint={"tags": ["blue"]})
    sim = await enterprise.sim(first)
    for wanted in ({"iccid": iccid(0)}, {"imsi": sim.imsi}, {"msisdn": sim.msisdn}, {"tag": "red"}):
        request = endpoints_pb2.ListEndpointsRequest(**wanted)
        found = await enterprise.call(enterprise.endpoints.ListEndpoints, request)
        assert [endpoint.id for endpoint in found.endpoints] == [made.id], wanted


async def test_a_repeat_with_the_same_request_id_returns_the_first_answer(world):
    (sim,) = await world.sims(1)
    enterprise = world.as_("enterprise")
    first = await enterprise.create(sim, request_id="once")
    assert await enterprise.create(sim, request_id="once") == first
    with pytest.raises(AlreadyExistsError, match="REQUEST_ID_REUSED"):
        await enterprise.create(sim, request_id="once", activate=True)


async def test_the_audit_trail_says_who_moved_what_and_why(world):
    endpoint = await world.active_endpoint()
    enterprise = world.as_("enterprise")
    await enterprise.move("SuspendEndpoint", endpoint.id, reason="unpaid", request_id="suspend-1")
    listing = audit_pb2.ListAuditEntriesRequest(resource_id=endpoint.id)
    (newest, *_) = (await enterprise.call(enterprise.audit.ListAuditEntries, listing)).audit_entries
    assert newest.request_id == "suspend-1"
    assert newest.account_id == account("enterprise")
    assert (newest.before["state"], newest.after["state"]) == ("ACTIVE", "SUSPENDED")
    assert newest.after["reason"] == "unpaid"
    assert account("reseller") not in str(newest)
    stranger = world.as_("far")
    assert not (await stranger.call(stranger.audit.ListAuditEntries, listing)).audit_entries
