"""Replays the journal in commit order into the reference model, and holds what clients were told against it."""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meterline.rating.v1 import charging_pb2
from services.rating.domain.decisions import Outcome, Segment, Status
from services.rating.domain.reasons import Reason
from services.rating.domain.records import LINES_MAX, Position, usage_record_id
from services.rating.engine.records import read_segment
from services.rating.engine.wire import OpKind, read_outcomes
from services.rating.peers import TermsView
from services.rating.storage.journal import Journal
from services.runtime.channels import Channel
from services.runtime.database import Database
from services.runtime.identity import ServiceTokens
from services.runtime.packing import unpack
from tests.model.reference import Model, Use, Verdict
from tests.model.sessions import Granted, Line, Sessions
from tests.system.history import Answer, Attempt, History
from tests.system.stranger import Json, Stranger

CELL = 0


@contextlib.asynccontextmanager
async def view_of(system: Any, kind: type[Channel] = Channel) -> AsyncIterator[TermsView]:
    """What rating knows of the terms, asked of the running services over channels of a kind."""
    folder = Path(system.description["data_folder"])
    tokens = ServiceTokens((folder / "service.secret").read_text().strip())
    async with AsyncExitStack() as stack:
        names = ("accounts", "catalog", "endpoints")
        channels = [await stack.enter_async_context(kind(system.description[name], "rating", tokens)) for name in names]
        yield TermsView(*channels)


async def terms_of(system: Any, endpoints: Sequence[str]) -> Callable[[], Model]:
    """The commercial terms of endpoints as the services tell them; makes models of them."""
    async with view_of(system) as view:
        assert not await view.load(endpoints)
        known = [view.known[name] for name in endpoints]
    chain = known[0].chain
    return lambda: Model({each.terms.id: each.terms for each in known}, chain.accounts, chain.catalog)


async def segments_of(system: Any) -> list[Segment]:
    """The whole journal of an embedded system's one cell, in the order of its commits."""
    database = Database(f"sqlite+aiosqlite:///{system.description['data_folder']}/journal.sqlite")
    try:
        return [segment async for segment in Journal(database, read_segment).read_all(CELL, 0)]
    finally:
        await database.close()


@dataclass(frozen=True)
class Entry:
    """An operation of the journal: where it stands, what it says of itself, and what the model answers to it."""

    position: tuple[int, int]
    content: Any
    answer: Answer


@dataclass
class Replay:
    """Holds a journal against a model and against the history of the clients.

    Args:
        model: as it was before the first of them.
        history: what they asked and were told.
    """

    model: Model
    history: History
    entries: dict[str, list[Entry]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._sessions = Sessions(self.model)
        self._attempts: dict[str, list[Attempt]] = {}
        for attempt in self.history.attempts:
            self._attempts.setdefault(attempt.key, []).append(attempt)

    def run(self, segments: Iterable[Segment]) -> list[str]:
        """Everything that is wrong, as sentences."""
        for segment in segments:
            _, records = unpack(segment.records)
            outcomes = read_outcomes(segment.outcomes)
            for number, (record, outcome) in enumerate(zip(records, outcomes, strict=True)):
                self._operation(segment, number, record, outcome)
        for key, attempts in self._attempts.items():
            self._told(key, attempts)
        self._order()
        return self.wrong

    # --- the journal against the model --------------------------------------------------------------------------

    def _operation(self, segment: Segment, number: int, record: list[Any], outcome: Outcome) -> None:
        where = (segment.sequence, number)
        if record[0] == OpKind.CHARGE and outcome[0] <= Status.REFUSED:
            event = charging_pb2.UsageEvent.FromString(record[2])
            if event.endpoint_id in self.model.endpoints:
                self._charged(where, event, record[2], outcome)
        elif record[0] == OpKind.TOP_UP and outcome[0] == Status.DONE:
            self._topped_up(where, record, outcome, segment.decided_ms)
        elif record[0] == OpKind.SESSION and outcome[0] == Status.DONE and record[1][2] in self.model.endpoints:
            self._session(where, record, outcome)

    def _enter(self, key: str, entry: Entry, journalled: Answer) -> None:
        self.entries.setdefault(key, []).append(entry)
        if len(self.entries[key]) > 1:
            self.wrong.append(f"{key} stands in the journal {len(self.entries[key])} times")
        if journalled != entry.answer:
            self.wrong.append(f"{key}: the journal says {journalled}, the model {entry.answer}")
        if key not in self._attempts:
            self.wrong.append(f"{key} stands in the journal, and nobody asked for it")

    def _charged(self, where: tuple[int, int], event: charging_pb2.UsageEvent, said: bytes, outcome: Outcome) -> None:
        use = Use(
            event.endpoint_id, event.service, event.network_id, event.access_type, event.usage_time_ms,
            event.quantity, event.cost_micros,
        )  # fmt: skip
        verdict = self.model.charge(use, asks=event.mode == charging_pb2.USAGE_MODE_ONLINE)
        record_id = usage_record_id(Position(CELL, where[0], where[1] * LINES_MAX))
        self.counts["charged" if not verdict.refused else "refused"] += 1
        self._enter(
            event.event_id, Entry(where, said, (*_verdict(verdict), record_id)), (*_outcome(outcome), record_id)
        )

    def _topped_up(self, where: tuple[int, int], record: list[Any], outcome: Outcome, decided_ms: int) -> None:
        _, owner, micros, request_id, *_ = record
        request = self.history.top_ups.get(request_id)
        if request is None:
            return  # somebody else's
        said = request.SerializeToString(deterministic=True)
        self.counts["top-ups"] += 1
        if (owner, micros * 1000) != (request.endpoint_id or request.account_id, request.amount.nanos):
            self.wrong.append(f"{request_id} is not what was asked: {owner} {micros}")
        money = self.model.top_up(owner, micros, decided_ms)
        if money != outcome[1]:
            self.wrong.append(f"{request_id}: the journal says {outcome[1]} are there after it, the model {money}")
        self._enter(request_id, Entry(where, said, ("DONE",)), ("DONE",))

    def _session(self, where: tuple[int, int], record: list[Any], outcome: Outcome) -> None:
        _, (name, sequence, endpoint, network, access, _), lines = record
        call = self.history.calls.get(f"{name} {sequence}")
        if call is None:
            self.wrong.append(f"{name} {sequence} stands in the journal, and nobody asked for it")
            return
        said = [
            Line(
                Use(endpoint, service, network, access, usage_ms, used, None, ("session", name)),
                unit.requested_quantity,
                network,
            )
            for (service, _, used, usage_ms), unit in zip(lines, call.request.units, strict=True)
        ]
        self.counts["session calls"] += 1
        answers = self._sessions.call(name, sequence, said, releases=call.releases)
        model: Answer = ("ERROR", answers) if isinstance(answers, str) else tuple(map(_granted, answers))
        self._enter(call.key, Entry(where, call.content, model), tuple(map(_line, outcome[1])))

    # --- what was told against the journal ------------------------------------------------------------------------

    def _told(self, key: str, attempts: Sequence[Attempt]) -> None:
        entry = next(iter(self.entries.get(key, ())), None)
        for attempt in attempts:
            if not attempt.answer:
                self.counts["unknown"] += 1
            elif entry is None:
                self.wrong.append(f"{key} was answered {attempt.answer} and is not in the journal")
            elif attempt.content == entry.content:
                self.counts["answers"] += 1
                if attempt.answer != entry.answer:
                    self.wrong.append(f"{key} was answered {attempt.answer}, the model says {entry.answer}")
            else:
                self.counts["changed"] += 1
                if attempt.answer not in {("INVALID", "EVENT_ID_REUSED"), ("ERROR", "SESSION_CALL_CHANGED"), *_PASSED}:
                    self.wrong.append(f"{key} was answered {attempt.answer}, though its content had changed")
        first = next((attempt for attempt in attempts if attempt.answer), None)
        if first is not None and first is not attempts[0] and not attempts[0].answer:
            self.counts["unknown, was there" if first.replayed else "unknown, was not there or is not told"] += 1

    def _order(self) -> None:
        """What was answered before something else was sent stands before it."""
        latest, by = 0.0, ""
        for key, entry in sorted(
            ((key, entries[0]) for key, entries in self.entries.items()), key=lambda each: each[1].position
        ):
            same = [each for each in self._attempts.get(key, ()) if each.content == entry.content]
            ends = [each.end for each in same if each.answer]
            deciding = [each.begin for each in same if each.replayed is False]
            if ends and min(ends) < latest:
                self.wrong.append(f"{key} was answered before {by} was sent, and stands after it in the journal")
            began = max(deciding, default=min((each.begin for each in same), default=0.0))
            if began > latest:
                latest, by = began, key

    # --- what is left -------------------------------------------------------------------------------------------

    async def compare_balances(self, operator: Stranger) -> None:
        """Hold the live balances against the model's."""
        for name, purse in self.model.purses.items():
            owner = {"endpoint_id" if name.startswith("ep_") else "account_id": name}
            listed: list[Json] = (await operator.get("/v1/balances", **owner))["balances"]
            told = {b["id"]: (int(b["remaining"]), int(b["reserved"])) for b in listed}
            wanted = {f"bal_{pot.id}": (pot.remaining, pot.reserved) for pot in purse.pots.values()}
            wanted[f"bal_{name.partition('_')[2]}.money"] = (purse.money, purse.money_reserved)
            differing = {
                balance: (told.get(balance), value) for balance, value in wanted.items() if told.get(balance, (0, 0)) != value
            }  # fmt: skip
            self.counts["balances"] += len(wanted)
            if differing:
                self.wrong.append(f"{name}: live and model differ: {differing}")
            if any(int(balance["credit_used"]) not in {0, purse.owed} for balance in listed):
                self.wrong.append(f"{name}: owes {purse.owed} by the model; {listed}")


_PASSED = {("ERROR", "SESSION_OUT_OF_SEQUENCE"), ("ERROR", "SESSION_REF_REUSED")}
"""What a changed call is told when its session went on meanwhile."""


def _verdict(verdict: Verdict) -> Answer:
    if verdict.refused:
        return ("REFUSED", verdict.refused, verdict.step)
    return ("CHARGED", verdict.amounts, max(verdict.uncovered))


def _outcome(outcome: Outcome) -> Answer:
    if outcome[0] == Status.REFUSED:
        return ("REFUSED", Reason(outcome[1]).name, outcome[2])
    return ("CHARGED", tuple(step[3] for step in outcome[2]), outcome[1])


def _granted(granted: Granted) -> Answer:
    charged = granted.charged
    amounts, uncovered = (charged.amounts, max(charged.uncovered)) if charged else ((), 0)
    return (granted.service, granted.granted, granted.reason, granted.step, amounts, uncovered)


def _line(answer: list[Any]) -> Answer:
    service, granted, reason, step, charged, _ = answer
    amounts, uncovered = (tuple(part[3] for part in charged[2]), charged[1]) if charged else ((), 0)
    return (service, granted, Reason(reason).name if reason else "", step, amounts, uncovered)
