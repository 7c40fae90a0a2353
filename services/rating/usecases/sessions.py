"""Charging sessions: reserve, report and reserve again, release (RFC 8506, TS 32.291)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.common.clock import HOUR_MS, MINUTE_MS
from services.common.errors import (
    AbortedError,
    AlreadyExistsError,
    FailedPreconditionError,
    MeterlineError,
    UnavailableError,
    invalid,
    not_found,
)
from services.common.identity import CHARGERS, Principal
from services.common.ids import derived_id
from services.rating.domain.cells import cell_of_session, session_in_cell
from services.rating.domain.decisions import (
    NOWHERE,
    Failure,
    Op,
    Outcome,
    SessionAction,
    SessionImage,
    SessionLine,
    SessionOp,
    SessionState,
    Status,
    Visited,
)
from services.rating.domain.escrow import kind_of
from services.rating.domain.events import AGE_MAX_MS, FUTURE_MAX_MS
from services.rating.domain.reasons import Reason
from services.rating.ports import KnownEndpoint
from services.rating.usecases.cells import Cell
from services.rating.usecases.charging import LEASE_TRIES_MAX, program_for, visible_steps
from services.rating.usecases.kit import Kit
from services.rating.usecases.seeing import require_endpoint

VALIDITY_MS = 30 * MINUTE_MS
"""How long a grant holds without an update."""
EXPIRY_MS = 24 * HOUR_MS
"""How long a session stays open without a call."""
STALE_TRIES_MAX = 5
KNOWN_MAX = 100_000
"""Sessions that a process remembers; beyond it, those whose last call is the oldest are read from Valkey again."""


@dataclass(frozen=True, slots=True)
class Units:
    """What a call reports and asks for, for one service at one time (milliseconds since 1970; 0 means the call's)."""

    service: int
    used: int
    requested: int
    usage_ms: int = 0

    def used_ms(self, event_ms: int) -> int:
        """When it was used, as of a call at a time."""
        return min(self.usage_ms or event_ms, event_ms)


@dataclass(frozen=True, slots=True)
class SessionCall:
    """A call of a session's client.

    Attributes:
        session_id: id of the session.
        session_ref: the client's own id of it.
        event_ms: when it happens, milliseconds since 1970; 0 means now.
        body_digest: digest of the call's content: a repeat has the same.
        used_on: where what it reports was used: where the session was until this call.
        dry_run: say what would be answered, and change nothing.
    """

    session_id: str
    session_ref: str
    action: SessionAction
    sequence: int
    endpoint_id: str
    network_id: str
    access_type: int
    units: Sequence[Units]
    event_ms: int
    body_digest: bytes
    dry_run: bool = False
    used_on: Visited = NOWHERE


@dataclass(frozen=True, slots=True)
class Grant:
    """What may be used now of one service, and what the reported use cost.

    Attributes:
        throttled: whether it is to be slowed down.
        switch_ms: when its price changes next, milliseconds since 1970; 0 if no change is known.
    """

    service: int
    granted: int
    reason: Reason
    limiting_step: int
    final: bool
    uncovered: int
    amounts: Sequence[int]
    throttled: bool
    switch_ms: int


@dataclass(frozen=True, slots=True)
class Session:
    """A session with its last answer.

    Attributes:
        valid_until_ms: until when the grants hold, milliseconds since 1970.
        ends_ms: when it expires if no call comes.
        late: whether the last call came after it was closed: its use was charged, and nothing granted.
    """

    id: str
    session_ref: str
    endpoint_id: str
    state: SessionState
    sequence: int
    grants: Sequence[Grant]
    valid_until_ms: int
    ends_ms: int
    late: bool
    replayed: bool


def session_id(endpoint_id: str, session_ref: str, cell: int = 0) -> str:
    """Id of the session that a client's reference stands for, in a cell."""
    return session_in_cell(derived_id("ses", endpoint_id, session_ref), cell)


class Sessions:
    """Opens, updates, releases and reads sessions."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._known: dict[str, tuple[SessionCall, int]] = {}
        """By id, the last call that was answered here and when its session ends, oldest first."""

    async def call(self, caller: Principal, call: SessionCall) -> Session:
        """Create (the call names everything), update or release (what it leaves empty stays as it is).

        Raises:
            NotFoundError: no such session, endpoint or network for the caller.
            AbortedError: SESSION_OUT_OF_SEQUENCE, SESSION_CALL_CHANGED.
            AlreadyExistsError: SESSION_REF_REUSED.
            FailedPreconditionError: SESSION_CLOSED.
        """
        caller.require_role(*CHARGERS)
        self._kit.terms.require_current()
        now_ms = self._kit.clock.now_ms()
        event_ms = call.event_ms or now_ms
        _require_sound(call.units, event_ms, now_ms)
        event_ms = min(event_ms, now_ms)  # a clock that is fast ends no balance early
        said = call
        call = await self._completed(said)
        if call.network_id not in self._kit.terms.networks:
            await require_endpoint(self._kit.terms, caller, call.endpoint_id)
            if call.network_id not in self._kit.terms.networks:
                raise not_found("network", call.network_id)
        leased = 0
        for _ in range(STALE_TRIES_MAX + LEASE_TRIES_MAX + 1):
            known = await require_endpoint(self._kit.terms, caller, call.endpoint_id)
            await self._kit.escrow.settle(self._kit.escrow.unsettled(known.chain.accounts[1:]))
            cell = self._kit.cells.of(known.terms.enterprise_id)
            if call.action is SessionAction.CREATE:
                call = replace(call, session_id=session_in_cell(call.session_id, cell.engine.cell))
            outcome, switches = await self._decide(cell, call, known, event_ms, may_lease=leased < LEASE_TRIES_MAX)
            if outcome[0] == Status.SHORT:
                leased = leased + 1 if await self._lease(cell, call, known, event_ms, outcome) else LEASE_TRIES_MAX
            elif outcome[0] == Status.STALE:
                cell.holders.forget_chain(call.endpoint_id, known.chain.accounts)
                self._kit.terms.forget(call.endpoint_id)
                self._known.pop(call.session_id, None)
                call = await self._completed(said)  # it may have been somewhere else
            else:
                for account in known.chain.accounts[1:]:
                    self._kit.escrow.replenished(account.id)
                session = _session(call, outcome, visible_steps(caller, known.chain), switches)
                if not call.dry_run:
                    self._remember(call, session)
                return session
        raise UnavailableError("TERMS_CHANGING", "The plans of this endpoint are changing; try again.")

    async def get(self, caller: Principal, name: str) -> Session:
        """Return a session as its last answer left it."""
        caller.require_role(*CHARGERS)
        image = await self._image(name)
        hidden = not_found("charging_session", name)
        known = await require_endpoint(self._kit.terms, caller, image.endpoint_id, hidden)
        state = image.state
        if state is SessionState.OPEN and image.ends_ms <= self._kit.clock.now_ms():
            state = SessionState.EXPIRED  # though nobody has looked at it yet
        outcome = [Status.REPEATED, image.answers, state, image.valid_until_ms, image.ends_ms, image.late]
        empty = SessionCall(
            name, image.session_ref, SessionAction.UPDATE, image.sequence, image.endpoint_id, "", 0, (), 0, b""
        )
        return _session(empty, outcome, visible_steps(caller, known.chain), [0] * len(image.answers))

    async def _completed(self, call: SessionCall) -> SessionCall:
        """A call with all that it leaves as it is.

        A session is as its last call left it, and each sequence number is answered once: who answered the one before
        need not look, until it ends and another may begin under its id.
        """
        if call.action is SessionAction.CREATE:
            return replace(call, used_on=Visited(call.network_id, call.access_type))
        last, ends_ms = self._known.get(call.session_id, (None, 0))
        if last is None or last.sequence + 1 != call.sequence or ends_ms <= self._kit.clock.now_ms():
            as_it_is: SessionCall | SessionImage = await self._image(call.session_id)
        else:
            as_it_is = last
        return replace(
            call,
            session_ref=as_it_is.session_ref,
            endpoint_id=as_it_is.endpoint_id,
            network_id=call.network_id or as_it_is.network_id,
            access_type=call.access_type or as_it_is.access_type,
            used_on=Visited(as_it_is.network_id, as_it_is.access_type),
        )

    def _remember(self, call: SessionCall, session: Session) -> None:
        self._known.pop(call.session_id, None)
        if session.state is not SessionState.OPEN:
            return
        self._known[call.session_id] = (replace(call, units=()), session.ends_ms)
        if len(self._known) > KNOWN_MAX:
            del self._known[next(iter(self._known))]

    async def _image(self, name: str) -> SessionImage:
        """A session as it stands."""
        number = cell_of_session(name)
        if not 0 <= number < self._kit.cells.count:
            raise not_found("charging_session", name)
        image = await self._kit.cells[number].read(lambda engine: engine.session(name))
        if image is None:
            raise not_found("charging_session", name)
        return image

    async def _decide(
        self, cell: Cell, call: SessionCall, known: KnownEndpoint, event_ms: int, *, may_lease: bool
    ) -> tuple[Outcome, Sequence[int]]:
        """Decide a call; return the outcome, and when the price of each of its lines changes next."""
        expected: dict[str, int] = {}
        ops: list[Op] = []
        lines, switches = [], list[int]()
        now_ms = self._kit.clock.now_ms()
        for units in call.units:
            usage_ms = units.used_ms(event_ms)
            program = program_for(known, units.service, *call.used_on, usage_ms)
            grant = program_for(known, units.service, call.network_id, call.access_type, now_ms)
            for each in dict.fromkeys((program, grant)):  # one and the same but around a change
                ops += cell.holders.prepare(known, each, expected, now_ms)
            slices = self._kit.escrow.slices(grant) if may_lease else ()
            asked = (units.service, program, units.used, units.requested, usage_ms)
            lines.append(SessionLine(*asked, grant, now_ms, slices))
            switches.append(grant.changes_ms(now_ms))
        ops.append(
            SessionOp(
                call.session_id,
                call.session_ref,
                call.action,
                call.sequence,
                call.body_digest,
                call.endpoint_id,
                call.network_id,
                call.access_type,
                event_ms,
                min([now_ms + VALIDITY_MS, *(switch_ms for switch_ms in switches if switch_ms > now_ms)]),
                now_ms + EXPIRY_MS,
                lines,
                call.used_on,
            )
        )
        if call.dry_run:
            cell.holders.untold(ops)
            outcome = (await cell.preview(ops, expected)).outcomes[-1]
        else:
            outcome = (await cell.submit(ops, expected)).outcomes[-1]
        if outcome[0] == Status.FAILED and not call.dry_run:
            outcome = (await cell.submit_surely(ops, expected)).outcomes[-1]
        if outcome[0] == Status.FAILED:
            raise _failure(call, Failure(outcome[1]), outcome[2])
        return outcome, switches

    async def _lease(
        self, cell: Cell, call: SessionCall, known: KnownEndpoint, event_ms: int, outcome: Outcome
    ) -> bool:
        """Enlarge the slice that a call found too small; whatever comes helps, for a grant may be partial."""
        _, step, needed, _, line = outcome
        units = call.units[line]
        usage_ms = units.used_ms(event_ms)
        program = program_for(known, units.service, *call.used_on, usage_ms)
        payer = program.steps[step]
        account = known.chain.account(payer.payer)
        return account is not None and await self._kit.escrow.acquire(cell, account, kind_of(payer.mode), needed, 1)


def _require_sound(units: Sequence[Units], event_ms: int, now_ms: int) -> None:
    if not now_ms - AGE_MAX_MS <= event_ms <= now_ms + FUTURE_MAX_MS:
        raise invalid("event_time_ms", "must be within the last 400 days and not ahead", "USAGE_TIME_OUT_OF_RANGE")
    for index, each in enumerate(units):
        if each.usage_ms and not now_ms - AGE_MAX_MS <= each.usage_ms <= event_ms:
            raise invalid(
                f"units[{index}].usage_time_ms",
                "must be within the last 400 days and not after event_time_ms",
                "USAGE_TIME_OUT_OF_RANGE",
            )
    if len({(each.service, each.usage_ms or event_ms) for each in units}) != len(units):
        raise invalid("units", "names a service twice at one time; put all of it into one element")
    asking = [each.service for each in units if each.requested]
    if len(set(asking)) != len(asking):
        raise invalid("units", "asks for a service twice; ask in the element of the latest usage_time_ms")


def _failure(call: SessionCall, failure: Failure, sequence: int) -> MeterlineError:
    if failure is Failure.SESSION_NOT_FOUND:
        return not_found("charging_session", call.session_id)
    if failure is Failure.SESSION_CLOSED:
        return FailedPreconditionError(
            "SESSION_CLOSED", "The session is released or expired, and no use is reported; create a new one."
        )
    if failure is Failure.REF_REUSED:
        return AlreadyExistsError(
            "SESSION_REF_REUSED",
            "A session with this session_ref exists, with other content or later calls. Take another session_ref.",
        )
    metadata = {"last_sequence_number": str(sequence)}
    if call.sequence == sequence:
        return AbortedError(
            "SESSION_CALL_CHANGED",
            f"Sequence number {sequence} was answered with other content; send it again unchanged to get its answer, "
            f"or send {sequence + 1} with what was used since.",
            metadata=metadata,
        )
    if call.sequence < sequence:
        return AbortedError(
            "SESSION_OUT_OF_SEQUENCE",
            f"Sequence number {call.sequence} was answered, and {sequence} after it; do not send it again: what it "
            f"reported is charged (usage records with event_id {call.session_id}.{call.sequence}.*). "
            f"Send {sequence + 1} next.",
            metadata=metadata,
        )
    return AbortedError(
        "SESSION_OUT_OF_SEQUENCE",
        f"The last sequence number answered is {sequence}; send {sequence + 1} next, "
        f"or {sequence} again, unchanged, to get its answer.",
        metadata=metadata,
    )


def _session(call: SessionCall, outcome: Outcome, visible: int, switches: Sequence[int]) -> Session:
    status, answers, state, valid_until_ms, ends_ms, late = outcome
    return Session(
        call.session_id,
        call.session_ref,
        call.endpoint_id,
        SessionState(state),
        call.sequence,
        [_grant(answer, visible, switch_ms, late=late) for answer, switch_ms in zip(answers, switches, strict=True)],
        valid_until_ms,
        ends_ms,
        late,
        replayed=status == Status.REPEATED,
    )


def _grant(answer: list[object], visible: int, switch_ms: int, *, late: bool) -> Grant:
    service, granted, reason, limiting, charged, throttled = answer
    steps = charged[2][:visible] if isinstance(charged, list) else []
    return Grant(
        service,  # type: ignore[arg-type]
        granted,  # type: ignore[arg-type]
        Reason(reason),  # type: ignore[arg-type]
        limiting,  # type: ignore[arg-type]
        final=bool(reason) or late,
        uncovered=max((step[2] for step in steps), default=0),
        amounts=[step[3] for step in steps],
        throttled=bool(throttled),
        switch_ms=switch_ms,
    )
