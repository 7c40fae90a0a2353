"""The journal: decided segments, each committed once, in order and without gaps, before anybody is told."""

import zlib
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from functools import cache
from itertools import chain
from typing import Any

import sqlalchemy as sa

from services.common.errors import FailedPreconditionError, InternalError
from services.rating.domain.decisions import Segment, SegmentContent, StateLostError, closed
from services.rating.domain.programs import Program
from services.rating.storage.tables import cells, programs, segments
from services.runtime.database import Database, Prepared

READ_MAX = 200


def checksum(segment: Segment) -> int:
    """CRC-32 over all of a segment."""
    value = zlib.crc32(f"{segment.sequence} {segment.decided_ms} ".encode())
    for part in (segment.records, segment.outcomes, segment.images):
        value = zlib.crc32(part, value)
    return value


def corrupt(cell: int, sequence: int) -> InternalError:
    """The error for a segment whose checksum does not hold."""
    return InternalError(
        "JOURNAL_CORRUPT",
        f"Segment {sequence} of cell {cell} in the journal does not match its checksum. Nothing after it is folded. "
        "Restore it from a replica or backup of the journal.",
        metadata={"cell": str(cell), "sequence": str(sequence)},
    )


def elsewhere(cell: int, sequence: int, archived: int) -> FailedPreconditionError:
    """The error for a segment that was moved to an archive that is not at hand."""
    return FailedPreconditionError(
        "JOURNAL_ARCHIVED",
        f"Segment {sequence} of cell {cell} is not in the journal any more: those up to {archived} were moved to "
        "archives, and none that was named has it. What is remembered of it in the books still counts; to read it, "
        "`meterline verify` and `meterline rebuild` take --archive.",
        metadata={"cell": str(cell), "sequence": str(sequence)},
    )


class Journal:
    """Reads and appends segments.

    Args:
        database: where it is.
        read_segment: unpacks a segment.
        archives: databases to which its first segments were moved; those that are at hand.
    """

    def __init__(
        self,
        database: Database,
        read_segment: Callable[[Segment], SegmentContent],
        archives: Sequence[Database] = (),
    ) -> None:
        self.database = database
        self._archives = archives
        fence = sa.select(cells.c.epoch).where(cells.c.cell == sa.bindparam("cell"))
        if not database.is_sqlite:
            fence = fence.with_for_update(read=True)
        self._fence = Prepared(database, fence, ["cell"])
        self._insert = Prepared(database, database.insert(segments).on_conflict_do_nothing())
        self._read_segment = read_segment
        self._known_programs: set[str] = set()

    async def ping(self) -> None:
        """Ask whether it takes what is decided, or raise UNAVAILABLE."""
        if self.database.is_sqlite:
            await self.database.write(_touch)
        else:
            await self.database.ping()

    async def settle_cells(self, count: int) -> None:
        """Make the cells of a new installation, or see that they are the ones it was made with.

        Raises:
            FailedPreconditionError: CELLS_CHANGED.
        """
        async with self.database.transaction() as connection:
            if not self.database.is_sqlite:  # two processes that start at once settle it one after the other
                await connection.execute(sa.text("SELECT pg_advisory_xact_lock(7012)"))
            made = await connection.scalar(sa.select(sa.func.count()).select_from(cells)) or 0
            if made == 0:
                rows = [{"cell": cell, "epoch": 0} for cell in range(count)]
                await connection.execute(sa.insert(cells), rows)
            elif made != count:
                raise FailedPreconditionError(
                    "CELLS_CHANGED",
                    f"This installation was made with {made} cells and is told to run with {count}. Where an "
                    f"enterprise lives depends on it: set METERLINE_RATING_CELLS={made}, or begin a new journal.",
                )

    async def epoch(self, cell: int) -> int:
        """Epoch of a cell; 0 if it was never opened."""
        async with self.database.reading() as connection:
            return await connection.scalar(sa.select(cells.c.epoch).where(cells.c.cell == cell)) or 0

    async def raise_epoch(self, cell: int, from_epoch: int) -> bool:
        """Begin the epoch after `from_epoch`; False if somebody else did."""
        async with self.database.transaction() as connection:
            await connection.execute(self.database.insert(cells).values(cell=cell, epoch=0).on_conflict_do_nothing())
            raised = await connection.execute(
                sa.update(cells).where(cells.c.cell == cell, cells.c.epoch == from_epoch).values(epoch=from_epoch + 1)
            )
            return raised.rowcount == 1

    async def last_sequence(self, cell: int) -> int:
        """Sequence of the last segment; 0 if there is none."""
        query = sa.select(sa.func.max(segments.c.sequence)).where(segments.c.cell == cell)
        async with self.database.reading() as connection:
            return await connection.scalar(query) or 0

    async def append(self, cell: int, epoch: int, decided: Sequence[Segment]) -> None:
        """Commit segments. One that is there already, the same, is a success.

        Raises:
            CellClosedError: the epoch is over, or another segment has the number: these decisions do not count.
        """
        rows = [(cell, s.sequence, epoch, s.decided_ms, s.records, s.outcomes, s.images, checksum(s)) for s in decided]
        if self.database.is_sqlite:
            values = [*chain.from_iterable(rows), cell, epoch]
            if await self.database.write_at_once(_fenced_insert(len(rows)), values) == len(rows):
                return
        await self.database.write(lambda connection: self._append(connection, cell, epoch, decided, rows))

    def _append(
        self, connection: sa.Connection, cell: int, epoch: int, decided: Sequence[Segment], rows: Sequence[Any]
    ) -> None:
        if self._fence(connection, [(cell,)]).scalar() != epoch:
            raise closed("a new epoch began")
        if self._insert(connection, rows).rowcount != len(rows):
            _require_same(connection, cell, decided)

    async def read(self, cell: int, after: int, limit: int = READ_MAX) -> list[Segment]:
        """Read the segments after a sequence, in order, up to one that is damaged.

        Raises:
            InternalError: JOURNAL_CORRUPT, if the first does not match its checksum.
            FailedPreconditionError: JOURNAL_ARCHIVED.
        """
        rows = await self.rows(cell, after, limit)
        found: list[Segment] = []
        for row in rows:
            segment = _sound(row)
            if segment is None:
                break
            found.append(segment)
        if rows and not found:
            raise corrupt(cell, rows[0].sequence)
        return found

    async def rows(self, cell: int, after: int, limit: int) -> Sequence[sa.Row[Any]]:
        """Segments after a sequence as they lie there, sound or not: in the journal, or in an archive.

        Raises:
            FailedPreconditionError: JOURNAL_ARCHIVED.
        """
        query = (
            sa.select(segments)
            .where(segments.c.cell == cell, segments.c.sequence > after)
            .order_by(segments.c.sequence)
            .limit(limit)
        )
        found = await _all(self.database, query)
        if not found or found[0].sequence == after + 1 or after >= (archived := await self.archived(cell)):
            return found
        for archive in self._archives:
            there = await _all(archive, query)
            if there and there[0].sequence == after + 1:
                return there
        raise elsewhere(cell, after + 1, archived)

    async def archived(self, cell: int) -> int:
        """The last segment that was moved to an archive; 0 if none was."""
        async with self.database.reading() as connection:
            return await connection.scalar(sa.select(cells.c.archived).where(cells.c.cell == cell)) or 0

    async def drop(self, cell: int, upto: int) -> None:
        """Delete the segments up to a sequence, and remember that they are in an archive."""
        mark = sa.update(cells).where(cells.c.cell == cell, cells.c.archived < upto).values(archived=upto)
        async with self.database.transaction() as connection:
            await connection.execute(mark)
            await connection.execute(sa.delete(segments).where(segments.c.cell == cell, segments.c.sequence <= upto))

    async def read_all(self, cell: int, after: int) -> AsyncGenerator[Segment, None]:
        """Yield all segments after a sequence, in order."""
        while batch := await self.read(cell, after):
            for segment in batch:
                yield segment
            after = batch[-1].sequence

    async def get(self, cell: int, sequences: Iterable[int]) -> dict[int, Segment]:
        """Read segments by their sequences; those that never were are left out.

        Raises:
            InternalError: JOURNAL_CORRUPT.
            FailedPreconditionError: JOURNAL_ARCHIVED.
        """
        missing = set(sequences)
        found: dict[int, Segment] = {}
        for database in (self.database, *self._archives):
            query = sa.select(segments).where(segments.c.cell == cell, segments.c.sequence.in_(missing))
            found |= {row.sequence: _checked(cell, row) for row in await _all(database, query)}
            missing -= found.keys()
            if not missing:
                return found
        if min(missing) <= (archived := await self.archived(cell)):
            raise elsewhere(cell, min(missing), archived)
        return found

    def content(self, segment: Segment) -> SegmentContent:
        """What a segment says."""
        return self._read_segment(segment)

    async def keep_programs(self, new: Iterable[Program]) -> None:
        """Keep programs so that what they decide can be explained; those known to be kept are skipped."""
        unknown = {program.id: program for program in new if program.id not in self._known_programs}
        if not unknown:
            return
        rows = [{"id": program.id, "body": program.body()} for program in unknown.values()]
        async with self.database.transaction() as connection:
            await connection.execute(self.database.insert(programs).on_conflict_do_nothing(), rows)
        self._known_programs.update(unknown)

    async def programs(self, ids: Iterable[str]) -> dict[str, str]:
        """Read the bodies of kept programs."""
        query = sa.select(programs.c.id, programs.c.body).where(programs.c.id.in_(list(ids)))
        async with self.database.reading() as connection:
            return dict((await connection.execute(query)).all())


async def _all(database: Database, query: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
    async with database.reading() as connection:
        rows: Sequence[sa.Row[Any]] = (await connection.execute(query)).all()
        return rows


def _touch(connection: sa.Connection) -> None:
    """Write something that changes nothing: a full disk or another's lock lets one read all the same."""
    number = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    connection.exec_driver_sql(f"PRAGMA user_version = {number}")


@cache
def _fenced_insert(rows: int) -> str:
    """SQLite's INSERT of some segments that are not there yet, if the epoch is still theirs."""
    row = f"({', '.join('?' * len(segments.c))})"
    columns, values = ", ".join(segments.c.keys()), ", ".join([row] * rows)
    fence = f"(SELECT epoch FROM {cells.name} WHERE cell = ?) = ?"  # noqa: S608 - names of our own
    return (
        f"INSERT INTO {segments.name} ({columns}) SELECT * FROM (VALUES {values}) "  # noqa: S608
        f"WHERE {fence} ON CONFLICT DO NOTHING"
    )


def _require_same(connection: sa.Connection, cell: int, decided: Sequence[Segment]) -> None:
    numbers = [segment.sequence for segment in decided]
    query = sa.select(segments.c.sequence, segments.c.checksum).where(
        segments.c.cell == cell, segments.c.sequence.in_(numbers)
    )
    there = dict(connection.execute(query).all())
    if any(there.get(segment.sequence) != checksum(segment) for segment in decided):
        raise closed("the balance store holds old data", StateLostError)


def _sound(row: Any) -> Segment | None:
    segment = Segment(row.sequence, row.decided_ms, row.records, row.outcomes, row.images)
    return segment if checksum(segment) == row.checksum else None


def _checked(cell: int, row: Any) -> Segment:
    segment = _sound(row)
    if segment is None:
        raise corrupt(cell, row.sequence)
    return segment
