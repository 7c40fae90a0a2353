"""A database without room says so, one that hangs is left; what is committed leaves SQLite's log soon."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
import sqlalchemy as sa

from services.common.errors import UnavailableError
from services.runtime.database import WRITER_LOG_PAGES, Database
from tests.postgres import EmbeddedPostgres

PAGES_MAX = 20


async def test_a_full_database_is_unavailable_and_says_what_to_do_and_goes_on_with_room(sqlite_url):
    database = Database(sqlite_url)
    pages = PAGES_MAX
    sa.event.listen(
        database.engine.sync_engine, "connect", lambda raw, _: raw.execute(f"PRAGMA max_page_count={pages}")
    )
    try:
        async with database.transaction() as connection:
            await connection.execute(sa.text("CREATE TABLE kept (content BLOB)"))
        insert = sa.text("INSERT INTO kept VALUES (zeroblob(:size))")
        with pytest.raises(UnavailableError, match="see that its disk has room") as told:
            async with database.transaction() as connection:
                await connection.execute(insert, {"size": 4096 * PAGES_MAX})
        assert told.value.reason == "DATABASE_UNAVAILABLE"
        pages = 10 * PAGES_MAX
        await database.engine.dispose()
        async with database.transaction() as connection:
            await connection.execute(insert, {"size": 4096 * PAGES_MAX})
    finally:
        await database.close()


async def test_what_is_committed_leaves_the_log_while_commits_go_on(sqlite_url):
    database = Database(sqlite_url)
    path = Path(database.engine.url.database or "")
    content, commits = 100_000, 0

    def insert(connection: sa.Connection) -> None:
        connection.execute(sa.text("INSERT INTO kept VALUES (randomblob(:size))"), {"size": content})

    try:
        async with database.transaction() as connection:
            await connection.execute(sa.text("CREATE TABLE kept (content BLOB)"))
        async with asyncio.timeout(10):
            while path.stat().st_size < 10 * content:
                await database.write(insert)
                commits += 1
                await asyncio.sleep(0.02)
        assert commits * content < WRITER_LOG_PAGES * 4096, "a commit moved it, not the other thread"
        async with database.reading() as connection:
            assert await connection.scalar(sa.text("SELECT count(*) FROM kept")) == commits
    finally:
        await database.close()


async def test_connections_that_hang_are_given_up_all_at_once(postgres_url):
    """As when the disk of their server does not answer, or a network swallows all that is sent."""
    database = Database(postgres_url, patience_s=1)
    hanging: list[int] = []

    async def hold() -> None:
        async with database.reading() as connection:
            hanging.append(await connection.scalar(sa.text("SELECT pg_backend_pid()")) or 0)
            await asyncio.sleep(0.1)

    async def hang_in_the_middle() -> None:
        async with database.transaction() as connection:
            hanging.append(await connection.scalar(sa.text("SELECT pg_backend_pid()")) or 0)
            os.kill(hanging[-1], signal.SIGSTOP)
            await connection.execute(sa.text("INSERT INTO kept VALUES (2)"))

    def insert(connection: sa.Connection) -> int:
        return connection.execute(sa.text("INSERT INTO kept VALUES (1)")).rowcount

    try:
        async with database.transaction() as connection:
            await connection.execute(sa.text("CREATE TABLE kept (number INTEGER)"))
        await asyncio.gather(*(hold() for _ in range(4)))
        assert len(set(hanging)) == 4
        for pid in set(hanging):
            os.kill(pid, signal.SIGSTOP)
        began = asyncio.get_running_loop().time()
        assert await asyncio.gather(*(database.write(insert) for _ in range(4))) == [1] * 4
        assert asyncio.get_running_loop().time() - began < 2
        with pytest.raises(UnavailableError):
            await hang_in_the_middle()
        async with database.reading() as connection:
            assert await connection.scalar(sa.text("SELECT sum(number) FROM kept")) == 4
    finally:
        for pid in set(hanging):
            os.kill(pid, signal.SIGCONT)
        await database.close()


async def test_what_may_take_long_is_not_given_up(postgres_url):
    database = Database(postgres_url, patience_s=0.2)
    slow = sa.text("SELECT pg_sleep(0.6)")
    try:
        async with database.reading(still=True) as connection:
            await connection.execute(slow)
        with pytest.raises(UnavailableError):
            async with database.reading() as connection:
                await connection.execute(slow)
    finally:
        await database.close()


async def test_who_starts_waits_for_a_database_that_is_about_to_come_back(tmp_path):
    migrations = Path("services/accounts/migrations")
    with EmbeddedPostgres() as server:
        database = Database(server.url("postgres"))
        try:
            with server.gone():
                with pytest.raises(UnavailableError):
                    await database.migrate(migrations)
                waiting = asyncio.create_task(database.migrate(migrations, wait_s=20))
                await asyncio.sleep(0.5)
                assert not waiting.done()
            await waiting
        finally:
            await database.close()
