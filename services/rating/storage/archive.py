"""Archives: files to which old segments of the journal are moved, so that the journal does not grow for ever."""

from pathlib import Path

import sqlalchemy as sa

from services.common.errors import FailedPreconditionError, NotFoundError
from services.rating.storage.tables import segments
from services.runtime.database import Database


def archive_at(file: Path) -> Database:
    """The archive that is in a file.

    Raises:
        NotFoundError: ARCHIVE_NOT_FOUND.
    """
    if not file.is_file():
        raise NotFoundError("ARCHIVE_NOT_FOUND", f"There is no archive {file}.")
    return _database(file)


def _database(file: Path) -> Database:
    """A file of SQLite, with the journal's table of segments."""
    return Database(f"sqlite+aiosqlite:///{file}")


class Archive:
    """Takes over what a journal wants to be rid of.

    Args:
        journal: the journal's database.
        file: the archive, made if it is not there.
    """

    def __init__(self, journal: Database, file: Path) -> None:
        self._journal = journal
        self._file = _database(file)

    async def prepare(self) -> None:
        """Make the file, if it is not there.

        Raises:
            FailedPreconditionError: ARCHIVE_MISFIT: it is something else, for example the journal itself.
        """
        async with self._file.transaction() as connection:
            tables = await connection.run_sync(lambda file: set(sa.inspect(file).get_table_names()))
            if tables - {segments.name}:
                raise FailedPreconditionError(
                    "ARCHIVE_MISFIT", f"{self._file.engine.url.database} is another database. Take a new file."
                )
            await connection.run_sync(segments.create, checkfirst=True)

    async def keep(self, cell: int, first: int, last: int) -> None:
        """Commit copies of segments, and see that they can be read again. Those that are there already stay.

        Raises:
            FailedPreconditionError: ARCHIVE_DIFFERS: it has other segments of these numbers.
        """
        query = (
            sa.select(segments)
            .where(segments.c.cell == cell, segments.c.sequence.between(first, last))
            .order_by(segments.c.sequence)
        )
        async with self._journal.reading() as connection:
            rows = [row._asdict() for row in await connection.execute(query)]
        async with self._file.transaction() as connection:
            await connection.execute(self._file.insert(segments).on_conflict_do_nothing(), rows)
        async with self._file.reading() as connection:
            there = [row._asdict() for row in await connection.execute(query)]
        if there != rows:
            raise FailedPreconditionError(
                "ARCHIVE_DIFFERS",
                f"The archive has other segments {first} to {last} of cell {cell} than the journal: it is another "
                "installation's, or damaged. They were not moved. Take a new file.",
            )

    async def close(self) -> None:
        """Close the file; without a log beside it if nobody else has it open."""
        await self._file.close()
