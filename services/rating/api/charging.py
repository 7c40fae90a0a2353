"""ChargingService."""
# ruff: noqa: N802 - methods are named as in the contract

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from meterline.rating.v1 import charging_pb2, charging_pb2_grpc
from services.common.errors import InvalidArgumentError
from services.rating.convert.charging import (
    answer_to_proto,
    answers_to_proto,
    create_from_proto,
    event_from_proto,
    session_to_proto,
    update_from_proto,
)
from services.rating.domain.decisions import SessionAction
from services.rating.domain.events import Answer
from services.rating.domain.reasons import Outcome, Reason
from services.rating.usecases.charging import Charging
from services.rating.usecases.kit import Kit
from services.rating.usecases.sessions import Sessions
from services.runtime.server import current_call

STREAM_BATCHES_MAX = 64
WAIT_SECONDS_MAX = 5.0


class ChargingServicer(charging_pb2_grpc.ChargingServiceServicer):
    """Charges events and sessions."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._charging = Charging(kit)
        self._sessions = Sessions(kit)

    async def ChargeUsage(self, request: charging_pb2.ChargeUsageRequest, _: Any) -> charging_pb2.ChargeUsageResponse:
        """Charge a batch."""
        answers = await self._charging.charge(
            current_call().caller,
            [event_from_proto(event) for event in request.events],
            dry_run=request.validate_only,
        )
        return answers_to_proto(request.batch_id, answers)

    async def ChargeEvent(self, request: charging_pb2.ChargeEventRequest, _: Any) -> charging_pb2.ChargeResult:
        """Charge one event."""
        event, caller = event_from_proto(request.event), current_call().caller
        if request.validate_only:
            (answer,) = await self._charging.charge(caller, [event], dry_run=True)
        else:
            answer = await self._charging.charge_one(caller, event)
        result = charging_pb2.ChargeResult()
        answer_to_proto(answer, result)
        return result

    async def StreamUsage(
        self, requests: AsyncIterator[charging_pb2.ChargeUsageRequest], context: Any
    ) -> AsyncIterator[charging_pb2.ChargeUsageResponse]:
        """Charge a stream of batches, up to 64 at once."""
        answered: asyncio.Queue[charging_pb2.ChargeUsageResponse | BaseException | None] = asyncio.Queue()
        room = asyncio.Semaphore(STREAM_BATCHES_MAX)

        async def answer(request: charging_pb2.ChargeUsageRequest) -> None:
            try:
                answered.put_nowait(await self.ChargeUsage(request, context))
            except InvalidArgumentError as error:  # a batch that is empty or too large: it spoils no other
                refused = Answer(Outcome.INVALID, Reason.FIELD_INVALID, detail=error.message)
                answered.put_nowait(answers_to_proto(request.batch_id, [refused] * len(request.events)))
            except BaseException as error:  # noqa: BLE001 - it ends the stream, below
                answered.put_nowait(error)
            finally:
                room.release()

        async def read() -> None:
            try:
                async with asyncio.TaskGroup() as group:
                    async for request in requests:
                        await room.acquire()
                        group.create_task(answer(request))
            finally:
                answered.put_nowait(None)

        reading = asyncio.create_task(read())
        try:
            while (response := await answered.get()) is not None:
                if isinstance(response, BaseException):
                    raise response
                yield response
        finally:
            reading.cancel()

    async def CreateChargingSession(
        self, request: charging_pb2.CreateChargingSessionRequest, _: Any
    ) -> charging_pb2.ChargingSession:
        """Open a session."""
        return session_to_proto(await self._sessions.call(current_call().caller, create_from_proto(request)))

    async def UpdateChargingSession(
        self, request: charging_pb2.UpdateChargingSessionRequest, _: Any
    ) -> charging_pb2.ChargingSession:
        """Report and reserve again."""
        call = update_from_proto(request, SessionAction.UPDATE)
        return session_to_proto(await self._sessions.call(current_call().caller, call))

    async def ReleaseChargingSession(
        self, request: charging_pb2.UpdateChargingSessionRequest, _: Any
    ) -> charging_pb2.ChargingSession:
        """Report and close."""
        call = update_from_proto(request, SessionAction.RELEASE)
        return session_to_proto(await self._sessions.call(current_call().caller, call))

    async def GetChargingSession(
        self, request: charging_pb2.GetChargingSessionRequest, _: Any
    ) -> charging_pb2.ChargingSession:
        """Return a session."""
        return session_to_proto(await self._sessions.get(current_call().caller, request.session_id))

    async def WaitForChanges(
        self, request: charging_pb2.WaitForChangesRequest, context: Any
    ) -> charging_pb2.WaitForChangesResponse:
        """Wait until changes of the other services are known here."""
        current_call().caller.require_service()
        left = context.time_remaining()
        cursors = (request.accounts_cursor, request.catalog_cursor, request.endpoints_cursor)
        await self._kit.terms.wait_for(cursors, min(left or WAIT_SECONDS_MAX, WAIT_SECONDS_MAX))
        return charging_pb2.WaitForChangesResponse()
