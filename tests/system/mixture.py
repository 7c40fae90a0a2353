"""Clients that do a random mix of single events, batches, sessions, top-ups, repeats and changed repeats."""

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from meterline.rating.v1 import balances_pb2, charging_pb2
from meterline.type.v1 import service_pb2
from services.common.errors import MeterlineError
from services.rating.usecases.sessions import session_id
from tests.system.history import Doors, History, SessionCall
from tests.system.market import BE, MB, UNCOVERED, ZA, usage
from tests.system.stranger import fresh

PAUSE_S = 0.3
SESSIONS_MAX = 2
BATCH_MAX = 12
QUANTITIES = (1, MB // 3, MB, 7 * MB, 60 * MB)


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
