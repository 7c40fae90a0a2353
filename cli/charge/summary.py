"""What became of the records of a run: counts, reasons, uncovered volume, and money by step and currency."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cli.charge.stream import Batch
from meterline.rating.v1.charging_pb2 import ChargeResult, Outcome, Reason, UsageEvent
from meterline.type.v1.service_pb2 import Service
from services.common.money import format_micros

LINES_SHOWN = 5
DATA_SERVICES = frozenset({Service.SERVICE_DATA, Service.SERVICE_NB_IOT})
"""Services counted in bytes; the others are counted in messages."""
LEVELS = ("endpoint to enterprise", "enterprise to its parent")


def reason_name(reason: int) -> str:
    """A reason without the prefix of its enumeration; its number if a newer server has new ones."""
    return Reason.Name(reason).removeprefix("REASON_") if reason in Reason.values() else str(reason)  # type: ignore[arg-type]


@dataclass(slots=True)
class Invalid:
    """Lines that are invalid for one reason.

    Attributes:
        count: how many.
        lines: the first few.
        detail: what the first one lacks.
    """

    count: int = 0
    lines: list[int] = field(default_factory=list)
    detail: str = ""

    def add(self, line: int, detail: str) -> None:
        """Count one more."""
        self.count += 1
        self.detail = self.detail or detail
        if len(self.lines) < LINES_SHOWN:
            self.lines.append(line)


@dataclass(frozen=True, slots=True)
class Level:
    """Money at one charging step in one currency, in micros.

    Attributes:
        step: 0 is endpoint to enterprise.
        currency: ISO 4217; empty if not known.
        amount: what the payee of the step earns.
        cost: what it pays for the same traffic at the next step, as far as that is visible.
    """

    step: int
    currency: str
    amount: int
    cost: int

    @property
    def margin(self) -> int:
        """What is left to the payee."""
        return self.amount - self.cost


@dataclass(slots=True)
class Summary:
    """Counts as answers come in.

    An answer that says ``replayed`` repeats an earlier one and charges nothing, so it is counted but its money is not
    added up, except where this run itself had to send a batch again.

    Attributes:
        charged: answers by which a record was charged.
        replayed: answers that repeat an earlier one, whatever it was.
        refused: by (reason, step).
        invalid: by reason.
        uncovered_bytes: volume of DATA and NB_IOT that nothing covered.
        uncovered_messages: messages that nothing covered.
        resent_batches: batches that were sent again after a broken stream.
        first_ms: the earliest usage time charged, milliseconds since 1970.
        last_ms: the latest.
    """

    charged: int = 0
    replayed: int = 0
    refused: Counter[tuple[int, int]] = field(default_factory=Counter)
    invalid: defaultdict[str, Invalid] = field(default_factory=lambda: defaultdict(Invalid))
    uncovered_bytes: int = 0
    uncovered_messages: int = 0
    resent_batches: int = 0
    first_ms: int = 2**63 - 1
    last_ms: int = 0
    _amounts: dict[str, list[int]] = field(default_factory=dict)
    """Micros of each endpoint by step; steps of different endpoints may have different currencies."""

    def bad_line(self, line: int, detail: str) -> None:
        """Count a line that never became an event."""
        self.invalid["FIELD_INVALID"].add(line, detail)

    def answered(self, batch: Batch, results: Sequence[ChargeResult]) -> None:
        """Count the answers to a batch."""
        resent = batch.sendings > 1
        self.resent_batches += resent
        seen: set[tuple[str, str]] = set()
        for line, event, result in zip(batch.lines, batch.events, results, strict=True):
            self.replayed += result.replayed
            if result.outcome == Outcome.OUTCOME_INVALID:
                self.invalid[reason_name(result.reason)].add(line, result.detail)
            elif result.outcome == Outcome.OUTCOME_REFUSED:
                self.refused[result.reason, result.refused_step] += 1
            else:
                self.charged += 1
                key = (event.endpoint_id, event.event_id)
                if not result.replayed or (resent and key not in seen):
                    self._add_money(event, result)
                seen.add(key)

    def _add_money(self, event: UsageEvent, result: ChargeResult) -> None:
        if event.service in DATA_SERVICES:
            self.uncovered_bytes += result.uncovered_quantity
        else:
            self.uncovered_messages += result.uncovered_quantity
        self.first_ms = min(self.first_ms, event.usage_time_ms)
        self.last_ms = max(self.last_ms, event.usage_time_ms)
        amounts = self._amounts.setdefault(event.endpoint_id, [])
        amounts.extend([0] * (len(result.amounts_micros) - len(amounts)))
        for step, amount in enumerate(result.amounts_micros):
            amounts[step] += amount

    @property
    def records(self) -> int:
        """Records read, bad lines included."""
        return self.charged + self.refused.total() + self.invalid_count

    @property
    def invalid_count(self) -> int:
        """Records that are not in the books: mend and send them again."""
        return sum(invalid.count for invalid in self.invalid.values())

    @property
    def endpoints(self) -> Iterable[str]:
        """Endpoints with money."""
        return self._amounts.keys()

    def levels(self, currencies: Mapping[tuple[str, int], str]) -> list[Level]:
        """Money by step and currency.

        Args:
            currencies: of (endpoint id, step) or, for all endpoints, of ("", step).
        """
        amounts: Counter[tuple[int, str]] = Counter()
        costs: Counter[tuple[int, str]] = Counter()
        for endpoint, by_step in self._amounts.items():
            for step, amount in enumerate(by_step):
                currency = currencies.get((endpoint, step)) or currencies.get(("", step), "")
                amounts[step, currency] += amount
                if step:
                    costs[step - 1, currency] += amount
        return [Level(*key, amounts[key], costs[key]) for key in sorted(amounts | costs) if amounts[key] or costs[key]]


def as_data(summary: Summary, levels: Iterable[Level], seconds: float) -> dict[str, Any]:
    """The summary for programs; money in micros."""
    return {
        "records": summary.records,
        "accepted": summary.charged,
        "replayed": summary.replayed,
        "refused": summary.refused.total(),
        "refused_by": [
            {"reason": reason_name(reason), "step": step, "count": count}
            for (reason, step), count in summary.refused.most_common()
        ],
        "invalid": summary.invalid_count,
        "invalid_by": [
            {"reason": reason, "count": invalid.count, "lines": invalid.lines, "detail": invalid.detail}
            for reason, invalid in summary.invalid.items()
        ],
        "uncovered_bytes": summary.uncovered_bytes,
        "uncovered_messages": summary.uncovered_messages,
        "levels": [
            {
                "step": level.step,
                "currency": level.currency,
                "amount_micros": level.amount,
                "cost_micros": level.cost,
                "margin_micros": level.margin,
            }
            for level in levels
        ],
        "resent_batches": summary.resent_batches,
        "seconds": round(seconds, 3),
    }


def as_picture(summary: Summary, levels: Sequence[Level], seconds: float) -> RenderableType:
    """The summary for people."""
    counts = Table(box=None, show_header=False, padding=(0, 2))
    counts.add_column()
    counts.add_column(justify="right")
    counts.add_column()
    rate = summary.records / seconds if seconds else 0
    counts.add_row("records", f"{summary.records:,}", f"in {seconds:.1f} s, {rate:,.0f} a second")
    counts.add_row("accepted", f"{summary.charged:,}", "charged at every level")
    counts.add_row("replayed", f"{summary.replayed:,}", "answered as before; nothing charged again")
    counts.add_row("refused", f"{summary.refused.total():,}", "nothing charged at any level")
    for (reason, step), count in summary.refused.most_common():
        counts.add_row(f"  {reason_name(reason)}", f"{count:,}", f"by step {step}, {level_name(step)}")
    counts.add_row("invalid", f"{summary.invalid_count:,}", "not recorded: mend and send again")
    for name, invalid in summary.invalid.items():
        lines = ", ".join(map(str, invalid.lines)) + (", ..." if invalid.count > len(invalid.lines) else "")
        counts.add_row(f"  {name}", f"{invalid.count:,}", Text(f"line {lines}  {invalid.detail}"))
    uncovered = f"{summary.uncovered_bytes:,} bytes and {summary.uncovered_messages:,} messages"
    parts: list[RenderableType] = [counts, "", f"Used, and covered by no benefit or balance: {uncovered}."]
    if levels:
        parts += ["", _money(levels), "Cost is what the same traffic costs at the next level, as far as this key sees."]
    if summary.resent_batches:
        parts.append(f"{summary.resent_batches} batches were sent again after the stream broke.")
    return Group(*parts)


def level_name(step: int) -> str:
    """A step in words."""
    return LEVELS[step] if step < len(LEVELS) else "account to its parent"


def _money(levels: Iterable[Level]) -> Table:
    table = Table(title="Charged", title_justify="left", box=None, padding=(0, 2))
    for name in ("step", "level", "currency"):
        table.add_column(name)
    for name in ("amount", "cost", "margin"):
        table.add_column(name, justify="right")
    for level in levels:
        money = (format_micros(micros) for micros in (level.amount, level.cost, level.margin))
        table.add_row(str(level.step), level_name(level.step), level.currency or "?", *money)
    return table
