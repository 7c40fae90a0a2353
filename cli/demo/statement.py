"""The statement of an account: what it sold, what that cost it, what is left, what was refused."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from rich.table import Table

from cli.charge.summary import reason_name
from meterline.rating.v1.charges_pb2 import RefusalCount, UsageSummary
from services.common.money import format_micros

GB = 1_000_000_000


class Level(NamedTuple):
    """Who pays whom at which charging step; at step 0 the payer is the enterprise whose endpoints pay."""

    step: int
    payer: str
    payee: str


@dataclass(slots=True)
class Entry:
    """Sums of a level.

    Attributes:
        records: charged.
        data_bytes: of DATA and NB_IOT.
        messages: sent and received.
        micros: money.
    """

    records: int = 0
    data_bytes: int = 0
    messages: int = 0
    micros: int = 0

    def add(self, *, records: int = 0, data_bytes: int = 0, messages: int = 0, micros: int = 0) -> None:
        """Add to the sums."""
        self.records += records
        self.data_bytes += data_bytes
        self.messages += messages
        self.micros += micros

    @property
    def volume(self) -> tuple[int, int, int]:
        """Records, bytes, messages."""
        return self.records, self.data_bytes, self.messages


@dataclass(slots=True)
class Statement:
    """One account's month.

    Attributes:
        volume: records, bytes and messages that it sold.
        revenue: micros by currency.
        cost: micros by currency.
        refusals: records by (reason, step).
    """

    volume: Entry = field(default_factory=Entry)
    revenue: Counter[str] = field(default_factory=Counter)
    cost: Counter[str] = field(default_factory=Counter)
    refusals: Counter[tuple[int, int]] = field(default_factory=Counter)

    @property
    def currencies(self) -> list[str]:
        """Those in which it earned or paid; one at least."""
        return sorted(filter(None, {*self.revenue, *self.cost})) or [""]


def level_of(row: UsageSummary) -> Level:
    """The level that a sum is of."""
    return Level(row.step, row.payer_id, row.payee_id)


def by_level(rows: Iterable[UsageSummary]) -> dict[Level, Entry]:
    """Sums by level."""
    levels: defaultdict[Level, Entry] = defaultdict(Entry)
    for row in rows:
        levels[level_of(row)].add(
            records=row.record_count, data_bytes=row.data_bytes, messages=row.messages, micros=row.amount_micros
        )
    return dict(levels)


def statement_of(account_id: str, rows: Iterable[UsageSummary], refusals: Iterable[RefusalCount]) -> Statement:
    """The statement of an account.

    Args:
        account_id: the account.
        rows: sums by level, of its whole tree or a larger one.
        refusals: of its tree.
    """
    statement = Statement()
    for row in rows:
        if row.payee_id == account_id:
            statement.volume.add(records=row.record_count, data_bytes=row.data_bytes, messages=row.messages)
            statement.revenue[row.currency] += row.amount_micros
        if row.payer_id == account_id and row.step > 0:
            statement.cost[row.currency] += row.amount_micros
    for refusal in refusals:
        statement.refusals[refusal.reason, refusal.step] += refusal.record_count
    return statement


def as_data(name: str, account_id: str, statement: Statement) -> dict[str, Any]:
    """A statement for programs; money in micros."""
    return {
        "account": name,
        "account_id": account_id,
        "records": statement.volume.records,
        "data_bytes": statement.volume.data_bytes,
        "messages": statement.volume.messages,
        "money": [
            {
                "currency": currency,
                "revenue_micros": statement.revenue[currency],
                "cost_micros": statement.cost[currency],
                "margin_micros": statement.revenue[currency] - statement.cost[currency],
            }
            for currency in statement.currencies
        ],
        "refused": [
            {"reason": reason_name(reason), "step": step, "count": count}
            for (reason, step), count in statement.refusals.most_common()
        ],
    }


def money_table(statements: Mapping[str, Statement], indent: Callable[[str], int]) -> Table:
    """What each account earned and paid, one row for each of its currencies.

    Args:
        statements: by name of the account.
        indent: depth of the account in the tree.
    """
    table = _table("revenue and cost", "left", "")
    for name in ("revenue", "cost", "margin"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, statement in statements.items():
        shown = "  " * indent(name) + name
        for currency in statement.currencies:
            revenue, cost = statement.revenue[currency], statement.cost[currency]
            table.add_row(shown, currency, *(_rounded(micros) for micros in (revenue, cost, revenue - cost)))
            shown = ""
    return table


def volume_table(statements: Mapping[str, Statement], indent: Callable[[str], int]) -> Table:
    """What each account sold and what was refused to its endpoints; arguments as for ``money_table``."""
    table = _table("volume and refusals", "right", "records")
    for name in ("GB", "messages", "refused"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("by reason")
    for name, statement in statements.items():
        records, data_bytes, messages = statement.volume.volume
        by_reason: Counter[str] = Counter()
        for (reason, _step), count in statement.refusals.items():
            by_reason[reason_name(reason)] += count
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in by_reason.most_common())
        volume = (f"{records:,}", f"{data_bytes / GB:,.3f}", f"{messages:,}")
        table.add_row("  " * indent(name) + name, *volume, f"{statement.refusals.total():,}", reasons)
    return table


def _table(title: str, justify: Literal["left", "right"], second: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1))
    table.add_column("account", no_wrap=True)
    table.add_column(second, justify=justify, no_wrap=True)
    return table


def _rounded(micros: int) -> str:
    """To hundredths, half up, for the eye only; ``--json`` has the micros."""
    cents = (abs(micros) + 5_000) // 10_000
    whole, _, fraction = format_micros(cents * 10_000).partition(".")
    return f"{'-' if micros < 0 and cents else ''}{int(whole):,}.{fraction}"
