"""Clients that do a random mix of everything and log each call: its begin, its end, and its answer or that it is unknown."""

import asyncio
import math
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from meterline.rating.v1 import balances_pb2, balances_pb2_grpc, charging_pb2, charging_pb2_grpc
from meterline.type.v1 import service_pb2
from services.common.errors import MeterlineError
from services.rating.usecases.sessions import session_id
from services.runtime.statuses import from_rpc_error
from tests.system.market import BE, MB, UNCOVERED, ZA, usage
from tests.system.stranger import Stranger, fresh

Answer = tuple[Any, ...]
"""CHARGED, REFUSED or what else came of it, and what belongs to it, as `replay` says it of the model; () is unknown."""

UNKNOWN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED)
CALL_S = 3
PAUSE_S = 0.3
CHANNEL = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 300))
"""Comes back soon after a kill."""
SETTLE_S = 30
SESSIONS_MAX = 2
BATCH_MAX = 12
QUANTITIES = (1, MB // 3, MB, 7 * MB, 60 * MB)


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


@dataclass
class _Open:
    """A session as its client knows it."""

    last: SessionCall
    granted: int


class Client:
    """Does something at random, again and again.

    Args:
        doors: where it sends.
        history: what all clients did: it repeats what others sent, too.
        endpoints: of which it reports use.
        payers: endpoint or account ids that get top-ups.
        seed: of its choices.
    """

    def __init__(
        self, doors: Doors, history: History, endpoints: Sequence[str], payers: Sequence[str], seed: int
    ) -> None:
        self._doors = doors
        self._history = history
        self._endpoints = endpoints
        self._payers = payers
        self._random = random.Random(seed)
        self._open: list[_Open] = []

    async def run(self, is_over: Callable[[], bool]) -> None:
        """Go on until it is over."""
        choices: dict[Callable[[], Coroutine[Any, Any, bool]], int] = {
            self._event: 30,
            self._batch: 15,
            self._session: 30,
            self._top_up: 5,
            self._repeat: 12,
            self._changed: 8,
        }
        while not is_over():
            (choice,) = self._random.choices(list(choices), list(choices.values()))
            if not await choice():
                await asyncio.sleep(PAUSE_S)

    def _new_event(self) -> charging_pb2.UsageEvent:
        draw = self._random
        event = usage(
            draw.choice(self._endpoints),
            draw.choice(QUANTITIES),
            network_id=draw.choices([BE, ZA, UNCOVERED], [8, 1, 1])[0],
            mode=draw.choice([charging_pb2.USAGE_MODE_ONLINE, charging_pb2.USAGE_MODE_OFFLINE]),
        )
        self._history.events.append(event)
        return event

    async def _event(self) -> bool:
        return await self._doors.charge([self._new_event()], alone=True)

    async def _batch(self) -> bool:
        events = [self._new_event() for _ in range(self._random.randint(1, BATCH_MAX))]
        if self._random.random() < 0.3:
            events.append(self._random.choice(self._history.events))  # perhaps one of its own: twice in a batch
        return await self._doors.charge(events, alone=False)

    async def _repeat(self) -> bool:
        """Send again what somebody sent, answered or not, or still on its way."""
        if self._history.top_ups and self._random.random() < 0.2:
            return await self._doors.top_up(self._random.choice(list(self._history.top_ups.values()))) is not None
        if not self._history.events:
            return True
        return await self._doors.charge([self._random.choice(self._history.events[-200:])], alone=True)

    async def _changed(self) -> bool:
        """Send other content under an id that was sent before."""
        if self._open and self._random.random() < 0.3:
            open_session = self._random.choice(self._open)
            changed = charging_pb2.UpdateChargingSessionRequest()
            if open_session.last.sequence == 0:
                return True
            changed.CopyFrom(open_session.last.request)  # type: ignore[arg-type] # an update
            changed.units[0].used_quantity += 1
            call = SessionCall(changed, open_session.last.name, open_session.last.sequence, open_session.last.releases)
            return await self._doors.call(call) is not None
        if not self._history.events:
            return True
        event = charging_pb2.UsageEvent()
        event.CopyFrom(self._random.choice(self._history.events[-200:]))
        event.quantity += 1
        return await self._doors.charge([event], alone=True)

    async def _top_up(self) -> bool:
        payer = self._random.choice(self._payers)
        owner = {"endpoint_id" if payer.startswith("ep_") else "account_id": payer}
        request = balances_pb2.TopUpBalanceRequest(request_id=fresh("top-up"), **owner)  # type: ignore[arg-type]
        request.amount.currency_code, request.amount.nanos = "EUR", self._random.choice([1_000_000, 50_000_000])
        self._history.top_ups[request.request_id] = request
        return await self._doors.top_up(request) is not None

    async def _session(self) -> bool:
        if len(self._open) < SESSIONS_MAX:
            return await self._ask(self._opening(), None)
        known = self._random.choice(self._open)
        return await self._ask(self._next_call(known), known)

    def _opening(self) -> SessionCall:
        endpoint_id, ref = self._random.choice(self._endpoints), fresh("session")
        request = charging_pb2.CreateChargingSessionRequest(
            session_ref=ref, endpoint_id=endpoint_id, network_id=BE, access_type=service_pb2.ACCESS_TYPE_4G
        )
        request.units.add(service=service_pb2.SERVICE_DATA, requested_quantity=self._random.choice(QUANTITIES))
        return SessionCall(request, session_id(endpoint_id, ref), 0)

    def _next_call(self, known: _Open) -> SessionCall:
        draw, releases = self._random, self._random.random() < 0.3
        over = draw.choices([0, draw.choice(QUANTITIES)], [9, 1])[0]
        request = charging_pb2.UpdateChargingSessionRequest(
            session_id=known.last.name, sequence_number=known.last.sequence + 1
        )
        request.units.add(
            service=service_pb2.SERVICE_DATA,
            used_quantity=draw.randint(0, known.granted) + over,
            requested_quantity=0 if releases else draw.choice([0, *QUANTITIES]),
        )
        return SessionCall(request, known.last.name, known.last.sequence + 1, releases)

    async def _ask(self, call: SessionCall, known: _Open | None) -> bool:
        """Send a call until it is answered, or give the session up and leave it open whether it was."""
        self._history.calls[call.key] = call
        if known is not None:
            self._open.remove(known)
        while (answered := await self._doors.call(call)) is None:
            if self._random.random() < 0.2:
                return False
            await asyncio.sleep(PAUSE_S)
        if isinstance(answered, MeterlineError):
            raise answered
        if self._random.random() < 0.1:
            await self._doors.call(call)
        if not call.releases:
            self._open.append(_Open(call, sum(grant.granted_quantity for grant in answered.grants)))
        return True


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
