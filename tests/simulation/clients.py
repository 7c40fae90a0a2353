"""Clients: they charge, open sessions, top up and read, repeat what they got no answer to, and remember every answer."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from random import Random
from typing import Any

from services.common.clock import HOUR_MS, MINUTE_MS
from services.common.errors import MeterlineError, ResourceExhaustedError, UnavailableError
from services.common.identity import AccountKind, Principal, Role
from services.common.money import Money
from services.rating.domain.decisions import SessionAction
from services.rating.domain.events import Answer, UsageEvent
from services.rating.domain.reasons import Outcome, Reason
from services.rating.usecases.sessions import Session, SessionCall, Units, session_id
from tests.integration.rating.world import event
from tests.simulation.market import ENDPOINTS
from tests.simulation.network import LostError, RefusedError
from tests.simulation.processes import RatingProcess, Surroundings
from tests.unit.rating.terms import ENTERPRISE, EU, MB, RESELLER

CALLER = Principal("key_o", "acc_o", AccountKind.OPERATOR, ("acc_o",), Role.ADMIN)
CALL_TIMEOUT_S = 6.0
SETTLE_TRIES_MAX = 60


@dataclass
class EventHistory:
    """An event and every answer to it."""

    event: UsageEvent
    answers: list[Answer] = field(default_factory=list)


@dataclass
class TopUpHistory:
    """A top-up and how often it was confirmed."""

    owner: str
    micros: int
    confirmed: int = 0


@dataclass
class CallHistory:
    """A call of a session and every answer to it."""

    call: SessionCall
    answers: list[Session] = field(default_factory=list)


@dataclass
class History:
    """All that clients asked and were told."""

    events: dict[str, EventHistory] = field(default_factory=dict)
    top_ups: dict[str, TopUpHistory] = field(default_factory=dict)
    calls: dict[tuple[str, int], CallHistory] = field(default_factory=dict)
    unsettled: list[Callable[[], Awaitable[bool]]] = field(default_factory=list)
    """What has no answer yet, as something that asks again and says whether there is one now."""


class Client:
    """One client with its own share of the work."""

    def __init__(self, name: str, around: Surroundings, processes: list[RatingProcess], history: History) -> None:
        self._name = name
        self._around = around
        self._random: Random = around.random
        self._processes = processes
        self._history = history
        self._number = 0

    def _next(self, kind: str) -> str:
        self._number += 1
        return f"{kind}-{self._name}-{self._number}"

    def _now_ms(self) -> int:
        return self._around.clock.now_ms()

    def _failure(self, text: str) -> None:
        self._around.trace(f"WRONG {text}")
        self._around.failures.append(text)

    async def run(self, works: int) -> None:
        """Do so many things, one after the other."""
        kinds = [self._charge, self._charge, self._charge, self._session, self._top_up, self._read, self._reuse]
        for _ in range(works):
            await self._random.choice(kinds)()
            await asyncio.sleep(self._random.expovariate(2.0))

    async def _try(self, what: str, work: Callable[[RatingProcess], Any], take: Callable[[Any], None]) -> bool:
        """Ask once; return whether there was an answer."""
        process = self._random.choice(self._processes)
        self._around.trace(f"{self._name} asks {process.name}: {what}")
        try:
            answer = await process.ask(what, lambda: work(process), CALL_TIMEOUT_S)
        except (LostError, RefusedError, UnavailableError, ResourceExhaustedError) as error:
            self._around.trace(f"{self._name} has no answer: {what}: {error}")
            return False
        self._around.trace(f"{self._name} is told: {what}: {answer}")
        take(answer)
        return True

    async def _insist(self, what: str, work: Callable[[RatingProcess], Any], take: Callable[[Any], None]) -> bool:
        """Ask until there is an answer or patience ends; what has none may be asked for again at the end."""
        patience = self._random.randrange(5)
        for _ in range(patience + 1):
            if await self._try(what, work, take):
                if self._random.random() < 0.1:
                    await self._try(what, work, take)  # once more, though it has been answered
                return True
            await asyncio.sleep(self._random.uniform(0.1, 1.5))
        if self._random.random() < 0.7:
            self._history.unsettled.append(lambda: self._try(what, work, take))
        return False

    async def settle(self, ask: Callable[[], Awaitable[bool]]) -> None:
        """Ask until there is an answer: now that nothing fails there must be one."""
        for _ in range(SETTLE_TRIES_MAX):
            if await ask():
                return
            await asyncio.sleep(self._random.uniform(0.2, 1.0))
        self._failure("a call has no answer though nothing fails any more")

    async def settle_on(self, process: RatingProcess) -> None:
        """Charge an event at one process."""
        self._processes = [process]
        events = [self._new_event()]

        def take(answers: list[Answer]) -> None:
            self._history.events[events[0].event_id].answers.append(answers[0])

        await self.settle(lambda: self._try("last", lambda process: process.charging.charge(CALLER, events), take))

    # --- events ----------------------------------------------------------------------------------------------------

    def _new_event(self) -> UsageEvent:
        random = self._random
        age = random.choice([0, 0, 0, random.randrange(10 * MINUTE_MS), random.randrange(60 * HOUR_MS)])
        made = event(
            random.choice([1, random.randrange(1, 5 * MB), random.randrange(1, 60 * MB)]),
            self._next("e"),
            endpoint_id=random.choice(ENDPOINTS),
            usage_time_ms=self._now_ms() - age,
            mode=random.choice([1, 1, 2]),
        )
        self._history.events[made.event_id] = EventHistory(made)
        return made

    async def _charge(self) -> None:
        events = [self._new_event() for _ in range(self._random.choice([1, 1, 2, 4]))]
        known = list(self._history.events.values())
        if self._random.random() < 0.3:
            events.append(self._random.choice(known).event)  # somebody else's too, perhaps at this moment
        await self._charge_all(events)

    async def _charge_all(self, events: list[UsageEvent]) -> None:
        def take(answers: list[Answer]) -> None:
            for each, answer in zip(events, answers, strict=True):
                self._history.events[each.event_id].answers.append(answer)

        names = ",".join(each.event_id for each in events)
        await self._insist(f"charge {names}", lambda process: process.charging.charge(CALLER, events), take)

    async def _reuse(self) -> None:
        """The same id with other content must be refused once the first content was answered."""
        decided = [
            each.event
            for each in self._history.events.values()
            if any(answer.outcome is not Outcome.INVALID for answer in each.answers)
        ]
        if not decided:
            return
        chosen = self._random.choice(decided)
        other = event(
            chosen.quantity + 1,
            chosen.event_id,
            endpoint_id=chosen.endpoint_id,
            usage_time_ms=chosen.usage_ms,
            mode=chosen.mode,
        )

        def take(answers: list[Answer]) -> None:
            if answers[0].reason not in {Reason.EVENT_ID_REUSED, Reason.USAGE_TIME_IN_FUTURE}:
                self._failure(f"{other.event_id} with other content was answered {answers[0]}")

        await self._insist(f"reuse {other.event_id}", lambda process: process.charging.charge(CALLER, [other]), take)

    # --- money -----------------------------------------------------------------------------------------------------

    async def _top_up(self) -> None:
        owner = self._random.choice([*ENDPOINTS, ENTERPRISE])
        endpoint_id, account_id = (owner, "") if owner in ENDPOINTS else ("", owner)
        request_id = self._next("t")
        micros = self._random.randrange(1, 120_000)
        about = self._history.top_ups[request_id] = TopUpHistory(owner, micros)
        amount = Money("EUR", micros)

        def take(balance: Any) -> None:
            about.confirmed += 1

        await self._insist(
            f"top up {request_id} of {owner} by {micros}",
            lambda process: process.balances.top_up(CALLER, endpoint_id, account_id, amount, request_id),
            take,
        )

    async def _read(self) -> None:
        owner = self._random.choice([*ENDPOINTS, ENTERPRISE, RESELLER])
        endpoint_id, account_id = (owner, "") if owner in ENDPOINTS else ("", owner)

        def take(balances: Any) -> None:
            if any(not 0 <= balance.reserved <= balance.remaining for balance in balances):
                self._failure(f"balances of {owner}: {balances}")

        await self._try(
            f"read {owner}", lambda process: process.balances.of_owner(CALLER, endpoint_id, account_id), take
        )

    # --- sessions --------------------------------------------------------------------------------------------------

    async def _session(self) -> None:
        """Open a session, report a few times, release it or fall silent."""
        endpoint_id, ref = self._random.choice(ENDPOINTS), self._next("s")
        granted: list[int] = [0]
        actions = [SessionAction.CREATE] + [SessionAction.UPDATE] * self._random.randrange(3)
        if self._random.random() < 0.7:
            actions.append(SessionAction.RELEASE)
        for sequence, action in enumerate(actions):
            used = 0 if action is SessionAction.CREATE else self._random.randrange(granted[0] * 5 // 4 + MB)
            wanted = 0 if action is SessionAction.RELEASE else self._random.randrange(50 * MB)
            if not await self._call(endpoint_id, ref, action, sequence, (used, wanted), granted):
                return
            await asyncio.sleep(self._random.expovariate(2.0))

    async def _call(
        self,
        endpoint_id: str,
        ref: str,
        action: SessionAction,
        sequence: int,
        units: tuple[int, int],
        granted: list[int],
    ) -> bool:
        name = session_id(endpoint_id, ref)
        digest = blake2b(f"{action} {sequence} {units}".encode(), digest_size=8).digest()
        call = SessionCall(name, ref, action, sequence, endpoint_id, EU, 3, [Units(1, *units)], 0, digest)
        about = self._history.calls[name, sequence] = CallHistory(call)
        ended: list[bool] = []

        def take(session: Session | None) -> None:
            if session is None:
                ended.append(True)
            else:
                about.answers.append(session)
                granted[0] = session.grants[0].granted

        async def work(process: RatingProcess) -> Session | None:
            try:
                return await process.sessions.call(CALLER, call)
            except MeterlineError as error:
                if error.reason == "SESSION_CLOSED":
                    return None  # it expired
                raise

        try:
            answered = await self._insist(f"{action.name} {ref} {sequence} {units}", work, take)
        except MeterlineError as error:
            self._failure(f"{action.name} {ref} {sequence} was refused: {error}")
            return False
        return answered and not ended
