"""What rating answered to each record of the demo, and the books that must follow from it."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cli.charge.stream import Batch
from cli.charge.summary import DATA_SERVICES
from cli.demo.statement import Entry, Level
from meterline.rating.v1.charging_pb2 import ChargeResult, Outcome, UsageEvent

Key = tuple[str, str]
"""(endpoint id, event id): one use of the network."""
Chain = Sequence[str]
"""Ids of the accounts that are paid for an endpoint's use: its enterprise, that one's parent, up to the operator."""


@dataclass(slots=True)
class Answers:
    """Collects answers; hand ``answered`` to the stream.

    Attributes:
        events: each use, once.
        results: the first answer to each use.
        lines: how often each use was sent.
        replays: how often each use was answered as a replay.
        contradictions: uses that got two different answers.
    """

    events: dict[Key, UsageEvent] = field(default_factory=dict)
    results: dict[Key, ChargeResult] = field(default_factory=dict)
    lines: Counter[Key] = field(default_factory=Counter)
    replays: Counter[Key] = field(default_factory=Counter)
    contradictions: set[Key] = field(default_factory=set)

    def answered(self, batch: Batch, results: Sequence[ChargeResult]) -> None:
        """Note the answers to a batch."""
        for event, result in zip(batch.events, results, strict=True):
            key = (event.endpoint_id, event.event_id)
            self.lines[key] += 1
            self.replays[key] += result.replayed
            first = self.results.setdefault(key, result)
            self.events.setdefault(key, event)
            if _essence(first) != _essence(result):
                self.contradictions.add(key)

    def outcomes(self) -> Counter[int]:
        """Uses by outcome."""
        return Counter(result.outcome for result in self.results.values())

    def refusals(self, endpoints: Iterable[str]) -> Counter[tuple[int, int]]:
        """Refused uses of these endpoints by (reason, step)."""
        wanted = set(endpoints)
        return Counter(
            (result.reason, result.refused_step)
            for (endpoint, _), result in self.results.items()
            if result.outcome == Outcome.OUTCOME_REFUSED and endpoint in wanted
        )

    def books(self, chains: Mapping[str, Chain]) -> dict[Level, Entry]:
        """What the books must say at each level.

        Args:
            chains: of each endpoint.
        """
        books: defaultdict[Level, Entry] = defaultdict(Entry)
        for key, result in self.results.items():
            if result.outcome != Outcome.OUTCOME_CHARGED:
                continue
            event, chain = self.events[key], chains[key[0]]
            payers = (chain[0], *chain)
            data = event.service in DATA_SERVICES
            for step, amount in enumerate(result.amounts_micros):
                level = Level(step, payers[step], chain[step])
                books[level].add(
                    records=1,
                    data_bytes=event.quantity if data else 0,
                    messages=0 if data else event.quantity,
                    micros=amount,
                )
        return dict(books)


def _essence(result: ChargeResult) -> tuple[object, ...]:
    return (
        result.outcome,
        result.reason,
        result.refused_step,
        tuple(result.amounts_micros),
        result.uncovered_quantity,
        result.usage_record_id,
    )
