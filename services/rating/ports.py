"""What the use cases need of the outside."""

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from services.common.money import Money
from services.rating.domain.balances import Holder
from services.rating.domain.decisions import Decided, Op, Purpose, Segment, SegmentContent, SessionImage, Used
from services.rating.domain.escrow import Slice
from services.rating.domain.happenings import Happening
from services.rating.domain.operations import DoneOperation
from services.rating.domain.payments import Outcome, PaymentMethod
from services.rating.domain.programs import Program
from services.rating.domain.records import Position
from services.rating.domain.terms import AccountTerms, CatalogTerms, EndpointTerms, PlanKey


class Engine(Protocol):
    """The Function and the keys of one cell."""

    cell: int

    async def install(self) -> None:
        """Load the Function into the server."""

    async def decide(
        self,
        ops: Sequence[Op],
        expected: Mapping[str, int],
        epoch: int,
        least: int,
        now_ms: int,
        ids_ttl_ms: int,
        purpose: Purpose = Purpose.DECIDE,
    ) -> Decided:
        """Decide operations in their order; CELL_CLOSED if the cell's state is not the journal's."""
        ...

    async def segments(self, first: int, last: int) -> list[Segment]:
        """Decided segments from the cell's stream."""
        ...

    async def position(self) -> tuple[int, int] | None:
        """Epoch and sequence of the cell's state; None if there is none."""
        ...

    async def holders(self, holder_ids: Iterable[str]) -> dict[str, Holder]:
        """Holders as they stand; those that have never been used are left out."""
        ...

    async def slices(self, keys: Sequence[tuple[str, int]]) -> list[Slice]:
        """Slices as they stand, by holder and kind (1 money, 2 credit)."""
        ...

    async def session(self, session_id: str) -> SessionImage | None:
        """A session as it stands."""
        ...

    async def being_rebuilt(self) -> bool:
        """Whether somebody else rebuilds the cell's state at this time."""
        ...

    async def begin_rebuild(self, epoch: int) -> None:
        """Close the cell; until `open` only this rebuild changes it, or CELL_CLOSED if another one does."""

    async def clear(self) -> None:
        """Delete everything of the cell that is about to be rebuilt."""

    async def load(self, images: Mapping[str, bytes], now_ms: int) -> None:
        """Write holders and sessions as the journal left them, with the ends of open sessions; newer ones replace."""

    async def load_ids(self, answers: Iterable["AnsweredId"], now_ms: int, ttl_ms: int) -> None:
        """Write ids that were answered."""

    async def open(self, epoch: int, sequence: int, mark: bytes) -> None:
        """Let the cell decide in an epoch, from the journal's last segment on."""


@dataclass(frozen=True, slots=True)
class AnsweredId:
    """An id that was answered: by which operation (from 0) of which segment, and when."""

    id_digest: bytes
    body_digest: bytes
    sequence: int
    operation: int
    decided_ms: int


class Journal(Protocol):
    """The journal of decided segments."""

    async def epoch(self, cell: int) -> int:
        """Epoch of a cell; 0 if it was never opened."""
        ...

    async def raise_epoch(self, cell: int, from_epoch: int) -> bool:
        """Begin the epoch after `from_epoch`; False if somebody else did."""
        ...

    async def last_sequence(self, cell: int) -> int:
        """Sequence of the last segment; 0 if there is none."""
        ...

    async def append(self, cell: int, epoch: int, decided: Sequence[Segment]) -> None:
        """Commit segments; CELL_CLOSED if they do not count."""

    async def read(self, cell: int, after: int, limit: int) -> list[Segment]:
        """Segments after a sequence, in order."""
        ...

    def read_all(self, cell: int, after: int) -> AsyncGenerator[Segment, None]:
        """All segments after a sequence, in order."""
        ...

    async def get(self, cell: int, sequences: Iterable[int]) -> dict[int, Segment]:
        """Segments by their sequences."""
        ...

    async def keep_programs(self, new: Iterable[Program]) -> None:
        """Keep programs so that what they decide can be explained."""

    async def programs(self, ids: Iterable[str]) -> dict[str, str]:
        """Bodies of kept programs."""
        ...

    def content(self, segment: Segment) -> SegmentContent:
        """What a segment says."""
        ...


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far the fold of a cell is: the last segment folded, and when it was decided."""

    sequence: int
    decided_ms: int


class UsageRow(NamedTuple):
    """A usage record on its way into the books; `path` is the account path of its enterprise."""

    position: Position
    path: str
    used: Used
    decided_ms: int


@dataclass(frozen=True, slots=True)
class RefundRow:
    """A refund on its way into the books; `path` is the account path of the enterprise of its endpoint."""

    position: Position
    path: str
    done: DoneOperation
    decided_ms: int


@dataclass(slots=True)
class Sheet:
    """What a run of segments adds to the books.

    Attributes:
        usage: usage records.
        totals: sums of charges by (path, day, endpoint, network, service, step, currency):
            records, quantity, benefit, uncovered, amount.
        refunds: refunds of charges.
        refusals: sums by (path, day, endpoint, service, reason, step): records, quantity.
        entries: movements: (cell, sequence, number, balance, kind, change, cause, decided).
        balances: holder and sum of changes by balance.
        requests: (id digest, body digest, cell, sequence, operation, answer, decided).
        audit: audit entries of top-ups.
        images: what holders and sessions became, by name.
        events: what happened.
    """

    usage: list[UsageRow] = field(default_factory=list)
    refunds: list[RefundRow] = field(default_factory=list)
    totals: dict[tuple[Any, ...], list[int]] = field(default_factory=dict)
    refusals: dict[tuple[Any, ...], list[int]] = field(default_factory=dict)
    entries: list[tuple[Any, ...]] = field(default_factory=list)
    balances: dict[str, tuple[str, int]] = field(default_factory=dict)
    requests: list[tuple[Any, ...]] = field(default_factory=list)
    audit: list[dict[str, Any]] = field(default_factory=list)
    images: dict[str, bytes] = field(default_factory=dict)
    events: list[Happening] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Standing:
    """Some of what a segment, the last folded, left behind: images by name, ids that were answered up to it."""

    sequence: int
    images: Mapping[str, bytes]
    ids: Sequence[AnsweredId]


class Ledger(Protocol):
    """The books, as the fold writes them and deciding asks them."""

    async def cursor(self, cell: int) -> Cursor:
        """How far the fold of a cell is."""
        ...

    async def post(self, cell: int, cursor: Cursor, last: Segment, sheet: Sheet) -> None:
        """Post a sheet and move the cursor, in one transaction."""

    def standing(self, cell: int, since_ms: int) -> AsyncGenerator[Standing, None]:
        """Images, and ids answered since a moment, some at a time, all as one segment left them."""
        ...

    async def answered_request(self, digest: bytes) -> tuple[bytes, int] | None:
        """Body digest and answer of a top-up; None if it is not in the books."""
        ...

    async def answered_at(self, digest: bytes) -> tuple[bytes, int, int] | None:
        """Body digest, segment and operation in it of an answered request; None if it is not in the books."""
        ...

    async def holder_of(self, balance_id: str) -> str | None:
        """Who holds a balance; None if it is not in the books."""
        ...

    async def outcomes(self, digests: Sequence[bytes]) -> dict[bytes, tuple[Position, bytes, list[Any]]]:
        """Position, body digest and outcome of events that are in the books, by digest of their ids."""
        ...


ProgramKey = tuple[int, str, int]
"""Service, network and access type."""
Signature = tuple[Any, ...]
"""What of an endpoint its programs depend on."""


@dataclass(slots=True, eq=False)
class ChainTerms:
    """An enterprise with the accounts above it, and the programs compiled from their terms.

    When anything that it was made from changes it is dropped whole, programs and all.

    Attributes:
        accounts: from the enterprise upwards, the OPERATOR last.
        catalog: the terms that its plans refer to.
        known_plans: plans that the catalog terms hold.
        programs: by what the endpoint has, then by kind of use.
    """

    accounts: tuple[AccountTerms, ...]
    catalog: CatalogTerms
    known_plans: set[PlanKey]
    programs: dict[Signature, dict[ProgramKey, tuple[Program, ...]]] = field(default_factory=dict)

    @property
    def path(self) -> tuple[str, ...]:
        """Path of the enterprise, from the OPERATOR down."""
        return self.accounts[0].path

    def programs_of(self, endpoint: EndpointTerms) -> dict[ProgramKey, tuple[Program, ...]]:
        """The programs of endpoints with the plans of this one, by kind of use."""
        base = endpoint.base.plan if endpoint.base else None
        addons = frozenset(addon.plan for addon in endpoint.addons)
        is_of = (endpoint.is_past, endpoint.repeats, endpoint.barred, endpoint.active, endpoint.owner_active)
        signature = (base, addons, *is_of)
        return self.programs.setdefault(signature, {})

    def account(self, account_id: str) -> AccountTerms | None:
        """An account of the chain."""
        return next((account for account in self.accounts if account.id == account_id), None)


@dataclass(frozen=True, slots=True, eq=False)
class KnownEndpoint:
    """An endpoint ready to be charged.

    Attributes:
        terms: the endpoint.
        chain: its enterprise and the accounts above.
        programs: programs of endpoints with the same plans, by kind of use; each holds for a time, the newest first.
        changed_ms: when it was last given a plan; use from before may be of other programs.
    """

    terms: EndpointTerms
    chain: ChainTerms
    programs: dict[ProgramKey, tuple[Program, ...]]
    changed_ms: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "changed_ms", self.terms.changed_ms)


class Terms(Protocol):
    """The commercial terms, cached and kept current."""

    known: dict[str, KnownEndpoint]

    @property
    def networks(self) -> Mapping[str, str]:
        """Country code by network id."""
        ...

    async def countries(self) -> Mapping[str, str]:
        """Country code by network id, of all networks, asked for if need be."""
        ...

    def require_current(self) -> None:
        """Raise UNAVAILABLE while what is known may be stale."""

    async def load(self, endpoint_ids: Iterable[str]) -> set[str]:
        """Make endpoints known; return those that do not exist. The others are known until the caller next waits."""
        ...

    async def account(self, account_id: str) -> tuple[AccountTerms, CatalogTerms]:
        """The terms of an account with its plans; NOT_FOUND if there is none."""
        ...

    def forget(self, endpoint_id: str) -> None:
        """Ask for an endpoint and its chain anew at the next use."""

    async def wait_for(self, cursors: Sequence[int], seconds: float) -> None:
        """Wait until the feeds of accounts, catalog and endpoints have reached these cursors."""


class PaymentProvider(Protocol):
    """A company that collects money from payment methods."""

    name: str

    async def charge(self, key: str, method: PaymentMethod, amount: Money) -> Outcome:
        """Collect money once for a key, however often it is asked; UnknownOutcomeError if the provider did not say."""
        ...

    async def find(self, key: str, method: PaymentMethod, amount: Money) -> Outcome | None:
        """What became of a charge; None if the provider never had it, UnknownOutcomeError while it is in progress."""
        ...

    def check(self, method: PaymentMethod) -> None:
        """Refuse (InvalidArgumentError) a token or customer id that cannot be of this provider."""

    def require_payable(self, amount: Money) -> None:
        """Refuse an amount that the provider cannot collect: below its minimum, or not whole minor units."""

    async def aclose(self) -> None:
        """Close its connections."""
