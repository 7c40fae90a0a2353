"""EndpointService."""
# ruff: noqa: N802 - methods are named as in the contract

from collections.abc import Sequence

from google.protobuf.empty_pb2 import Empty

from meterline.endpoints.v1 import endpoints_pb2, endpoints_pb2_grpc
from services.common.pages import page_request
from services.endpoints.api.desk import Desk
from services.endpoints.convert import endpoints as convert
from services.endpoints.domain.endpoints import Endpoint, Verb
from services.endpoints.usecases import creation, endpoints
from services.runtime.masks import updated_id
from services.runtime.server import current_call

ChangeStateRequest = endpoints_pb2.ChangeEndpointStateRequest


class EndpointServicer(endpoints_pb2_grpc.EndpointServiceServicer):
    """Keeps endpoints and their lifecycle."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def CreateEndpoint(self, request: endpoints_pb2.CreateEndpointRequest, _: object) -> endpoints_pb2.Endpoint:
        """Create an endpoint."""
        new, desk = convert.from_create_request(request), self._desk
        return await desk.write(
            request,
            endpoints_pb2.Endpoint,
            lambda store, caller, now_ms: creation.create_endpoint(
                store, desk.accounts, desk.catalog, caller, new, now_ms
            ),
            convert.to_proto,
            settles=True,
        )

    async def BatchCreateEndpoints(
        self, request: endpoints_pb2.BatchCreateEndpointsRequest, _: object
    ) -> endpoints_pb2.BatchCreateEndpointsResponse:
        """Create many endpoints, all or none."""
        news = [convert.from_create_request(one, f"requests[{i}].") for i, one in enumerate(request.requests)]
        desk = self._desk

        def answer(created: Sequence[Endpoint]) -> endpoints_pb2.BatchCreateEndpointsResponse:
            return endpoints_pb2.BatchCreateEndpointsResponse(endpoints=[convert.to_proto(one) for one in created])

        return await desk.write(
            request,
            endpoints_pb2.BatchCreateEndpointsResponse,
            lambda store, caller, now_ms: creation.create_endpoints(
                store, desk.accounts, desk.catalog, caller, news, now_ms
            ),
            answer,
            settles=True,
        )

    async def GetEndpoint(self, request: endpoints_pb2.GetEndpointRequest, _: object) -> endpoints_pb2.Endpoint:
        """Return an endpoint."""
        async with self._desk.reading() as store:
            return convert.to_proto(await endpoints.get_endpoint(store, current_call().caller, request.endpoint_id))

    async def ListEndpoints(
        self, request: endpoints_pb2.ListEndpointsRequest, _: object
    ) -> endpoints_pb2.ListEndpointsResponse:
        """Return a page of endpoints."""
        wanted, page = convert.from_list_request(request), page_request(request.page_size, request.page_token)
        async with self._desk.reading() as store:
            found = await endpoints.list_endpoints(store, current_call().caller, wanted, page)
        return endpoints_pb2.ListEndpointsResponse(
            endpoints=[convert.to_proto(one) for one in found.rows], next_page_token=found.next_page_token
        )

    async def UpdateEndpoint(self, request: endpoints_pb2.UpdateEndpointRequest, _: object) -> endpoints_pb2.Endpoint:
        """Change name, tags, APN group and service barring."""
        changes, endpoint_id = (
            convert.from_update_request(request),
            updated_id(request.endpoint.id, "endpoint.id", "ep"),
        )
        return await self._desk.write(
            request,
            endpoints_pb2.Endpoint,
            lambda store, caller, now_ms: endpoints.update_endpoint(
                store, self._desk.catalog, caller, endpoint_id, changes, now_ms
            ),
            convert.to_proto,
            settles=True,
        )

    async def DeleteEndpoint(self, request: endpoints_pb2.DeleteEndpointRequest, _: object) -> Empty:
        """Delete an endpoint; it stays for the records."""
        return await self._desk.write(
            request,
            Empty,
            lambda store, caller, now_ms: endpoints.move_endpoint(
                store, caller, request.endpoint_id, Verb.DELETE, "", now_ms
            ),
            lambda _: Empty(),
            settles=True,
        )

    async def ActivateEndpoint(self, request: ChangeStateRequest, _: object) -> endpoints_pb2.Endpoint:
        """Make it fully operational."""
        return await self._move(request, Verb.ACTIVATE)

    async def SuspendEndpoint(self, request: ChangeStateRequest, _: object) -> endpoints_pb2.Endpoint:
        """Block it for a time."""
        return await self._move(request, Verb.SUSPEND)

    async def ResumeEndpoint(self, request: ChangeStateRequest, _: object) -> endpoints_pb2.Endpoint:
        """End its suspension."""
        return await self._move(request, Verb.RESUME)

    async def DeactivateEndpoint(self, request: ChangeStateRequest, _: object) -> endpoints_pb2.Endpoint:
        """Make it fully inactive and free its SIM."""
        return await self._move(request, Verb.DEACTIVATE)

    async def DelinkSim(self, request: ChangeStateRequest, _: object) -> endpoints_pb2.Endpoint:
        """Take its SIM away."""
        return await self._move(request, Verb.DELINK_SIM)

    async def LinkSim(self, request: endpoints_pb2.LinkSimRequest, _: object) -> endpoints_pb2.Endpoint:
        """Give it a SIM."""
        return await self._link(request, Verb.LINK_SIM)

    async def SwapSim(self, request: endpoints_pb2.LinkSimRequest, _: object) -> endpoints_pb2.Endpoint:
        """Give it another SIM."""
        return await self._link(request, Verb.SWAP_SIM)

    async def ChangePlan(self, request: endpoints_pb2.ChangePlanRequest, _: object) -> endpoints_pb2.Endpoint:
        """Replace its base plan."""
        desk = self._desk
        return await desk.write(
            request,
            endpoints_pb2.Endpoint,
            lambda store, caller, now_ms: endpoints.change_plan(
                store, desk.accounts, desk.catalog, caller, request.endpoint_id, request.plan_id, now_ms
            ),
            convert.to_proto,
            settles=True,
        )

    async def _move(self, request: ChangeStateRequest, verb: Verb) -> endpoints_pb2.Endpoint:
        return await self._desk.write(
            request,
            endpoints_pb2.Endpoint,
            lambda store, caller, now_ms: endpoints.move_endpoint(
                store, caller, request.endpoint_id, verb, request.reason, now_ms
            ),
            convert.to_proto,
            settles=True,
        )

    async def _link(self, request: endpoints_pb2.LinkSimRequest, verb: Verb) -> endpoints_pb2.Endpoint:
        return await self._desk.write(
            request,
            endpoints_pb2.Endpoint,
            lambda store, caller, now_ms: endpoints.link_sim(
                store, caller, request.endpoint_id, request.sim_id, verb, now_ms
            ),
            convert.to_proto,
            settles=True,
        )
