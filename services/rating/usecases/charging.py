"""Charges events: the same volume at every level, once, and the same answer ever after."""

from collections.abc import Sequence

from services.common.errors import UnavailableError, invalid, not_found
from services.common.identity import CHARGERS, Principal
from services.rating.domain.compiling import compile_program
from services.rating.domain.decisions import ChargeOp, ConfigureOp, Op, Outcome, Status, is_throttled
from services.rating.domain.events import BATCH_MAX, Answer, Invalid, UsageEvent, check
from services.rating.domain.programs import Program
from services.rating.domain.reasons import Outcome as Became
from services.rating.domain.reasons import Reason, Service
from services.rating.domain.records import LINES_MAX, Position, body_digest, id_digest, usage_record_id
from services.rating.domain.terms import Use
from services.rating.ports import ChainTerms, KnownEndpoint
from services.rating.usecases.cells import IDS_WINDOW_MS
from services.rating.usecases.kit import Kit

STALE_TRIES_MAX = 5


def program_for(known: KnownEndpoint, service: int, network_id: str, access_type: int, at_ms: int) -> Program:
    """The program of a kind of use at a time, compiled if it is not there."""
    key = (service, network_id, access_type)
    program = known.programs.get(key)
    if program is None or not program.valid_from_ms <= at_ms < program.valid_until_ms:
        chain = known.chain
        use = Use(Service(service), network_id, access_type)
        program = compile_program(known.terms, chain.accounts, chain.catalog, use, at_ms)
        known.programs[key] = program
    return program


def visible_steps(caller: Principal, chain: ChainTerms) -> int:
    """How many steps the caller may see, from the endpoint upwards: up to its own."""
    if caller.service:
        return len(chain.accounts)
    return len(chain.path) - len(caller.account_path) + 2


async def require_books_current(kit: Kit, now_ms: int) -> None:
    """Raise UNAVAILABLE while an id may be neither remembered any more nor in the books yet."""
    cell = kit.cell.engine.cell
    cursor = await kit.ledger.cursor(cell)
    waiting = await kit.journal.read(cell, cursor.sequence, 1)
    if waiting and waiting[0].decided_ms < now_ms - IDS_WINDOW_MS:
        raise UnavailableError(
            "BOOKS_BEHIND",
            "The books lag more than a day, so a repeat of an old request could not be told. Start the fold, then "
            "try again.",
            retry_after_ms=10_000,
        )


class Charging:
    """Charges batches of events."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    async def charge(self, caller: Principal, events: Sequence[UsageEvent], *, dry_run: bool = False) -> list[Answer]:
        """Charge up to 1000 events; one bad event spoils only itself.

        A dry run answers what would be answered, and changes nothing; later events see what earlier ones would do.

        Raises:
            InvalidArgumentError: BATCH_EMPTY, BATCH_TOO_LARGE.
            UnavailableError: whether it happened is not known; repeat with the same event ids.
        """
        caller.require_role(*CHARGERS)
        if not events:
            raise invalid("events", f"is empty; send 1 to {BATCH_MAX} events", "BATCH_EMPTY")
        if len(events) > BATCH_MAX:
            raise invalid(
                "events", f"has {len(events)} elements; send at most {BATCH_MAX} in a batch", "BATCH_TOO_LARGE"
            )
        self._kit.terms.require_current()
        return await _Charge(self._kit, caller, events, dry_run=dry_run).run()


class _Charge:
    """One batch on its way."""

    def __init__(self, kit: Kit, caller: Principal, events: Sequence[UsageEvent], *, dry_run: bool) -> None:
        self._kit = kit
        self._dry_run = dry_run
        self._caller = caller
        self._events = events
        self._now_ms = kit.clock.now_ms()
        self._answers: list[Answer | None] = [None] * len(events)
        self._visible: dict[str, int] = {}
        self._steps = [0] * len(events)
        self._digests: list[tuple[bytes, bytes]] = [(b"", b"")] * len(events)

    async def run(self) -> list[Answer]:
        open_places = await self._valid_places()
        open_places = await self._without_old(open_places)
        for _ in range(STALE_TRIES_MAX):
            if not open_places:
                return [answer for answer in self._answers if answer is not None]
            open_places = await self._decide(open_places)
            for place in open_places:
                self._kit.terms.forget(self._events[place].endpoint_id)
        raise UnavailableError(
            "TERMS_CHANGING", "The plans of these endpoints are changing; try again.", retry_after_ms=500
        )

    async def _valid_places(self) -> list[int]:
        await self._kit.terms.load(event.endpoint_id for event in self._events)
        networks = self._kit.terms.networks
        places = []
        for place, event in enumerate(self._events):
            invalid = check(event, self._now_ms)
            if invalid is None and not (steps := self._visible_steps(event.endpoint_id)):
                invalid = Invalid(Reason.ENDPOINT_NOT_FOUND, f"no endpoint {event.endpoint_id!r} for this account")
            if invalid is None and event.network_id not in networks:
                invalid = Invalid(Reason.NETWORK_NOT_FOUND, f"no network {event.network_id!r}")
            if invalid is None:
                self._steps[place] = steps
                self._digests[place] = (id_digest(event.endpoint_id, event.event_id), body_digest(event.record))
                places.append(place)
            else:
                self._answers[place] = Answer(Became.INVALID, invalid.reason, detail=invalid.detail)
        return places

    def _visible_steps(self, endpoint_id: str) -> int:
        """How many steps of an endpoint's charges the caller sees; 0 if it does not see the endpoint."""
        known = self._kit.terms.known.get(endpoint_id)
        if known is None:
            return 0
        owner = known.terms.account_id
        visible = self._visible.get(owner)
        if visible is None:
            seen = self._caller.sees(known.chain.path) or self._caller.account_id == owner
            visible = max(visible_steps(self._caller, known.chain), 1) if seen else 0
            self._visible[owner] = visible
        return visible

    async def _without_old(self, places: list[int]) -> list[int]:
        """Answer events that may have been decided before the memory of ids begins, if they were."""
        horizon = self._now_ms - IDS_WINDOW_MS
        old = [place for place in places if self._events[place].usage_ms < horizon]
        if not old:
            return places
        found = await self._kit.ledger.outcomes([self._digests[place][0] for place in old])
        for place in old:
            earlier = found.get(self._digests[place][0])
            if earlier is not None:
                position, body, outcome = earlier
                if body != self._digests[place][1]:
                    self._answers[place] = _reused()
                else:
                    self._answers[place] = self._answer(place, outcome, position, replayed=True)
        if not all(self._digests[place][0] in found for place in old):
            await require_books_current(self._kit, self._now_ms)
        return [place for place in places if self._answers[place] is None]

    async def _decide(self, places: list[int]) -> list[int]:
        """Decide events; return those whose terms were stale."""
        kit, events = self._kit, self._events
        await kit.terms.load(events[place].endpoint_id for place in places)
        expected: dict[str, int] = {}
        configures: list[ConfigureOp] = []
        charges: list[ChargeOp] = []
        for place in places:
            event = events[place]
            known = kit.terms.known.get(event.endpoint_id)
            if known is None:
                raise not_found("endpoint", event.endpoint_id)  # it was there a moment ago
            program = program_for(known, event.service, event.network_id, event.access_type, event.usage_ms)
            configures.extend(kit.holders.prepare(known, program, expected))
            charges.append(
                ChargeOp(
                    *self._digests[place],
                    event.endpoint_id,
                    program,
                    event.quantity,
                    event.usage_ms,
                    event.mode,
                    event.record,
                    event.cost,
                    event.session_ref,
                )
            )
        ops: list[Op] = [*configures, *charges]
        if self._dry_run:
            kit.holders.forget(op.holder_id for op in configures)
            answered = await kit.cell.preview(ops, expected)
        else:
            answered = await kit.cell.submit(ops, expected)
        return await self._take(places, answered.outcomes, len(configures), (answered.sequence, answered.first))

    async def _take(
        self, places: list[int], outcomes: Sequence[Outcome], skip: int, where: tuple[int, int]
    ) -> list[int]:
        sequence, first = where
        stale, repeated = [], []
        for number, place in enumerate(places, skip):
            outcome = outcomes[number]
            status = outcome[0]
            in_dry_run = status == Status.REPEATED and outcome[1] > sequence  # repeats what would stand in no journal
            if in_dry_run:
                self._answers[place] = self._answer(place, outcomes[outcome[2] - 1], None, replayed=True)
            elif status <= Status.REFUSED and self._dry_run:
                self._answers[place] = self._answer(place, outcome, None, replayed=False)
            elif status <= Status.REFUSED:
                position = Position(self._kit.cell.engine.cell, sequence, (first + number) * LINES_MAX)
                self._answers[place] = self._answer(place, outcome, position, replayed=False)
            elif status == Status.REPEATED:
                repeated.append((place, outcome[1], outcome[2] - 1))
            elif status == Status.REUSED:
                self._answers[place] = _reused()
            else:
                stale.append(place)
        if stale:
            self._kit.holders.forget(self._events[place].endpoint_id for place in stale)
            self._forget_accounts(stale)
        if repeated:
            await self._repeat(repeated)
        return stale

    def _forget_accounts(self, places: list[int]) -> None:
        for place in places:
            known = self._kit.terms.known.get(self._events[place].endpoint_id)
            if known is not None:
                self._kit.holders.forget(account.id for account in known.chain.accounts)

    async def _repeat(self, repeated: list[tuple[int, int, int]]) -> None:
        """Answer again what was answered before, out of the journal."""
        cell = self._kit.cell.engine.cell
        segments = await self._kit.journal.get(cell, {sequence for _, sequence, _ in repeated})
        outcomes = {
            (sequence, used.operation): used.outcome
            for sequence, segment in segments.items()
            for used in self._kit.journal.content(segment).used
        }
        for place, sequence, operation in repeated:
            position = Position(cell, sequence, operation * LINES_MAX)
            self._answers[place] = self._answer(place, outcomes[sequence, operation], position, replayed=True)

    def _answer(self, place: int, outcome: Outcome, position: Position | None, *, replayed: bool) -> Answer:
        record_id = usage_record_id(position) if position else ""
        if outcome[0] == Status.REFUSED:
            return Answer(
                Became.REFUSED,
                Reason(outcome[1]),
                outcome[2],
                usage_record_id=record_id,
                replayed=replayed,
            )
        steps = outcome[2][: self._steps[place]]
        return Answer(
            Became.CHARGED,
            amounts=[step[3] for step in steps],
            uncovered=max(step[2] for step in steps) if outcome[1] else 0,
            usage_record_id=record_id,
            replayed=replayed,
            throttled=is_throttled(outcome),
        )


def _reused() -> Answer:
    return Answer(Became.INVALID, Reason.EVENT_ID_REUSED, detail="event_id was used with other content; take a new one")
