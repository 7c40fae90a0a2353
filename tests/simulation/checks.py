"""What must hold when all is over: the journal is replayed with simple sums and compared with what clients were told, with
the balances in Valkey and with the books."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from services.rating.domain.balances import balance_id
from services.rating.domain.decisions import NO_MARK, Segment, SessionState, Status
from services.rating.domain.programs import StepMode, steps_from_body
from services.rating.domain.reasons import MovementKind, Outcome, Reason
from services.rating.domain.records import LINES_MAX, Position, usage_record_id
from services.rating.engine.records import read_segment
from services.rating.engine.wire import OpKind, read_holder, read_images, read_outcomes, read_session
from services.rating.ports import Sheet
from services.rating.usecases.folding import SegmentFold, path_of
from services.runtime.packing import unpack
from tests.simulation.clients import EventHistory, History
from tests.simulation.payments import check_payments
from tests.simulation.processes import CELL, Surroundings

TAG = f"{{c{CELL}}}"


class Replay:
    """The journal, added up."""

    def __init__(self, segments: list[Segment], programs: dict[str, str]) -> None:
        self.steps = {name: steps_from_body(body) for name, body in programs.items()}
        self.balances: Counter[str] = Counter()
        self.used: Counter[str] = Counter()
        self.images: dict[str, bytes] = {}
        self.events: dict[str, list[tuple[Position, list[Any]]]] = {}
        self.top_ups: dict[str, list[tuple[str, int]]] = {}
        self.calls: dict[tuple[str, int], list[list[Any]]] = {}
        self.grants: Counter[str] = Counter()
        self.topped_up: Counter[str] = Counter()
        self.unsteady: set[str] = set()
        """Buckets that expired, began a new cycle or were taken away."""
        self.wrong: list[str] = []
        for segment in segments:
            self._add(segment)

    def _add(self, segment: Segment) -> None:
        content = read_segment(segment)
        for movement in content.movements:
            name = balance_id(movement.holder_id, movement.bucket)
            self._move(name, movement.change)
            if movement.kind == MovementKind.GRANT:
                self.grants[name] += movement.change
                if self.grants[name] != movement.change:
                    self.unsteady.add(name)
            elif movement.kind == MovementKind.TOP_UP:
                self.topped_up[name] += movement.change
            else:
                self.unsteady.add(name)
        for used in content.used:
            where = Position(CELL, segment.sequence, used.operation * LINES_MAX + used.line)
            self.events.setdefault(used.event_id, []).append((where, used.outcome))
            if used.outcome[0] == Status.CHARGED:
                self._draw(used.endpoint_id, self.steps[used.program_id], used.outcome[2])
        for request in content.requests:
            self.top_ups.setdefault(request.request_id, []).append((request.holder_id, request.micros))
        _, records = unpack(segment.records)
        for record, outcome in zip(records, read_outcomes(segment.outcomes), strict=True):
            if record[0] == OpKind.SESSION and outcome[0] == Status.DONE:
                self.calls.setdefault((record[1][0], record[1][1]), []).append(outcome)
        configured = any(record[0] == OpKind.CONFIGURE for record in records)
        self._look(segment, read_images(segment.images), steady_limit=not configured)

    def _move(self, name: str, change: int) -> None:
        self.balances[name] += change

    def _draw(self, endpoint_id: str, steps: Any, parts: list[Any]) -> None:
        for step, (_, _, _, amount, draws, *_) in zip(steps, parts, strict=True):
            holder = step.holder or endpoint_id
            for bucket, quantity, _ in draws:
                self._move(balance_id(holder, bucket), -quantity)
            if step.mode == StepMode.PREPAID:
                self._move(balance_id(holder, ""), -amount)
            elif step.mode == StepMode.POSTPAID:
                self.used[holder] += amount

    def _look(self, segment: Segment, images: Any, *, steady_limit: bool) -> None:
        """Compare the state that a segment says it left behind with the sums of what the journal says happened."""
        for name, image in images.items():
            if not name.startswith("h:"):
                continue
            holder = read_holder(name[2:], image)
            where = f"segment {segment.sequence}: {holder.id}"
            before = read_holder(holder.id, self.images[name]) if name in self.images else None
            # A pool has no money of its own: its number is that of the account or endpoint it belongs to.
            sums = [] if holder.id.startswith("pol_") else [("", holder.money, holder.money_reserved)]
            sums += [(bucket.id, bucket.remaining, bucket.reserved) for bucket in holder.buckets]
            for bucket, remaining, reserved in sums:
                balance = balance_id(holder.id, bucket)
                if remaining != self.balances[balance]:
                    self.wrong.append(
                        f"{where}: {balance} holds {remaining}, its movements say {self.balances[balance]}"
                    )
                if not 0 <= reserved <= remaining:
                    self.wrong.append(f"{where}: {balance} has {reserved} of {remaining} reserved")
            if holder.credit_used != self.used[holder.id]:
                self.wrong.append(f"{where}: owes {holder.credit_used}, charges say {self.used[holder.id]}")
            owed, owed_before = holder.credit_used + holder.credit_reserved, 0
            if before is not None:
                owed_before = before.credit_used + before.credit_reserved
            if steady_limit and holder.credit_limit >= 0 and owed > max(owed_before, holder.credit_limit):
                self.wrong.append(f"{where}: owes and holds {owed} of {holder.credit_limit}")
        self.images.update(images)


def check(around: Surroundings, history: History) -> list[str]:
    """Everything that is wrong, as sentences."""
    there = around.journal.segments.get(CELL, {})
    segments = [there[number] for number in sorted(there)]
    wrong = list(around.failures)
    if [segment.sequence for segment in segments] != list(range(1, len(segments) + 1)):
        wrong.append(f"the journal has gaps: {sorted(there)}")
    if [segment.mark_before for segment in segments] != [NO_MARK, *(segment.mark for segment in segments[:-1])]:
        wrong.append("a segment of the journal was not decided on the one before")
    wrong += check_payments(around.wallets, around.provider, [read_segment(segment) for segment in segments])
    replay = Replay(segments, around.journal.programs)
    wrong += replay.wrong
    wrong += _answers(history, replay)
    wrong += _reservations(replay)
    wrong += _valkey(around, replay, segments)
    wrong += _books(around, replay, segments)
    return wrong


def _answers(history: History, replay: Replay) -> Iterator[str]:
    for name, positions in replay.events.items():
        if len(positions) > 1:
            yield f"{name} stands in the journal {len(positions)} times"
    for name, about in history.events.items():
        yield from _event(name, about, replay)
    for name, top_up in history.top_ups.items():
        done = replay.top_ups.get(name, [])
        if len(done) > 1 or (top_up.confirmed and not done):
            yield f"top-up {name} was confirmed {top_up.confirmed} times and stands in the journal {len(done)} times"
        if any(each != (top_up.owner, top_up.micros) for each in done):
            yield f"top-up {name} is not what was asked: {done}"
    yield from _calls(history, replay)


def _calls(history: History, replay: Replay) -> Iterator[str]:
    for (session, sequence), call in history.calls.items():
        name = f"{call.call.session_ref} {sequence}"
        done_calls = replay.calls.get((session, sequence), [])
        if len(done_calls) > 1 or (call.answers and not done_calls):
            yield f"call {name} was answered {len(call.answers)} times, is in the journal {len(done_calls)} times"
            continue
        for answer in call.answers:
            granted = [[g.service, g.granted, g.reason, g.limiting_step] for g in answer.grants]
            if granted != [each[:4] for each in done_calls[0][1]] or answer.valid_until_ms != done_calls[0][3]:
                yield f"call {name} was answered {answer}, the journal says {done_calls[0]}"


def _event(name: str, about: EventHistory, replay: Replay) -> Iterator[str]:
    decided = replay.events.get(name, [])
    for answer in about.answers:
        if answer.outcome is Outcome.INVALID:
            if answer.reason != Reason.USAGE_TIME_IN_FUTURE:
                yield f"{name} was answered {answer}"
            continue
        if not decided:
            yield f"{name} was answered {answer} and is not in the journal"
            continue
        where, outcome = decided[0]
        said: tuple[Any, ...] = (answer.outcome, answer.usage_record_id, answer.reason, answer.refused_step)
        if outcome[0] == Status.CHARGED:
            kept: tuple[Any, ...] = (Outcome.CHARGED, usage_record_id(where), Reason.NONE, 0)
            said += (list(answer.amounts), answer.uncovered)
            kept += ([step[3] for step in outcome[2]], outcome[1])
        else:
            kept = (Outcome.REFUSED, usage_record_id(where), outcome[1], outcome[2])
        if said != kept:
            yield f"{name} was answered {said}, the journal says {kept}"


def _reservations(replay: Replay) -> Iterator[str]:
    held: Counter[tuple[str, str]] = Counter()
    for name, image in replay.images.items():
        if name.startswith("s:") and read_session(image).state is SessionState.OPEN:
            for holder, amount, _, parts, *_ in unpack(image)[5]:
                held[holder, ""] += amount
                for bucket, quantity in parts:
                    held[holder, bucket] += quantity
    for name, image in replay.images.items():
        if name.startswith("h:"):
            holder = read_holder(name[2:], image)
            if holder.money_reserved + holder.credit_reserved != held[holder.id, ""]:
                yield f"{holder}: open sessions hold {held[holder.id, '']} of its money"
            for bucket in holder.buckets:
                steady = balance_id(holder.id, bucket.id) not in replay.unsteady
                if steady and bucket.reserved != held[holder.id, bucket.id]:
                    yield f"{holder.id}: {bucket}: open sessions hold {held[holder.id, bucket.id]}"


def _valkey(around: Surroundings, replay: Replay, segments: list[Segment]) -> Iterator[str]:
    keys = around.valkey.keys
    found = {name.decode().removeprefix(TAG): value for name, value in keys.values.items()}
    state = {name: value for name, value in found.items() if name.startswith(("h:", "s:"))}
    for name in sorted(state.keys() | replay.images.keys()):
        if state.get(name) != replay.images.get(name):
            yield f"{name} is {_read(name, state.get(name))} in Valkey, {_read(name, replay.images.get(name))} in the journal"
    epoch, last = around.journal.epochs[CELL], segments[-1]
    place = {b"epoch": b"%d" % epoch, b"sequence": b"%d" % last.sequence, b"mark": last.mark}
    at = {name: value for name, value in (found.get("m") or {}).items() if not name.startswith(b"ids")}
    if at != place:
        yield f"Valkey is at {found.get('m')}, the journal at {place}"
    sessions = {name[2:]: read_session(image) for name, image in replay.images.items() if name.startswith("s:")}
    due = {name.encode(): s.due_ms for name, s in sessions.items() if s.state is SessionState.OPEN}
    if found.get("x", {}) != due:
        yield f"sessions that will end are {found.get('x')}, the journal says {due}"


def _read(name: str, image: bytes | None) -> Any:
    if image is None:
        return None
    return read_holder(name[2:], image) if name.startswith("h:") else unpack(image)


def _books(around: Surroundings, replay: Replay, segments: list[Segment]) -> Iterator[str]:
    books, again = around.ledger.sheet, Sheet()
    programs = {name: (steps, path_of(steps)) for name, steps in replay.steps.items()}
    for segment in segments:
        SegmentFold(CELL, segment, programs, again).add(read_segment(segment))
    for part in ("usage", "totals", "refusals", "entries", "balances", "requests", "audit", "images"):
        if getattr(books, part) != getattr(again, part):
            yield f"the books are not the journal: {part}"
    posted = {name: remaining for name, (_, remaining) in books.balances.items() if remaining}
    if posted != {name: remaining for name, remaining in replay.balances.items() if remaining}:
        yield f"balances of the books are {posted}, movements in the journal say {replay.balances}"
