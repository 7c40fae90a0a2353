"""What an examination needs of the outside: the stores as they are, and room to fold the journal a second time."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.rating.domain.balances import Holder
from services.rating.domain.decisions import Segment, SegmentContent
from services.rating.domain.findings import Finding
from services.rating.ports import Cursor, Sheet


@dataclass(frozen=True, slots=True)
class KeptSegment:
    """A segment as it lies in the journal, sound or not."""

    segment: Segment
    epoch: int
    sound: bool


@dataclass(frozen=True, slots=True)
class Held:
    """What a session holds of a holder's bucket, or (bucket empty) of its money or credit, in the bucket's unit."""

    holder_id: str
    bucket: str
    amount: int
    of_credit: bool


@dataclass(frozen=True, slots=True)
class SessionState:
    """A session as it stands: whether it is open, when it is due (milliseconds since 1970), what it holds."""

    is_open: bool
    due_ms: int
    held: Sequence[Held]


@dataclass(frozen=True, slots=True)
class Glance:
    """Some of a cell's state, read in one step.

    Attributes:
        sequence: segment that had been decided last.
        values: holders and sessions by name.
        ends: when sessions are due, as the sweep knows it; milliseconds since 1970.
    """

    sequence: int
    values: Mapping[str, bytes]
    ends: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class StateRow:
    """A holder or session: its image in Valkey, that of the journal, and when the sweep ends the session."""

    name: str
    value: bytes | None
    image: bytes | None
    ends: int | None


class JournalSource(Protocol):
    """The journal, as it lies there."""

    async def cells(self) -> dict[int, int]:
        """Epoch by cell."""
        ...

    async def kept(self, cell: int, after: int) -> list[KeptSegment]:
        """The next segments after a sequence, some hundred."""
        ...

    async def programs(self, ids: Iterable[str]) -> dict[str, str]:
        """Bodies of programs."""
        ...

    def content(self, segment: Segment) -> SegmentContent:
        """What a segment says."""
        ...


class StateSource(Protocol):
    """A cell's state in Valkey, as it lies there."""

    async def position(self) -> tuple[int, int] | None:
        """Epoch and sequence of the cell's state; None if there is none."""
        ...

    def glances(self) -> AsyncIterator[Glance]:
        """All holders and sessions, some at a time; those that change meanwhile may come twice, the newer later."""
        ...

    def answered(self) -> AsyncIterator[Mapping[bytes, bytes]]:
        """Answered ids and what is remembered of their answers, some at a time."""
        ...

    def read_holder(self, holder_id: str, image: bytes) -> Holder:
        """Read a holder."""
        ...

    def read_session(self, image: bytes) -> SessionState:
        """Read a session."""
        ...


class SecondBooks(Protocol):
    """Books folded anew in a scratch file, and the books that are examined."""

    async def cursors(self) -> dict[int, Cursor]:
        """How far the examined books are, by cell."""
        ...

    async def begin(self) -> dict[int, Cursor]:
        """Hold the examined books still from now on, for this reader only; how far they are, by cell."""
        ...

    async def post(self, cell: int, cursor: Cursor, last: Segment, sheet: Sheet) -> None:
        """Post to the second books, as the fold does."""

    async def compare_rows(self, cell: int, after: int, upto: int) -> list[Finding]:
        """Compare usage records and entries of some segments, and forget them."""
        ...

    async def compare_sums(self) -> list[Finding]:
        """Compare everything else with the books held still."""
        ...

    async def replace_images(self, cell: int, images: Mapping[str, bytes]) -> None:
        """Put newer images in place of those folded."""

    def images(self, cell: int) -> AsyncIterator[Mapping[str, bytes]]:
        """Images of the second books, some at a time."""
        ...

    async def add_held(self, cell: int, rows: Iterable[tuple[str, int, int]]) -> None:
        """Add to what holders have in a cell: balance, remaining, and what sessions hold of it."""

    async def add_owed(self, cell: int, rows: Iterable[tuple[str, int, int]]) -> None:
        """Add to what holders owe in a cell: holder, what it was charged, and what it owes as it says itself."""

    async def unequal_debts(self, cell: int) -> list[tuple[str, int, int]]:
        """Holders that owe something else than what they were charged: holder, charged, owed."""
        ...

    def unequal_balances(self) -> AsyncIterator[tuple[str, int, int]]:
        """Balances whose entries and holders disagree: balance, sum of its entries, what holders of all cells have."""
        ...

    async def held(self, cell: int, balances: Sequence[str]) -> dict[str, int]:
        """What sessions of a cell hold of balances."""
        ...

    async def forget_state(self, cell: int) -> None:
        """Forget what Valkey held."""

    async def note_state(self, cell: int, glance: Glance) -> None:
        """Keep what Valkey holds."""

    def differing_state(self, cell: int) -> AsyncIterator[StateRow]:
        """Where Valkey and images differ, and every session."""
        ...

    async def seen(self, cell: int, names: Sequence[str]) -> dict[str, int]:
        """At which sequence names were read from Valkey."""
        ...

    async def note_answers(self, cell: int, answers: Mapping[bytes, tuple[bytes, int]]) -> None:
        """Keep ids of the journal: what Valkey remembers of each, and whether it must (1) or may (0)."""

    async def check_answers(self, cell: int, answers: Mapping[bytes, bytes]) -> dict[bytes, bytes | None]:
        """Take ids of Valkey off; those that the journal does not have, or has otherwise, with what it has."""
        ...

    def unanswered(self, cell: int) -> AsyncIterator[bytes]:
        """Ids that Valkey must remember and was not asked to take off."""
        ...
