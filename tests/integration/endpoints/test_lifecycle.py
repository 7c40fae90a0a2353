import pytest

from tests.integration.endpoints.world import account

STATES = {"PRE_ACTIVE": 1, "ACTIVE": 2, "SUSPENDED": 3, "DEACTIVATED": 4, "DELETED": 5}


@pytest.mark.requirement("R094", "R096", "R099", "R103", "R104", "R261", "R266", "R031")
async def test_an_enterprise_creates_an_endpoint_with_its_sim_and_its_default_plan(world):
    (sim,) = await world.sims(1)
    enterprise = world.as_("enterprise")
    endpoint = await enterprise.create(sim)
    assert endpoint.id.startswith("ep_")
    assert endpoint.account_id == endpoint.enterprise_id == account("enterprise")
    assert endpoint.state == STATES["PRE_ACTIVE"]
    assert endpoint.base_assignment.plan_version == 1
    assert endpoint.apn_group_id.startswith("apn_")
    linked = await enterprise.sim(sim)
    assert (linked.endpoint_id, linked.status) == (endpoint.id, 2)
    assert await enterprise.endpoint(endpoint.id) == endpoint


@pytest.mark.requirement("R100", "R101", "R102", "R103", "R114")
async def test_the_sim_follows_its_endpoint_through_the_whole_life(world):
    (sim,) = await world.sims(1)
    enterprise = world.as_("enterprise")
    endpoint = await enterprise.create(sim)
    for verb, state, status in [
        ("ActivateEndpoint", "ACTIVE", 3),
        ("ActivateEndpoint", "ACTIVE", 3),
        ("SuspendEndpoint", "SUSPENDED", 4),
        ("SuspendEndpoint", "SUSPENDED", 4),
        ("ResumeEndpoint", "ACTIVE", 3),
        ("ResumeEndpoint", "ACTIVE", 3),
        ("DeactivateEndpoint", "DEACTIVATED", 1),
    ]:
        endpoint = await enterprise.move(verb, endpoint.id, reason="a test")
        assert endpoint.state == STATES[state]
        assert (await enterprise.sim(sim)).status == status
    assert not endpoint.sim_id
