import asyncio
import time
from collections.abc import Awaitable

import pytest

from meterline.endpoints.v1 import charging_context_pb2, endpoints_pb2, sims_pb2
from meterline.type.v1 import service_pb2
from services.common.errors import InvalidArgumentError, MeterlineError, NotFoundError
from tests.integration.endpoints.world import account

Create = endpoints_pb2.CreateEndpointRequest


def batch(*requests: Create, request_id: str = "") -> endpoints_pb2.BatchCreateEndpointsRequest:
    return endpoints_pb2.BatchCreateEndpointsRequest(requests=requests, request_id=request_id)


@pytest.mark.requirement("R031", "R104", "R261", "R288")
async def test_a_thousand_endpoints_come_with_sims_plans_and_add_ons_in_one_transaction(world):
    extra = world.catalog.add("extra", "enterprise", addon=True, days=7)
    prepaid = world.catalog.add("prepaid", "enterprise")
    sims = await world.sims(1000)
    enterprise = world.as_("enterprise")
    request = batch(
        *(
            Create(
                endpoint=endpoints_pb2.Endpoint(name=f"meter {number}", sim_id=sim, tags=["meters"]),
                plan_id=prepaid,
                addon_plan_ids=[extra, extra],
                activate=True,
            )
            for number, sim in enumerate(sims)
        ),
        request_id="fleet",
    )
    started = time.perf_counter()
    created = (await enterprise.call(enterprise.endpoints.BatchCreateEndpoints, request)).endpoints
    took = time.perf_counter() - started
    assert [endpoint.name for endpoint in created] == [f"meter {number}" for number in range(1000)]
    assert [endpoint.sim_id for endpoint in created] == sims
    assert {(endpoint.state, endpoint.base_assignment.plan_id) for endpoint in created} == {(2, prepaid)}
    assert (await enterprise.call(enterprise.endpoints.BatchCreateEndpoints, request)).endpoints == created
    page = await enterprise.call(
        enterprise.endpoints.ListEndpoints, endpoints_pb2.ListEndpointsRequest(page_size=1000, tag="meters")
    )
    assert (page.endpoints, page.next_page_token) == (created, "")
    assert took < 10, "10,000 endpoints are loaded in ten such calls"

    contexts = charging_context_pb2.BatchGetEndpointContextsRequest(endpoint_ids=[one.id for one in created])
    rating = world.as_service()
    started = time.perf_counter()
    found = (await rating.call(rating.contexts.BatchGetEndpointContexts, contexts)).contexts
    took = time.perf_counter() - started
    assert len(found) == 1000
    assert all(len(context.addon_assignments) == 2 and context.version > 1 for context in found)
    assert took < 2, "it is about 0.1 s on a machine that does nothing else"


@pytest.mark.parametrize("place", [0, 1])
async def test_one_bad_element_refuses_the_batch_and_is_named(world, place):
    good, taken = await world.sims(2)
    (foreign,) = await world.sims(1, holder="sibling")
    enterprise = world.as_("enterprise")
    await enterprise.create(taken)
    draft = world.catalog.add("draft", "enterprise", state=1)
    for bad, reason in (
        (Create(endpoint=endpoints_pb2.Endpoint(sim_id=taken)), "SIM_LINKED"),
        (Create(endpoint=endpoints_pb2.Endpoint(sim_id=foreign)), "SIM_NOT_FOUND"),
        (Create(endpoint=endpoints_pb2.Endpoint(), activate=True), "NO_SIM"),
        (Create(endpoint=endpoints_pb2.Endpoint(), plan_id=draft), "PLAN_NOT_PUBLISHED"),
    ):
        elements = [Create(endpoint=endpoints_pb2.Endpoint(sim_id=good))]
        elements.insert(place, bad)
        with pytest.raises(MeterlineError) as refused:
            await enterprise.call(enterprise.endpoints.BatchCreateEndpoints, batch(*elements))
        assert (refused.value.reason, refused.value.metadata["index"]) == (reason, str(place))
        assert f"requests[{place}]" in refused.value.message
    assert (
        len((await enterprise.call(enterprise.endpoints.ListEndpoints, endpoints_pb2.ListEndpointsRequest())).endpoints)
        == 1
    )
    assert (await enterprise.sim(good)).status == 1


async def test_batches_are_bounded_and_a_sim_comes_once(small_world):
    (sim,) = await small_world.sims(1)
    enterprise = small_world.as_("enterprise")
    create = enterprise.endpoints.BatchCreateEndpoints
    bare = Create(endpoint=endpoints_pb2.Endpoint())
    for request in (
        batch(),
        batch(*[bare] * 1001),
        batch(Create()),
        batch(*[Create(endpoint=endpoints_pb2.Endpoint(sim_id=sim))] * 2),
        batch(bare, Create(endpoint=endpoints_pb2.Endpoint(barred_services=[service_pb2.SERVICE_UNSPECIFIED]))),
    ):
        with pytest.raises(InvalidArgumentError):
            await enterprise.call(create, request)
    with pytest.raises(NotFoundError):
        await enterprise.call(
            create, batch(bare, Create(endpoint=endpoints_pb2.Endpoint(account_id=account("sibling"))))
        )
    mixed = batch(bare, Create(endpoint=endpoints_pb2.Endpoint(account_id=account("sub"))))
    made = (await enterprise.call(create, mixed)).endpoints
    assert [one.account_id for one in made] == [account("enterprise"), account("sub")]


async def at_the_same_time(*calls: Awaitable[object]) -> tuple[int, list[str]]:
    """How many succeeded, and the reasons of the others."""
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert not [one for one in outcomes if isinstance(one, Exception) and not isinstance(one, MeterlineError)]
    reasons = [one.reason for one in outcomes if isinstance(one, MeterlineError)]
    return len(outcomes) - len(reasons), reasons


async def test_of_many_that_want_one_sim_at_the_same_time_one_gets_it(world):
    (sim,) = await world.sims(1)
    enterprise, reseller = world.as_("enterprise"), world.as_("reseller")
    assign = sims_pb2.AssignSimsRequest(sim_ids=[sim], account_id=account("sibling"))
    succeeded, reasons = await at_the_same_time(
        *(enterprise.create(sim) for _ in range(6)), reseller.call(reseller.sims.AssignSims, assign)
    )
    assert succeeded == 1
    assert set(reasons) <= {"SIM_LINKED", "SIM_NOT_FOUND", "SIM_NOT_ASSIGNED"}


@pytest.mark.requirement("R065")
async def test_of_many_base_plans_at_the_same_time_one_is_in_force(world):
    plans = [world.catalog.add(f"plan {number}", "enterprise") for number in range(5)]
    prices = [world.catalog.add(f"price {number}", "reseller") for number in range(5)]
    endpoint = await world.active_endpoint()
    enterprise, reseller = world.as_("enterprise"), world.as_("reseller")

    async def change(plan: str) -> None:
        request = endpoints_pb2.ChangePlanRequest(endpoint_id=endpoint.id, plan_id=plan)
        await enterprise.call(enterprise.endpoints.ChangePlan, request)

    succeeded, reasons = await at_the_same_time(
        *(change(plan) for plan in plans), *(reseller.price("enterprise", price) for price in prices)
    )
    assert (succeeded, reasons) == (10, [])
    assert len(await enterprise.assigned(endpoint_id=endpoint.id)) == 1
    assert len(await reseller.assigned(account_id=account("enterprise"))) == 1
    assert len(await enterprise.assigned(endpoint_id=endpoint.id, include_removed=True)) == 6


async def test_a_lost_race_for_a_number_says_so(world):
    (sim,) = world.new_sims(1)
    reseller, stranger = world.as_("reseller"), world.as_("stranger")
    request = sims_pb2.ImportSimsRequest(sims=[sim])
    succeeded, reasons = await at_the_same_time(
        *(client.call(client.sims.ImportSims, request) for client in (reseller, stranger, reseller, stranger))
    )
    assert (succeeded, reasons) == (1, ["SIM_EXISTS"] * 3)


async def test_the_same_request_from_two_callers_at_the_same_time_is_done_once(world):
    (sim,) = await world.sims(1)
    enterprise = world.as_("enterprise")
    made = await asyncio.gather(*(enterprise.create(sim, request_id="twice") for _ in range(4)))
    assert len({endpoint.id for endpoint in made}) == 1
