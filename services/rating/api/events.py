"""EventService."""
# ruff: noqa: N802 - methods are named as in the contract

from typing import Any

from meterline.rating.v1 import events_pb2, events_pb2_grpc
from services.common.pages import page_request
from services.rating.convert.events import event_to_proto
from services.rating.usecases.happenings import Happenings, Wanted
from services.runtime.server import current_call


class EventServicer(events_pb2_grpc.EventServiceServicer):
    """Reads what happened."""

    def __init__(self, happenings: Happenings) -> None:
        self._happenings = happenings

    async def ListEvents(self, request: events_pb2.ListEventsRequest, _: Any) -> events_pb2.ListEventsResponse:
        """List events, newest first."""
        wanted = Wanted(request.type, request.account_id, request.resource_id, request.endpoint_id)
        page = page_request(request.page_size, request.page_token)
        found = await self._happenings.list(current_call().caller, wanted, page)
        return events_pb2.ListEventsResponse(
            events=[event_to_proto(event) for event in found.rows], next_page_token=found.next_page_token
        )
