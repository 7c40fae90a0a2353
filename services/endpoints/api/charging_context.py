"""ChargingContextService: what rating reads, and how it stays current."""
# ruff: noqa: N802 - methods are named as in the contract

from collections.abc import AsyncIterator

from meterline.endpoints.v1 import charging_context_pb2, charging_context_pb2_grpc
from services.endpoints.api.desk import Desk
from services.endpoints.convert import endpoints as convert
from services.endpoints.usecases import charging
from services.runtime.changes import ChangeFeed
from services.runtime.server import current_call


class ChargingContextServicer(charging_context_pb2_grpc.ChargingContextServiceServicer):
    """Serves Meterline's own services."""

    def __init__(self, desk: Desk, feed: ChangeFeed) -> None:
        self._desk = desk
        self._feed = feed

    async def BatchGetEndpointContexts(
        self, request: charging_context_pb2.BatchGetEndpointContextsRequest, _: object
    ) -> charging_context_pb2.BatchGetEndpointContextsResponse:
        """Return what charging needs of endpoints."""
        async with self._desk.reading() as store:
            found = await charging.endpoint_contexts(
                store, current_call().caller, set(request.endpoint_ids), self._desk.writes.clock.now_ms()
            )
        return charging_context_pb2.BatchGetEndpointContextsResponse(
            contexts=[convert.to_context(endpoint, given) for endpoint, given in found]
        )

    async def BatchGetAccountAssignments(
        self, request: charging_context_pb2.BatchGetAccountAssignmentsRequest, _: object
    ) -> charging_context_pb2.BatchGetAccountAssignmentsResponse:
        """Return what is assigned to accounts themselves."""
        async with self._desk.reading() as store:
            found = await charging.account_assignments(
                store, current_call().caller, request.account_ids, self._desk.writes.clock.now_ms()
            )
        return charging_context_pb2.BatchGetAccountAssignmentsResponse(
            accounts=[convert.to_account_assignments(account_id, given) for account_id, given in found]
        )

    async def WatchEndpointChanges(
        self, request: charging_context_pb2.WatchEndpointChangesRequest, _: object
    ) -> AsyncIterator[charging_context_pb2.WatchEndpointChangesResponse]:
        """Stream what changed; what is none of rating's business is passed over."""
        current_call().caller.require_service()
        async for change in self._feed.watch(request.from_cursor):
            if change.resource_type in {"", "endpoint", "account"}:
                yield charging_context_pb2.WatchEndpointChangesResponse(
                    cursor=change.cursor,
                    endpoint_id=change.resource_id if change.resource_type == "endpoint" else "",
                    account_id=change.resource_id if change.resource_type == "account" else "",
                )
