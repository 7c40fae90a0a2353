"""Reads the books: usage records, charges with their explanations, sums. All of it is what the fold has posted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from services.common.errors import invalid, not_found
from services.common.identity import READERS, AccountKind, Principal, path_text, tree_of
from services.common.pages import PageRequest, page_token
from services.rating.domain.periods import Clock
from services.rating.domain.programs import Step, clocks_from_body, steps_from_body
from services.rating.domain.reasons import Outcome, Reason
from services.rating.domain.records import Position, charge_id, usage_record_id
from services.rating.ports import Journal, Terms
from services.rating.usecases.explaining import sentences_of
from services.rating.usecases.seeing import require_own_endpoint, sees_usage

ALL_STEPS = 64


@dataclass(frozen=True, slots=True)
class Record:
    """A usage record of the books. `path` is its enterprise's, `steps` the charge of each step, still flat."""

    position: Position
    path: tuple[str, ...]
    event_id: str
    endpoint_id: str
    service: int
    network_id: str
    access_type: int
    usage_ms: int
    quantity: int
    mode: int
    outcome: Outcome
    reason: Reason
    refused_step: int
    program_id: str
    steps: list[Any]
    decided_ms: int

    @property
    def id(self) -> str:
        """Its id."""
        return usage_record_id(self.position)


@dataclass(frozen=True, slots=True)
class Charge:
    """The charge of a usage record at a step; amounts in micros.

    Attributes:
        counts: of each counter that prices or limits raised, where it stood before and after.
    """

    record: Record
    step: int
    benefit: int
    rated: int
    uncovered: int
    amount: int
    draws: Sequence[tuple[str, int, int]]
    currency: str
    counts: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Its id."""
        return charge_id(self.record.position, self.step)

    @property
    def payer_id(self) -> str:
        """Who pays: the endpoint, or an account."""
        return self.record.endpoint_id if self.step == 0 else self.record.path[-self.step]

    @property
    def payee_id(self) -> str:
        """Who is paid."""
        return self.record.path[-self.step - 1]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a charge is what it is."""

    charge: Charge
    step: Step
    rounded: int
    sentences: Sequence[str]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which records are asked for; empty fields select all. Times are milliseconds since 1970."""

    endpoint_id: str = ""
    account_id: str = ""
    event_id: str = ""
    outcome: int = 0
    start_ms: int = 0
    end_ms: int = 0
    position: Position | None = None


@dataclass(frozen=True, slots=True)
class Sum:
    """A sum of charges by the dimensions asked for; the others are empty."""

    path: tuple[str, ...]
    step: int
    currency: str
    endpoint_id: str
    network_id: str
    country: str
    day: str
    service: int
    records: int
    data: int
    messages: int
    benefit: int
    uncovered: int
    amount: int


@dataclass(frozen=True, slots=True)
class RefusalSum:
    """Refused records by reason and step."""

    reason: Reason
    step: int
    records: int
    data: int
    messages: int


@dataclass(slots=True)
class Found:
    """A page of what was found.

    Attributes:
        complete_until_ms: everything acknowledged before this time is in it.
    """

    rows: Sequence[Any]
    next_page_token: str = ""
    complete_until_ms: int = 0
    refusals: Sequence[RefusalSum] = field(default_factory=list)


class BooksStore(Protocol):
    """The books as they are read."""

    async def records(self, under: str, selection: Selection, page: PageRequest) -> list[Record]:
        """Up to `page.size + 1` records of enterprises whose path begins with `under`, newest first."""
        ...

    async def sums(
        self,
        own: tuple[str, ...],
        under: str,
        selection: Selection,
        group_by: frozenset[str],
        countries: Mapping[str, str],
    ) -> list[Sum]:
        """Sums of the steps that an account with path `own` sees."""
        ...

    async def refusals(self, under: str, selection: Selection) -> list[RefusalSum]:
        """Refusals by reason and step."""
        ...

    async def complete_until_ms(self) -> int:
        """Everything acknowledged before this time is in the books."""
        ...

    async def entries(self, balance: str, page: PageRequest) -> list[Any]:
        """Up to `page.size + 1` movements of a balance, newest first."""
        ...


class Books:
    """Reads the books for a caller."""

    def __init__(self, store: BooksStore, journal: Journal, terms: Terms) -> None:
        self._store = store
        self._journal = journal
        self._terms = terms

    async def records(self, caller: Principal, selection: Selection, page: PageRequest) -> Found:
        """List usage records, newest first."""
        caller.require_role(*READERS)
        await require_own_endpoint(self._terms, caller, selection.endpoint_id)
        complete = await self._store.complete_until_ms()
        rows = await self._store.records(tree_of(caller), selection, page)
        return Found(rows[: page.size], _next(rows, page), complete)

    async def charges(
        self, caller: Principal, selection: Selection, payer_id: str, payee_id: str, page: PageRequest
    ) -> Found:
        """List charges of the steps that the caller sees, newest first; a page holds whole usage records."""
        caller.require_role(*READERS)
        selection = _charged(selection, payer_id)
        await require_own_endpoint(self._terms, caller, selection.endpoint_id)
        complete = await self._store.complete_until_ms()
        rows = await self._store.records(tree_of(caller), selection, page)
        kept = rows[: page.size]
        currencies = await self._steps(kept)
        charges = [charge for record in kept for charge in _visible(caller, record, currencies[record.program_id])]
        if payer_id:
            charges = [charge for charge in charges if charge.payer_id == payer_id]
        if payee_id:
            charges = [charge for charge in charges if charge.payee_id == payee_id]
        return Found(charges, _next(rows, page), complete)

    async def charge(self, caller: Principal, position: Position, step: int, name: str) -> Charge:
        """Return a charge, or raise NOT_FOUND."""
        return (await self._charge_with_step(caller, position, step, name))[0]

    async def explain(self, caller: Principal, position: Position, step: int, name: str) -> Explanation:
        """Say why a charge is what it is."""
        charge, program_step = await self._charge_with_step(caller, position, step, name)
        bodies = await self._journal.programs([charge.record.program_id])
        return explanation(charge, program_step, clocks_from_body(bodies[charge.record.program_id]))

    async def _charge_with_step(
        self, caller: Principal, position: Position, step: int, name: str
    ) -> tuple[Charge, Step]:
        caller.require_role(*READERS)
        rows = await self._store.records(tree_of(caller), Selection(position=position), PageRequest(1))
        if rows and await sees_usage(self._terms, caller, rows[0].endpoint_id):
            steps = (await self._steps(rows))[rows[0].program_id]
            for charge in _visible(caller, rows[0], steps):
                if charge.step == step:
                    return charge, steps[step]
        raise not_found("charge", name)

    async def _steps(self, records: Sequence[Record]) -> dict[str, tuple[Step, ...]]:
        bodies = await self._journal.programs({record.program_id for record in records})
        return {name: steps_from_body(body) for name, body in bodies.items()}

    async def summarize(
        self,
        caller: Principal,
        own: tuple[str, ...],
        selection: Selection,
        group_by: frozenset[str],
        page: PageRequest,
    ) -> Found:
        """Sum charges by dimensions, for the tree of an account with path `own`."""
        caller.require_role(*READERS)
        await require_own_endpoint(self._terms, caller, selection.endpoint_id)
        under = path_text(own)
        if under != tree_of(caller):
            caller.require_sees(own, "account", own[-1] if own else "")
        if caller.account_kind is AccountKind.SUB_ACCOUNT:
            under = tree_of(caller)  # usage is kept by enterprise; of that it sees the endpoint it names
        complete = await self._store.complete_until_ms()
        seen = caller.account_path if not caller.service else own[:1]
        countries = await self._terms.countries() if "country" in group_by else {}
        sums = await self._store.sums(seen, under, selection, group_by, countries)
        refusals = [] if page.after else await self._store.refusals(under, selection)
        if page.after:
            after = page.key(str, int, str, str, str, str, str, int)
            sums = [row for row in sums if _place(row, len(seen)) > after]
        kept = sums[: page.size]
        token = page_token(*_place(kept[-1], len(seen))) if len(sums) > page.size else ""
        return Found(kept, token, complete, refusals)

    async def entries(self, balance: str, page: PageRequest) -> Found:
        """List the movements of a balance that the caller was found to see, newest first."""
        rows = await self._store.entries(balance, page)
        last = rows[page.size - 1] if len(rows) > page.size else None
        token = page_token(last.created_ms, last.cell, last.sequence, last.number) if last else ""
        return Found(rows[: page.size], token)


def _next(rows: Sequence[Record], page: PageRequest) -> str:
    if len(rows) <= page.size:
        return ""
    last = rows[page.size - 1]
    return page_token(last.usage_ms, *last.position)


def _place(row: Sum, above: int) -> tuple[str | int, ...]:
    """Where a sum stands in their order. Accounts `above` are the same for all: they are left out, so not told."""
    path = path_text(row.path[above:])
    of = (row.endpoint_id, row.network_id, row.country, row.day, row.service)
    return (path, row.step, row.currency, *of)


def _charged(selection: Selection, payer_id: str) -> Selection:
    endpoint = selection.endpoint_id or (payer_id if payer_id.startswith("ep_") else "")
    if payer_id.startswith("ep_") and endpoint != payer_id:
        raise invalid("payer_id", "is another endpoint than endpoint_id")
    return Selection(
        endpoint_id=endpoint,
        account_id=selection.account_id or (payer_id if payer_id.startswith("acc_") else ""),
        outcome=Outcome.CHARGED,
        start_ms=selection.start_ms,
        end_ms=selection.end_ms,
        position=selection.position,
    )


def charge_of(record: Record, number: int, step: Step) -> Charge:
    """The charge of a record at a step of its program."""
    benefit, rated, uncovered, amount, draws, *told = record.steps[number]
    flat = iter(told[0] if told else ())
    counts = {counter: (stood, stood + more) for counter, stood, more in zip(flat, flat, flat, strict=True)}
    drawn = [tuple(draw) for draw in draws]
    return Charge(record, number, benefit, rated, uncovered, amount, drawn, step.currency, counts)


def _visible(caller: Principal, record: Record, steps: Sequence[Step]) -> list[Charge]:
    """Charges of the steps that the caller sees: up to its own."""
    last = ALL_STEPS if caller.service else max(len(record.path) - len(caller.account_path) + 1, 0)
    return [charge_of(record, number, step) for number, step in enumerate(steps[: len(record.steps)]) if number <= last]


def explanation(charge: Charge, step: Step, clocks: Sequence[Clock] = ()) -> Explanation:
    """Say in sentences why a charge is what it is; `clocks` are those of its program."""
    rounded, sentences = sentences_of(charge, step, clocks)
    return Explanation(charge, step, rounded, sentences)
