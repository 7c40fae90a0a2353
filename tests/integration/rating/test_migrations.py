import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from services.rating.__main__ import MIGRATIONS
from services.rating.storage import tables
from services.runtime.database import Database


@pytest.mark.parametrize("name", ["journal", "ledger"])
async def test_migrations_make_the_schema_that_the_code_declares(name, database_url):
    database = Database(database_url)
    await database.migrate(MIGRATIONS / name)
    await database.migrate(MIGRATIONS / name)

    def differences(connection: sa.Connection) -> object:
        return compare_metadata(MigrationContext.configure(connection), getattr(tables, name))

    async with database.engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await database.close()
