"""Logs each call of clients: its begin, its end, and its answer or that it is unknown."""

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from meterline.rating.v1 import balances_pb2, balances_pb2_grpc, charging_pb2, charging_pb2_grpc
from services.runtime.statuses import from_rpc_error
from tests.system.stranger import Stranger

Answer = tuple[Any, ...]
"""CHARGED, REFUSED or what else came of it, and what belongs to it, as `replay` says it of the model; () is unknown."""

UNKNOWN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED)
CALL_S = 3
CHANNEL = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 300))
"""Comes back soon after a kill."""
SETTLE_S = 30


@dataclass
class Attempt:
    """One sending of one operation, for as long as its client waited.

    Attributes:
        key: what repeats of it have in common.
        content: what was said; another one under the same key is refused.
        begin, end: on the monotonic clock, seconds; the end is infinite if there was no answer.
        replayed: whether the answer says that it was given before; None if it does not say.
    """

    key: str
    content: bytes
    begin: float
    end: float = math.inf
    answer: Answer = ()
    replayed: bool | None = None


@dataclass(frozen=True)
class SessionCall:
    """A call of a session."""

    request: charging_pb2.CreateChargingSessionRequest | charging_pb2.UpdateChargingSessionRequest
    name: str
    sequence: int
    releases: bool = False

    @property
    def key(self) -> str:
        return f"{self.name} {self.sequence}"

    @property
    def content(self) -> bytes:
        return bytes([self.releases]) + self.request.SerializeToString(deterministic=True)


@dataclass
class History:
    """What all clients asked, and what came of it."""

    attempts: list[Attempt] = field(default_factory=list)
    events: list[charging_pb2.UsageEvent] = field(default_factory=list)
    calls: dict[str, SessionCall] = field(default_factory=dict)
    top_ups: dict[str, balances_pb2.TopUpBalanceRequest] = field(default_factory=dict)

    def begin(self, key: str, content: bytes) -> Attempt:
        """Note that something is sent."""
        attempt = Attempt(key, content, time.monotonic())
        self.attempts.append(attempt)
        return attempt

    def unanswered(self) -> set[str]:
        """Keys of what was asked and never answered."""
        return {each.key for each in self.attempts} - {each.key for each in self.attempts if each.answer}


def answer_of(result: charging_pb2.ChargeResult) -> Answer:
    """What a result says."""
    if result.outcome == charging_pb2.OUTCOME_CHARGED:
        return ("CHARGED", tuple(result.amounts_micros), result.uncovered_quantity, result.usage_record_id)
    reason = charging_pb2.Reason.Name(result.reason).removeprefix("REASON_")
    if result.outcome == charging_pb2.OUTCOME_REFUSED:
        return ("REFUSED", reason, result.refused_step, result.usage_record_id)
    return ("INVALID", reason)


def answer_of_session(session: charging_pb2.ChargingSession) -> Answer:
    """What a session's answer says."""
    return tuple(
        (
            grant.service,
            grant.granted_quantity,
            charging_pb2.Reason.Name(grant.reason).removeprefix("REASON_") if grant.reason else "",
            grant.limiting_step,
            tuple(grant.amounts_micros),
            grant.uncovered_quantity,
        )
        for grant in session.grants
    ) or ("NOTHING",)


class Doors:
    """Sends operations and notes each sending."""

    def __init__(self, caller: Stranger, channel: grpc.aio.Channel, history: History) -> None:
        self._caller = caller
        self._charging = charging_pb2_grpc.ChargingServiceStub(channel)
        self._balances = balances_pb2_grpc.BalanceServiceStub(channel)
        self._history = history

    async def charge(self, events: Sequence[charging_pb2.UsageEvent], *, alone: bool) -> bool:
        """Send events, one alone or many as a batch; whether they were answered."""
        attempts = [self._history.begin(e.event_id, e.SerializeToString(deterministic=True)) for e in events]
        sent: Any
        if alone:
            sent = self._charging.ChargeEvent(charging_pb2.ChargeEventRequest(event=events[0]), **self._options)
        else:
            sent = self._charging.ChargeUsage(charging_pb2.ChargeUsageRequest(events=events), **self._options)
        answered = await self._answered(sent, attempts)
        if isinstance(answered, (charging_pb2.ChargeResult, charging_pb2.ChargeUsageResponse)):
            results = [answered] if isinstance(answered, charging_pb2.ChargeResult) else answered.results
            for attempt, result in zip(attempts, results, strict=True):
                attempt.answer, attempt.replayed = answer_of(result), result.replayed
        return answered is not None

    async def call(self, call: SessionCall) -> Any:
        """Send a call of a session; what came back, None if that is not known."""
        attempt = self._history.begin(call.key, call.content)
        update = self._charging.ReleaseChargingSession if call.releases else self._charging.UpdateChargingSession
        door: Any = self._charging.CreateChargingSession if call.sequence == 0 else update
        answered = await self._answered(door(call.request, **self._options), [attempt])
        if isinstance(answered, charging_pb2.ChargingSession):
            attempt.answer, attempt.replayed = answer_of_session(answered), answered.replayed
        return answered

    async def top_up(self, request: balances_pb2.TopUpBalanceRequest) -> Any:
        """Send a top-up; what came back, None if that is not known. The balance it tells is of a later moment."""
        content = request.SerializeToString(deterministic=True)
        attempt = self._history.begin(request.request_id, content)
        answered = await self._answered(self._balances.TopUpBalance(request, **self._options), [attempt])
        if isinstance(answered, balances_pb2.Balance):
            attempt.answer = ("DONE",)
        return answered

    @property
    def _options(self) -> dict[str, Any]:
        return {"metadata": self._caller.metadata, "timeout": CALL_S}

    async def _answered(self, sent: Any, attempts: Sequence[Attempt]) -> Any:
        """What came back, a message or an error of ours that decides it; None if it is not known what happened."""
        try:
            answered = await sent
        except grpc.aio.AioRpcError as error:
            if error.code() in UNKNOWN:
                return None
            answered = from_rpc_error(error)
            for attempt in attempts:
                attempt.answer = ("ERROR", answered.reason)
        for attempt in attempts:
            attempt.end = time.monotonic()
        return answered


async def settle(doors: Doors, history: History) -> int:
    """Send again what was never answered, until it is; returns how many there were."""
    unanswered = history.unanswered()
    events = {event.event_id: event for event in history.events}
    async with asyncio.timeout(SETTLE_S):
        while left := history.unanswered():
            for key in left:
                if key in events:
                    await doors.charge([events[key]], alone=True)
                elif key in history.calls:
                    await doors.call(history.calls[key])
                else:
                    await doors.top_up(history.top_ups[key])
    return len(unanswered)
