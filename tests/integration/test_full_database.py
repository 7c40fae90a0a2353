"""A database without room says so."""

import pytest
import sqlalchemy as sa

from services.common.errors import UnavailableError
from services.runtime.database import Database

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
