import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from services.accounts.__main__ import MIGRATIONS
from services.accounts.storage.tables import metadata
from services.runtime.database import Database


async def test_migrations_make_the_schema_that_the_code_declares(database_url):
    database = Database(database_url)
    await database.migrate(MIGRATIONS)
    await database.migrate(MIGRATIONS)

    def differences(connection: sa.Connection) -> object:
        return compare_metadata(MigrationContext.configure(connection), metadata)

    async with database.engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await database.close()
