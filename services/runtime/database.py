"""A service's SQL store: SQLite or PostgreSQL behind one engine, short transactions, migrations at start."""

import asyncio
import math
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakSet

import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DatabaseError, DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from services.common.errors import InternalError, UnavailableError
from services.runtime.telemetry import logger

log = logger("database")
T = TypeVar("T")

POOL_SIZE = 8
PATIENCE_SECONDS = 30.0
"""How long a service waits for a transaction on PostgreSQL."""
START_SECONDS = 20.0
"""How long a service that starts waits for its database before it ends."""
BUSY_TIMEOUT_MS = 10_000
WRITER_CACHE_KIB = 65_536
"""Of pages that SQLite's writer keeps at most; with few it reads and writes those of large indexes again and again."""
WRITER_LOG_PAGES = 4_000
"""Of SQLite's log after which a commit also moves them to their places (a checkpoint), so that the log begins anew."""
CHECKPOINT_SECONDS = 0.2
"""How often another thread does so while there are commits: then little is left for the one that must, and nobody waits
for a disk that takes long."""
_SQLITE = "sqlite"
_AWAY_STATES = ("08", "53", "57P")
"""SQLSTATE classes of PostgreSQL: no connection; out of connections, memory or disk; stopping, crashing, starting."""
_DISK_FULL_STATE = "53100"
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_NO_ROOM = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_FSYNC}


def _on_sqlite_connect(connection: Any, _: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves, below
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        "temp_store=MEMORY",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _on_sqlite_writer_connect(connection: Any, record: ConnectionPoolEntry) -> None:
    _on_sqlite_connect(connection, record)
    connection.execute(f"PRAGMA cache_size=-{WRITER_CACHE_KIB}").close()
    connection.execute(f"PRAGMA wal_autocheckpoint={WRITER_LOG_PAGES}").close()


def dialect_insert(dialect: str) -> Callable[[sa.Table], Any]:
    """The INSERT of a dialect that says what to do when a row is there already."""
    return sqlite.insert if dialect == _SQLITE else postgresql.insert


class Database:
    """An engine with the two kinds of transactions that Meterline uses.

    Args:
        url: `sqlite+aiosqlite:///path` or `postgresql+asyncpg://...`.
        patience_s: seconds that a transaction on PostgreSQL may take. After them all connections are given up and new
            ones are made: a server process that hangs, or a network that swallows what is sent, is not waited for.
            None waits.

    Attributes:
        insert: INSERT with ON CONFLICT.
    """

    def __init__(self, url: str, patience_s: float | None = None) -> None:
        parsed = sa.make_url(url)
        self.is_sqlite = parsed.get_backend_name() == _SQLITE
        self.insert = dialect_insert(parsed.get_backend_name())
        if self.is_sqlite:
            if parsed.database:
                Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            self.engine = create_async_engine(url, pool_size=POOL_SIZE)
            sa.event.listen(self.engine.sync_engine, "connect", _on_sqlite_connect)
        else:
            connect = {} if patience_s is None else {"timeout": patience_s}
            self.engine = create_async_engine(
                url, pool_size=POOL_SIZE, max_overflow=POOL_SIZE, pool_pre_ping=True, connect_args=connect
            )
            sa.event.listen(
                self.engine.sync_engine, "connect", lambda made, _: self._connections.add(made.driver_connection)
            )
        self._patience_s = None if self.is_sqlite else patience_s
        self._connections: WeakSet[Any] = WeakSet()
        self._writing: _Thread | None = None
        self._checkpointing: _Thread | None = None
        self._checkpoint_at = 0.0
        self._writer = asyncio.Lock()  # SQLite has one writer: queue here instead of polling its lock

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that writes; commits at the end, rolls back on an error."""
        if not self.is_sqlite:
            async with self._translated(), self._patiently(), self.engine.begin() as connection:
                yield connection
            return
        async with self._writer, self._translated(), self.engine.connect() as connection:
            await connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection  # an error leaves through connect(), which rolls back
            await connection.commit()

    async def write(self, work: Callable[[sa.Connection], T]) -> T:
        """Run a transaction that writes, given as one function; commits at its end, rolls back on an error.

        On SQLite it runs in a thread of its own, one hop for all of its statements: for writes that must be quick.
        """
        if not self.is_sqlite:
            async with self.transaction() as connection:
                return await connection.run_sync(work)

        def transact(connection: sa.Connection) -> T:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            result = work(connection)
            connection.commit()
            return result

        return await self._in_writer(lambda thread: thread.run(transact))

    async def write_at_once(self, statement: str, values: Sequence[Any]) -> int:
        """Run one statement of SQLite, a transaction by itself; return how many rows it wrote.

        After each statement the writer's thread waits until another one lets go of Python: one is durable much sooner
        than four.
        """
        return await self._in_writer(lambda thread: thread.execute(statement, values))

    async def _in_writer(self, work: Callable[["_Thread"], Future[T]]) -> T:
        if self._writing is None or self._checkpointing is None:
            self._writing = _Thread(self.engine.url, "sqlite-writer")
            self._checkpointing = _Thread(self.engine.url, "sqlite-checkpoint")
        async with self._writer, self._translated():
            result = await asyncio.shield(asyncio.wrap_future(work(self._writing)))
        if time.monotonic() >= self._checkpoint_at:
            self._checkpoint_at = math.inf
            self._checkpointing.run(_checkpoint).add_done_callback(self._checkpointed)
        return result

    def _checkpointed(self, done: Future[None]) -> None:
        self._checkpoint_at = time.monotonic() + CHECKPOINT_SECONDS
        if error := done.exception():  # the next one tries again; a commit for which there is no room says so itself
            log.warning("checkpoint failed", database=self.engine.url.database, error=str(error))

    @asynccontextmanager
    async def reading(self, *, still: bool = False) -> AsyncIterator[AsyncConnection]:
        """A transaction that only reads; with `still`, all of its statements see one moment (as SQLite's always do).

        One that is `still` may take as long as it takes.
        """
        engine = self.engine
        if still and not self.is_sqlite:
            engine = engine.execution_options(isolation_level="REPEATABLE READ")
        patience = nullcontext() if still else self._patiently()
        async with self._translated(), patience, engine.connect() as connection:
            if self.is_sqlite:
                await connection.exec_driver_sql("BEGIN")
            yield connection

    async def ping(self) -> None:
        """Ask it something, or raise UNAVAILABLE."""
        async with self.reading() as connection:
            await connection.execute(sa.select(1))

    async def migrate(self, folder: Path, wait_s: float = 0) -> None:
        """Bring the schema to the newest migration in `folder` (an alembic folder with `versions/`).

        Waits `wait_s` seconds for a database that does not answer: one that starts again is soon back.
        """
        last_try = time.monotonic() + wait_s
        while True:
            try:
                await self._migrate(folder)
            except UnavailableError as error:
                if time.monotonic() > last_try:
                    raise
                log.warning("waiting for the database", database=self.engine.url.database, error=error.message)
                await asyncio.sleep(1)
            else:
                return

    async def _migrate(self, folder: Path) -> None:
        config = Config()
        config.set_main_option("script_location", str(folder))
        scripts = ScriptDirectory.from_config(config)

        def upgrade(connection: sa.Connection) -> None:
            def steps(revision: Any, _: Any) -> Any:
                return scripts._upgrade_revs("head", revision)  # noqa: SLF001 - what alembic's own command calls

            with EnvironmentContext(config, scripts, fn=steps) as environment:
                environment.configure(connection=connection, transactional_ddl=False)
                environment.run_migrations()

        transaction: AbstractAsyncContextManager[AsyncConnection]
        if self.is_sqlite:
            await self._settle_journal_mode()
            transaction = self.transaction()
        else:
            transaction = self.engine.begin()  # it takes as long as it takes
        async with self._translated(), transaction as connection:
            if not self.is_sqlite:  # two processes that start at once migrate one after the other
                await connection.execute(sa.text("SELECT pg_advisory_xact_lock(7011)"))
            await connection.run_sync(upgrade)

    async def _settle_journal_mode(self) -> None:
        """Connect once. Where two processes make the same file, SQLite does not wait for a lock to switch to WAL."""
        last_try = time.monotonic() + BUSY_TIMEOUT_MS / 1000
        while True:
            try:
                async with self.engine.connect():
                    return
            except DatabaseError as error:
                self._require_sound(error)
                if not isinstance(error, OperationalError):
                    raise
                if time.monotonic() > last_try:
                    raise away() from error
                await asyncio.sleep(0.02)

    @asynccontextmanager
    async def _patiently(self) -> AsyncIterator[None]:
        """Give up all connections if this takes too long: those that wait for one fail, and take another next time."""
        if self._patience_s is None:
            yield
            return
        watch = asyncio.get_running_loop().call_later(self._patience_s, self._give_up)
        try:
            yield
        finally:
            watch.cancel()

    def _give_up(self) -> None:
        log.warning("database hangs", database=self.engine.url.database, seconds=self._patience_s)
        for connection in list(self._connections):
            connection.terminate()

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        """Say UNAVAILABLE where the database is away; a broken rule of the schema stays what it is."""
        try:
            yield
        except (TimeoutError, OperationalError, OSError) as error:
            self._require_sound(error)
            raise away(error) from error
        except DBAPIError as error:
            self._require_sound(error)
            state = getattr(error.orig, "sqlstate", None) or ""
            if error.connection_invalidated or state.startswith(_AWAY_STATES):
                raise away(error) from error
            raise

    def _require_sound(self, error: Exception) -> None:
        """Say DATABASE_DAMAGED where that is what an error says."""
        cause = getattr(error, "orig", None)
        if getattr(cause, "sqlite_errorcode", 0) in _DAMAGED:
            raise InternalError(
                "DATABASE_DAMAGED",
                f"The database {self.engine.url.database} is damaged ({cause}). Stop what uses it and restore it: "
                "docs/operations.md says from what.",
            ) from error

    async def close(self) -> None:
        """Close all connections."""
        for thread in (self._checkpointing, self._writing):
            if thread is not None:
                thread.close()
        await self.engine.dispose()


def _checkpoint(connection: sa.Connection) -> None:
    connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)").close()  # waits for nobody, and nobody for it


class _Thread:
    """A thread with a connection of its own to an SQLite file."""

    def __init__(self, url: sa.URL, name: str) -> None:
        self._executor = ThreadPoolExecutor(1, name)
        self._engine = sa.create_engine(url.set(drivername=_SQLITE), poolclass=sa.StaticPool)
        sa.event.listen(self._engine, "connect", _on_sqlite_writer_connect)

    def run(self, work: Callable[[sa.Connection], T]) -> Future[T]:
        """Run a function with the connection."""

        def with_connection() -> T:
            with self._engine.connect() as connection:
                return work(connection)

        return self._executor.submit(with_connection)

    def execute(self, statement: str, values: Sequence[Any]) -> Future[int]:
        """Run one statement; how many rows it wrote.

        By the driver itself: what SQLAlchemy does around a statement takes as long as SQLite's own part.
        """

        def with_driver() -> int:
            connection = self._engine.raw_connection()
            try:
                return int(connection.cursor().execute(statement, values).rowcount)
            except sqlite3.Error as error:
                raise DBAPIError.instance(statement, None, error, sqlite3.Error) from error
            finally:
                connection.close()

        return self._executor.submit(with_driver)

    def close(self) -> None:
        """Finish what was begun, and close the connection."""
        self._executor.submit(self._engine.dispose).result()
        self._executor.shutdown()


class Prepared:
    """A statement whose text is made once: putting it together would cost more than running it.

    Args:
        database: in whose dialect.
        statement: an INSERT, whose rows have the columns of its table; or another one.
        names: of its parameters, in the order in which rows give them; those of the table if not stated.
    """

    def __init__(self, database: Database, statement: Any, names: Sequence[str] = ()) -> None:
        names = names or [column.name for column in statement.table.columns]
        keys = {"column_keys": names} if statement.is_insert else {}
        compiled = statement.compile(dialect=database.engine.dialect, **keys)
        order = tuple(names.index(name) for name in compiled.positiontup)
        self._text = str(compiled)
        self._order = order if order != tuple(range(len(names))) else None

    def __call__(self, connection: sa.Connection, rows: Sequence[tuple[Any, ...]]) -> sa.CursorResult[Any]:
        """Run it once for each row."""
        if self._order is not None:
            rows = [tuple(row[place] for place in self._order) for row in rows]
        return connection.exec_driver_sql(self._text, list(rows))


def away(error: Exception | None = None) -> UnavailableError:
    """The error for a database that does not answer, or has no room to write."""
    cause = getattr(error, "orig", None)
    full = getattr(cause, "sqlstate", "") == _DISK_FULL_STATE or getattr(cause, "sqlite_errorcode", 0) in _NO_ROOM
    what = "cannot write; see that its disk has room" if full else "does not answer; try again"
    return UnavailableError("DATABASE_UNAVAILABLE", f"The database {what}.", retry_after_ms=1000)
