"""A database without room says so; what is committed leaves SQLite's log soon."""

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa

from services.common.errors import UnavailableError
from services.runtime.database import WRITER_LOG_PAGES, Database

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
