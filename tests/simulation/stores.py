"""Journal and ledger in memory, with the promises of their tables: a write happens whole or not at all, the epoch
fences, the cursor moves once. What a process calls satisfies the ports; it goes through the network."""

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from typing import Any, TypeVar

from services.common.errors import AbortedError, UnavailableError
from services.rating.domain.decisions import Segment, SegmentContent, StateLostError, closed
from services.rating.domain.programs import Program
from services.rating.domain.records import Position
from services.rating.engine.records import read_segment
from services.rating.ports import AnsweredId, Cursor, Sheet, Standing
from tests.simulation.network import LostError, Network, RefusedError, Server

T = TypeVar("T")

TIMEOUT_S = 5.0
READ_MAX = 4


class JournalStore(Server):
    """The tables of the journal."""

    def __init__(self) -> None:
        super().__init__("journal")
        self.epochs: dict[int, int] = {}
        self.segments: dict[int, dict[int, Segment]] = {}
        self.programs: dict[str, str] = {}

    def raise_epoch(self, cell: int, from_epoch: int) -> bool:
        if self.epochs.setdefault(cell, 0) != from_epoch:
            return False
        self.epochs[cell] += 1
        return True

    def append(self, cell: int, epoch: int, decided: Sequence[Segment]) -> None:
        """All or nothing, only in the present epoch; one that is there, the same, is a success."""
        if self.epochs.get(cell) != epoch:
            raise closed("a new epoch began")
        there = self.segments.setdefault(cell, {})
        if any(there.get(segment.sequence, segment) != segment for segment in decided):
            raise closed("the balance store holds old data", StateLostError)
        there.update({segment.sequence: segment for segment in decided})

    def last_sequence(self, cell: int) -> int:
        return max(self.segments.get(cell, {}), default=0)

    def get(self, cell: int, sequences: Sequence[int]) -> dict[int, Segment]:
        there = self.segments.get(cell, {})
        return {number: there[number] for number in sequences if number in there}

    def read(self, cell: int, after: int, limit: int) -> list[Segment]:
        there = self.segments.get(cell, {})
        return [there[number] for number in sorted(there) if number > after][:limit]


class LedgerStore(Server):
    """The tables of the ledger."""

    def __init__(self) -> None:
        super().__init__("ledger")
        self.cursors: dict[int, Cursor] = {}
        self.sheet = Sheet()
        """All that was posted."""

    def post(self, cell: int, cursor: Cursor, last: Segment, sheet: Sheet) -> None:
        """Add a sheet and move the cursor, if nobody else did."""
        if self.cursors.get(cell, Cursor(0, 0)).sequence != cursor.sequence:
            raise AbortedError("FOLD_OVERTAKEN", "Another process folds this cell; it is further.")
        self.cursors[cell] = Cursor(last.sequence, last.decided_ms)
        books = self.sheet
        books.usage += sheet.usage
        books.entries += sheet.entries
        books.audit += sheet.audit
        books.requests += sheet.requests
        books.images.update(sheet.images)
        for sums, added in ((books.totals, sheet.totals), (books.refusals, sheet.refusals)):
            for key, numbers in added.items():
                before = sums.get(key, [0] * len(numbers))
                sums[key] = [a + b for a, b in zip(before, numbers, strict=True)]
        for name, (holder, change) in sheet.balances.items():
            books.balances[name] = (holder, books.balances.get(name, (holder, 0))[1] + change)

    def standing(self, cell: int, since_ms: int) -> Standing:
        sequence = self.cursors.get(cell, Cursor(0, 0)).sequence
        return Standing(sequence, dict(self.sheet.images), self._recent_ids(since_ms))

    def _recent_ids(self, since_ms: int) -> list[AnsweredId]:
        used = [
            AnsweredId(
                row.used.id_digest, row.used.body_digest, row.position.sequence, row.used.operation, row.decided_ms
            )
            for row in self.sheet.usage
            if row.decided_ms >= since_ms
        ]
        asked = [
            AnsweredId(digest, body, sequence, operation, decided_ms)
            for digest, body, _, sequence, operation, _, decided_ms in self.sheet.requests
            if decided_ms >= since_ms
        ]
        return used + asked

    def answered_request(self, digest: bytes) -> tuple[bytes, int] | None:
        return next(((row[1], row[5]) for row in self.sheet.requests if row[0] == digest), None)

    def answered_at(self, digest: bytes) -> tuple[bytes, int, int] | None:
        return next(((row[1], row[3], row[4]) for row in self.sheet.requests if row[0] == digest), None)

    def outcomes(self, digests: Sequence[bytes]) -> dict[bytes, tuple[Position, bytes, list[Any]]]:
        rows = {row.used.id_digest: row for row in self.sheet.usage}
        return {
            digest: (rows[digest].position, rows[digest].used.body_digest, rows[digest].used.outcome)
            for digest in digests
            if digest in rows
        }


class SimulatedStore:
    """What a process has of a store."""

    def __init__(self, network: Network, server: Server) -> None:
        self._network = network
        self._server = server

    async def _ask(self, name: str, happen: Callable[[], T]) -> T:
        try:
            return await self._network.call(self._server, name, happen, TIMEOUT_S)
        except (LostError, RefusedError) as error:
            raise UnavailableError("DATABASE_UNAVAILABLE", "The database does not answer; try again.") from error


class SimulatedJournal(SimulatedStore):
    """The journal as a process has it."""

    def __init__(self, network: Network, store: JournalStore) -> None:
        super().__init__(network, store)
        self._store = store
        self._known_programs: set[str] = set()

    async def epoch(self, cell: int) -> int:
        return await self._ask("epoch", lambda: self._store.epochs.get(cell, 0))

    async def raise_epoch(self, cell: int, from_epoch: int) -> bool:
        return await self._ask(f"raise epoch from {from_epoch}", lambda: self._store.raise_epoch(cell, from_epoch))

    async def last_sequence(self, cell: int) -> int:
        return await self._ask("last sequence", lambda: self._store.last_sequence(cell))

    async def append(self, cell: int, epoch: int, decided: Sequence[Segment]) -> None:
        name = f"append {[segment.sequence for segment in decided]} in epoch {epoch}"
        await self._ask(name, lambda: self._store.append(cell, epoch, decided))

    async def read(self, cell: int, after: int, limit: int = READ_MAX) -> list[Segment]:
        return await self._ask(f"read after {after}", lambda: self._store.read(cell, after, limit))

    async def read_all(self, cell: int, after: int) -> AsyncGenerator[Segment, None]:
        while batch := await self.read(cell, after):
            for segment in batch:
                yield segment
            after = batch[-1].sequence

    async def get(self, cell: int, sequences: Iterable[int]) -> dict[int, Segment]:
        wanted = sorted(sequences)
        return await self._ask(f"get {wanted}", lambda: self._store.get(cell, wanted))

    async def keep_programs(self, new: Iterable[Program]) -> None:
        unknown = {program.id: program for program in new if program.id not in self._known_programs}
        if not unknown:
            return
        bodies = {name: program.body() for name, program in unknown.items()}
        await self._ask("keep programs", lambda: self._store.programs.update(bodies))
        self._known_programs.update(unknown)

    async def programs(self, ids: Iterable[str]) -> dict[str, str]:
        wanted = sorted(ids)
        return await self._ask("programs", lambda: {name: self._store.programs[name] for name in wanted})

    def content(self, segment: Segment) -> SegmentContent:
        return read_segment(segment)


class SimulatedLedger(SimulatedStore):
    """The ledger as a process has it."""

    def __init__(self, network: Network, store: LedgerStore) -> None:
        super().__init__(network, store)
        self._store = store

    async def cursor(self, cell: int) -> Cursor:
        return await self._ask("cursor", lambda: self._store.cursors.get(cell, Cursor(0, 0)))

    async def post(self, cell: int, cursor: Cursor, last: Segment, sheet: Sheet) -> None:
        name = f"post after {cursor.sequence} to {last.sequence}"
        await self._ask(name, lambda: self._store.post(cell, cursor, last, sheet))

    async def standing(self, cell: int, since_ms: int) -> AsyncGenerator[Standing, None]:
        yield await self._ask("standing", lambda: self._store.standing(cell, since_ms))

    async def answered_request(self, digest: bytes) -> tuple[bytes, int] | None:
        return await self._ask("answered request", lambda: self._store.answered_request(digest))

    async def answered_at(self, digest: bytes) -> tuple[bytes, int, int] | None:
        return await self._ask("answered at", lambda: self._store.answered_at(digest))

    async def holder_of(self, balance_id: str) -> str | None:
        return await self._ask("holder of", lambda: self._store.sheet.balances.get(balance_id, (None, 0))[0])

    async def outcomes(self, digests: Sequence[bytes]) -> dict[bytes, tuple[Position, bytes, list[Any]]]:
        return await self._ask("outcomes", lambda: self._store.outcomes(digests))
