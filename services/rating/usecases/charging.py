"""Charges events: the same volume at every level, once, and the same answer ever after."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.common.errors import UnavailableError, invalid, not_found
from services.common.identity import CHARGERS, Principal
from services.rating.domain.compiling import compile_program
from services.rating.domain.decisions import ChargeOp, ConfigureOp, Op, Outcome, Status, is_throttled
from services.rating.domain.escrow import Kind, kind_of
from services.rating.domain.events import BATCH_MAX, Answer, Invalid, UsageEvent, check
from services.rating.domain.programs import Program
from services.rating.domain.reasons import Mode, Reason, Service
from services.rating.domain.reasons import Outcome as Became
from services.rating.domain.records import LINES_MAX, body_digest, id_digest, usage_record_id
from services.rating.domain.terms import Use, as_of
from services.rating.ports import ChainTerms, KnownEndpoint
from services.rating.usecases.cells import IDS_WINDOW_MS, Answered, Cell
from services.rating.usecases.kit import Kit
from services.rating.usecases.seeing import sees_endpoint

WINDOWS_MAX = 4
"""Programs of a kind of use that are kept, each for a time: around a change of price uses of both times come."""
STALE_TRIES_MAX = 5
LEASE_TRIES_MAX = 10
"""How often an event asks for a larger slice before what is there decides."""


def program_for(known: KnownEndpoint, service: int, network_id: str, access_type: int, at_ms: int) -> Program:
    """The program of a kind of use at a time, compiled if it is not there."""
    terms, programs, key = known.terms, known.programs, (service, network_id, access_type)
    if at_ms < known.changed_ms:
        terms, _ = as_of(terms, at_ms)
        programs = known.chain.programs_of(terms)
    compiled = programs.get(key, ())
    for program in compiled:
        if program.valid_from_ms <= at_ms < program.valid_until_ms:
            return program
    chain, use = known.chain, Use(Service(service), network_id, access_type)
    program = compile_program(terms, chain.accounts, chain.catalog, use, at_ms)
    programs[key] = (program, *compiled[: WINDOWS_MAX - 1])
    return program


def visible_steps(caller: Principal, chain: ChainTerms) -> int:
    """How many steps the caller may see, from the endpoint upwards: up to its own."""
    if caller.service:
        return len(chain.accounts)
    return len(chain.path) - len(caller.account_path) + 2


def steps_seen(caller: Principal, known: KnownEndpoint) -> int:
    """How many steps of an endpoint's charges the caller sees; 0 if it does not see the endpoint."""
    return max(visible_steps(caller, known.chain), 1) if sees_endpoint(caller, known) else 0


def wrong_with(event: UsageEvent, steps: int, networks: Mapping[str, str], now_ms: int) -> Invalid | None:
    """Say what is wrong with an event of which the caller sees so many steps; None if nothing is."""
    wrong = check(event, now_ms)
    if wrong is not None:
        return wrong
    if not steps:
        return Invalid(Reason.ENDPOINT_NOT_FOUND, f"no endpoint {event.endpoint_id!r} for this account")
    if event.network_id not in networks:
        return Invalid(Reason.NETWORK_NOT_FOUND, f"no network {event.network_id!r}")
    return None


def answer_of(outcome: Outcome, steps_visible: int, record_id: str, *, replayed: bool) -> Answer:
    """What the caller is told; `record_id` is empty if there is no usage record."""
    if outcome[0] == Status.REFUSED:
        return Answer(Became.REFUSED, Reason(outcome[1]), outcome[2], (), 0, record_id, replayed)
    steps = outcome[2][:steps_visible]
    amounts = [step[3] for step in steps]
    uncovered = max(step[2] for step in steps) if outcome[1] else 0
    slow = is_throttled(outcome)
    return Answer(Became.CHARGED, Reason.NONE, 0, amounts, uncovered, record_id, replayed, throttled=slow)


async def books_behind(kit: Kit, now_ms: int) -> UnavailableError | None:
    """Why an id may be neither remembered any more nor in the books yet; None if the books are current.

    To be asked before the books are: what they do not have then was never answered, or is remembered.
    """
    for cell in kit.cells:
        number = cell.engine.cell
        cursor = await kit.ledger.cursor(number)
        waiting = await kit.journal.read(number, cursor.sequence, 1)
        if waiting and waiting[0].decided_ms < now_ms - IDS_WINDOW_MS:
            return UnavailableError(
                "BOOKS_BEHIND",
                "The books lag more than a day, so a repeat of an old request could not be told. Start the fold, then "
                "try again.",
                retry_after_ms=10_000,
            )
    return None


@dataclass(slots=True)
class _Batch:
    """What one cell is asked to decide."""

    cell: Cell
    places: list[int] = field(default_factory=list)
    expected: dict[str, int] = field(default_factory=dict)
    configures: list[ConfigureOp] = field(default_factory=list)
    charges: list[ChargeOp] = field(default_factory=list)


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

    async def charge_one(self, caller: Principal, event: UsageEvent) -> Answer:
        """Charge one event, as `charge` would: by a short way if nothing is unusual about it."""
        kit = self._kit
        now_ms = kit.clock.now_ms()
        known = kit.terms.known.get(event.endpoint_id)
        if kit.cells.count == 1 and known is not None and event.usage_ms >= now_ms - IDS_WINDOW_MS:
            caller.require_role(*CHARGERS)
            kit.terms.require_current()
            steps = steps_seen(caller, known)
            if wrong_with(event, steps, kit.terms.networks, now_ms) is None:
                event.usage_ms = min(event.usage_ms, now_ms)
                cell, expected = kit.cells[0], dict[str, int]()
                program = program_for(known, event.service, event.network_id, event.access_type, event.usage_ms)
                ops: list[Op] = [*cell.holders.prepare(known, program, expected, now_ms)]
                ops.append(_charge_op(event, program, _digests(event)))
                answered = await cell.submit(ops, expected)
                number = len(ops) - 1
                if answered.outcomes[number][0] <= Status.REFUSED:
                    place = (cell.engine.cell, answered.sequence, (answered.first + number) * LINES_MAX)
                    return answer_of(answered.outcomes[number], steps, usage_record_id(place), replayed=False)
        (answer,) = await self.charge(caller, [event])  # what was decided has its answer
        return answer


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
        self._leased = [0] * len(events)

    async def run(self) -> list[Answer]:
        await self._load(self._events)
        open_places = self._valid_places()
        horizon = self._now_ms - IDS_WINDOW_MS
        old = [place for place in open_places if self._events[place].usage_ms < horizon]
        if old:
            open_places = await self._without_old(open_places, old)
        for again in range(STALE_TRIES_MAX + LEASE_TRIES_MAX + 1):
            if not open_places:
                return [answer for answer in self._answers if answer is not None]
            if old or again:  # others may have been told meanwhile that the terms changed
                await self._load([self._events[place] for place in open_places])
            open_places = await self._decide(open_places)
        raise UnavailableError(
            "TERMS_CHANGING", "The plans of these endpoints are changing; try again.", retry_after_ms=500
        )

    def _valid_places(self) -> list[int]:
        networks = self._kit.terms.networks
        places = []
        for place, event in enumerate(self._events):
            steps = self._visible_steps(event.endpoint_id)
            invalid = wrong_with(event, steps, networks, self._now_ms)
            if invalid is None:
                event.usage_ms = min(event.usage_ms, self._now_ms)  # a clock that is fast ends no balance early
                self._steps[place] = steps
                self._digests[place] = _digests(event)
                places.append(place)
            else:
                self._answers[place] = Answer(Became.INVALID, invalid.reason, detail=invalid.detail)
        return places

    async def _load(self, events: Sequence[UsageEvent]) -> None:
        """Make the endpoints of events known, until something else is waited for."""
        known = self._kit.terms.known
        if any(event.endpoint_id not in known for event in events):  # the others may be forgotten meanwhile
            await self._kit.terms.load([event.endpoint_id for event in events])

    def _visible_steps(self, endpoint_id: str) -> int:
        """How many steps of an endpoint's charges the caller sees; 0 if it does not see the endpoint."""
        known = self._kit.terms.known.get(endpoint_id)
        if known is None:
            return 0
        owner = known.terms.account_id
        visible = self._visible.get(owner)
        if visible is None:
            visible = self._visible[owner] = steps_seen(self._caller, known)
        return visible

    async def _without_old(self, places: list[int], old: list[int]) -> list[int]:
        """Answer events that may have been decided before the memory of ids begins, if they were."""
        behind = await books_behind(self._kit, self._now_ms)
        found = await self._kit.ledger.outcomes([self._digests[place][0] for place in old])
        for place in old:
            earlier = found.get(self._digests[place][0])
            if earlier is not None:
                position, body, outcome = earlier
                if body != self._digests[place][1]:
                    self._answers[place] = _reused()
                else:
                    self._answers[place] = answer_of(
                        outcome, self._steps[place], usage_record_id(position), replayed=True
                    )
        if behind is not None and not all(self._digests[place][0] in found for place in old):
            raise behind
        return [place for place in places if self._answers[place] is None]

    async def _decide(self, places: list[int]) -> list[int]:
        """Decide events, each in its cell; return those to be decided again."""
        if self._kit.cells.count > 1:
            await self._settle_limits(places)
        batches = self._batches(places)
        if len(batches) == 1:
            return await self._submit(batches[0])
        again = await asyncio.gather(*(self._submit(batch) for batch in batches), return_exceptions=True)
        for error in again:  # all have ended: what was decided is decided, and a repeat gets the same answers
            if isinstance(error, BaseException):
                raise error
        return [place for places in again if isinstance(places, list) for place in places]

    async def _settle_limits(self, places: list[int]) -> None:
        """See to it that a limit that changed is shared out anew before it is drawn on."""
        chains = {id(chain): chain for place in places if (chain := self._chain(place)) is not None}
        shared = {account.id: account for chain in chains.values() for account in chain.accounts[1:]}
        changed = self._kit.escrow.unsettled(shared.values())
        if changed:
            await self._kit.escrow.settle(changed)
            await self._load([self._events[place] for place in places])

    def _chain(self, place: int) -> ChainTerms | None:
        known = self._kit.terms.known.get(self._events[place].endpoint_id)
        return known.chain if known is not None else None

    def _batches(self, places: list[int]) -> list[_Batch]:
        """Operations for each cell; nothing waits here, so what is known stays known."""
        kit, events = self._kit, self._events
        is_one = kit.cells.count == 1
        only = _Batch(kit.cells[0]) if is_one else None
        batches: dict[int, _Batch] = {}
        for place in places:
            event = events[place]
            known = kit.terms.known.get(event.endpoint_id)
            if known is None:
                raise not_found("endpoint", event.endpoint_id)  # it was there a moment ago
            program = program_for(known, event.service, event.network_id, event.access_type, event.usage_ms)
            batch = only
            if batch is None:
                cell = kit.cells.of(known.terms.enterprise_id)
                batch = batches.setdefault(cell.engine.cell, _Batch(cell))
            batch.configures += batch.cell.holders.prepare(known, program, batch.expected, self._now_ms)
            batch.places.append(place)
            batch.charges.append(
                _charge_op(event, program, self._digests[place], () if is_one else self._slices(place, program))
            )
        return [only] if only else list(batches.values())

    def _slices(self, place: int, program: Program) -> tuple[int, ...]:
        """Steps at which an event may ask for a larger slice: a dry run too, or it would refuse what passes."""
        if self._leased[place] == LEASE_TRIES_MAX:
            return ()
        return self._kit.escrow.slices(program)

    async def _submit(self, batch: _Batch) -> list[int]:
        ops: list[Op] = [*batch.configures, *batch.charges]
        if self._dry_run:
            batch.cell.holders.untold(ops)
            answered = await batch.cell.preview(ops, batch.expected)
        else:
            answered = await batch.cell.submit(ops, batch.expected)
        return await self._take(batch, answered)

    async def _take(self, batch: _Batch, answered: Answered) -> list[int]:
        cell, sequence, first, outcomes = batch.cell.engine.cell, answered.sequence, answered.first, answered.outcomes
        stale, repeated, short = [], [], []
        for number, place in enumerate(batch.places, len(batch.configures)):
            outcome = outcomes[number]
            status = outcome[0]
            if status <= Status.REFUSED:
                record_id = "" if self._dry_run else usage_record_id((cell, sequence, (first + number) * LINES_MAX))
                self._answers[place] = answer_of(outcome, self._steps[place], record_id, replayed=False)
            elif status == Status.REPEATED and outcome[1] > sequence:  # in a dry run: what stands in no journal
                self._answers[place] = answer_of(outcomes[outcome[2] - 1], self._steps[place], "", replayed=True)
            elif status == Status.REPEATED:
                repeated.append((place, outcome[1], outcome[2] - 1))
            elif status == Status.REUSED:
                self._answers[place] = _reused()
            elif status == Status.SHORT:
                short.append((place, batch.charges[number - len(batch.configures)], outcome))
            else:
                stale.append(place)
        if stale:
            self._forget(batch.cell, stale)
        if repeated:
            await self._repeat(cell, repeated)
        if short:
            await self._lease(batch.cell, short)
        again = [*stale, *(place for place, _, _ in short)]
        return batch.places if again and self._dry_run else again  # later events see what earlier ones would do

    def _forget(self, cell: Cell, places: list[int]) -> None:
        """Configure the holders of events anew, by terms that are asked for anew."""
        for place in places:
            endpoint_id = self._events[place].endpoint_id
            chain = self._chain(place)
            cell.holders.forget_chain(endpoint_id, chain.accounts if chain else ())
        for place in places:
            self._kit.terms.forget(self._events[place].endpoint_id)

    async def _lease(self, cell: Cell, short: list[tuple[int, ChargeOp, Outcome]]) -> None:
        """Enlarge the slices for which events wait; where all that is left is too little, let that decide."""
        demands: dict[tuple[str, int], list[tuple[int, int, int]]] = {}
        for place, op, (_, step, needed, lacking) in short:
            least = lacking if op.mode == Mode.ONLINE else 1
            payer = op.program.steps[step]
            demands.setdefault((payer.payer, kind_of(payer.mode)), []).append((place, needed, least))
        for (account_id, kind), waiting in demands.items():
            chain = self._chain(waiting[0][0])
            account = chain.account(account_id) if chain is not None else None
            if account is None:
                continue  # the terms changed meanwhile: decide again by the new ones
            least = min(least for _, _, least in waiting)
            larger = await self._kit.escrow.acquire(cell, account, Kind(kind), sum(n for _, n, _ in waiting), least)
            for place, _, _ in waiting:
                self._leased[place] = min(self._leased[place] + 1, LEASE_TRIES_MAX) if larger else LEASE_TRIES_MAX

    async def _repeat(self, cell: int, repeated: list[tuple[int, int, int]]) -> None:
        """Answer again what was answered before, out of the journal."""
        segments = await self._kit.journal.get(cell, {sequence for _, sequence, _ in repeated})
        outcomes = {
            (sequence, used.operation): used.outcome
            for sequence, segment in segments.items()
            for used in self._kit.journal.content(segment).used
        }
        for place, sequence, operation in repeated:
            record_id = usage_record_id((cell, sequence, operation * LINES_MAX))
            self._answers[place] = answer_of(
                outcomes[sequence, operation], self._steps[place], record_id, replayed=True
            )


def _digests(event: UsageEvent) -> tuple[bytes, bytes]:
    return id_digest(event.endpoint_id, event.event_id), body_digest(event.record)


def _charge_op(
    event: UsageEvent, program: Program, digests: tuple[bytes, bytes], slices: Sequence[int] = ()
) -> ChargeOp:
    return ChargeOp(
        *digests,
        event.endpoint_id,
        program,
        event.quantity,
        event.usage_ms,
        event.mode,
        event.record,
        event.cost,
        event.session_ref,
        slices,
    )


def _reused() -> Answer:
    return Answer(Became.INVALID, Reason.EVENT_ID_REUSED, detail="event_id was used with other content; take a new one")
