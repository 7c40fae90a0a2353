import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from services.endpoints.__main__ import MIGRATIONS
from services.endpoints.storage.tables import metadata
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


async def test_the_schema_holds_one_active_base_plan_for_an_account(database_url):
    database = Database(database_url)
    await database.migrate(MIGRATIONS)
    insert = (
        "INSERT INTO assignment (id, plan_id, plan_version, account_id, enterprise_id, owner_path, role, state, "
        "priority, assigned_ms, version) VALUES ('{}', 'p', 1, 'a', '', 'a/', 1, 2, 0, 0, 1)"
    )
    async with database.engine.begin() as connection:
        await connection.exec_driver_sql(insert.format("one"))
    with pytest.raises(sa.exc.IntegrityError):
        async with database.engine.begin() as connection:
            await connection.exec_driver_sql(insert.format("two"))
    await database.close()
