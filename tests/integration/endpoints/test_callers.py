"""Which account context may do what [003]."""

import grpc
import pytest

from meterline.endpoints.v1 import charging_context_pb2, endpoints_pb2
from services.common.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from services.common.identity import Role
from services.common.ids import new_id
from services.runtime.statuses import from_rpc_error
from tests.integration.endpoints.world import account


@pytest.mark.requirement("R258", "R267", "R282", "R285")
async def test_a_reseller_sees_the_endpoints_below_it_and_writes_none(world):
    endpoint = await world.active_endpoint()
    (sim,) = await world.sims(1)
    for name in ("reseller", "operator"):
        above = world.as_(name)
        assert (await above.endpoint(endpoint.id)).id == endpoint.id
        for attempt in (
            lambda above=above: above.create(),
            lambda above=above: above.create(sim, endpoint={"account_id": account("enterprise")}),
            lambda above=above: above.move("SuspendEndpoint", endpoint.id),
            lambda above=above: above.move("DeactivateEndpoint", endpoint.id),
            lambda above=above: above.link("SwapSim", endpoint.id, sim),
        ):
            with pytest.raises(PermissionDeniedError) as refused:
                await attempt()
            assert refused.value.reason == "ACCOUNT_KIND_NOT_PERMITTED"
    assert (await world.as_("enterprise").endpoint(endpoint.id)) == endpoint


@pytest.mark.requirement("R260", "R263", "R265", "R266", "R280")
async def test_every_endpoint_belongs_to_an_enterprise_or_its_partition(world):
    enterprise = world.as_("enterprise")
    own = await enterprise.create()
    for_sub = await enterprise.create(endpoint={"account_id": account("sub")})
    by_sub = await world.as_("sub").create()
    assert {made.enterprise_id for made in (own, for_sub, by_sub)} == {account("enterprise")}
    assert [made.account_id for made in (own, for_sub, by_sub)] == [
        account("enterprise"),
        account("sub"),
        account("sub"),
    ]

    async def listed(name: str, **wanted: str) -> set[str]:
        client = world.as_(name)
        request = endpoints_pb2.ListEndpointsRequest(**wanted)  # type: ignore[arg-type]
        return {one.id for one in (await client.call(client.endpoints.ListEndpoints, request)).endpoints}

    assert await listed("sub") == {for_sub.id, by_sub.id}
    assert await listed("enterprise") == await listed("reseller") == {own.id, for_sub.id, by_sub.id}
    assert await listed("enterprise", account_id=account("sub")) == {for_sub.id, by_sub.id}
    assert await listed("reseller", account_id=account("enterprise")) == {own.id, for_sub.id, by_sub.id}
    assert (
        await listed("sibling") == await listed("far") == await listed("other_sub") == await listed("nested") == set()
    )


@pytest.mark.requirement("R285")
async def test_what_is_outside_the_subtree_does_not_exist(world):
    endpoint = await world.active_endpoint()
    for name in ("sibling", "sub", "far"):
        outside = world.as_(name)
        for attempt in (
            lambda outside=outside: outside.endpoint(endpoint.id),
            lambda outside=outside: outside.move("SuspendEndpoint", endpoint.id),
            lambda outside=outside: outside.assignment(endpoint.base_assignment.id),
            lambda outside=outside: outside.create(endpoint={"account_id": account("enterprise")}),
        ):
            with pytest.raises(NotFoundError):
                await attempt()
    with pytest.raises(NotFoundError):
        await world.as_("stranger").endpoint(endpoint.id)
    with pytest.raises(NotFoundError, match="ENDPOINT_NOT_FOUND"):
        await world.as_("enterprise").endpoint(new_id("ep"))


async def test_roles_bound_what_a_key_may_do(small_world):
    endpoint = await small_world.active_endpoint()
    viewer = small_world.as_("enterprise", Role.VIEWER)
    assert (await viewer.endpoint(endpoint.id)).id == endpoint.id
    charger = small_world.as_("enterprise", Role.CHARGER)
    for attempt in (
        lambda: viewer.move("SuspendEndpoint", endpoint.id),
        viewer.create,
        lambda: viewer.addon(endpoint.id, endpoint.base_assignment.plan_id),
        lambda: viewer.remove(endpoint.base_assignment.id),
        lambda: charger.endpoint(endpoint.id),
        charger.assigned,
    ):
        with pytest.raises(PermissionDeniedError, match="ROLE_NOT_PERMITTED"):
            await attempt()


async def test_an_ended_account_gets_no_endpoints(small_world):
    with pytest.raises(FailedPreconditionError, match="ACCOUNT_TERMINATED"):
        await small_world.as_("ended").create()


async def test_an_api_key_is_resolved_by_accounts(small_world):
    client = small_world.as_("enterprise")
    request = endpoints_pb2.ListEndpointsRequest()
    key = (("authorization", "Bearer mk_enterprise"),)
    assert await client.endpoints.ListEndpoints(request, metadata=key) == endpoints_pb2.ListEndpointsResponse()
    for bad in ((("authorization", "Bearer mk_nobody"),), ()):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.endpoints.ListEndpoints(request, metadata=bad)
        assert isinstance(from_rpc_error(refused.value), UnauthenticatedError)


async def test_what_rating_reads_is_for_services_only(small_world):
    client = small_world.as_("operator")
    for method, request in (
        (
            client.contexts.BatchGetEndpointContexts,
            charging_context_pb2.BatchGetEndpointContextsRequest(endpoint_ids=[new_id("ep")]),
        ),
        (
            client.contexts.BatchGetAccountAssignments,
            charging_context_pb2.BatchGetAccountAssignmentsRequest(account_ids=[account("reseller")]),
        ),
    ):
        with pytest.raises(NotFoundError, match="METHOD_NOT_FOUND"):
            await client.call(method, request)


async def test_an_unknown_apn_group_is_refused(small_world):
    enterprise = small_world.as_("enterprise")
    with pytest.raises(NotFoundError, match="APN_GROUP_NOT_FOUND"):
        await enterprise.create(endpoint={"apn_group_id": new_id("apn")})
    with pytest.raises(InvalidArgumentError):
        await enterprise.create(endpoint={"apn_group_id": "apn_1"})
