"""All repositories over one transaction."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.accounts.storage.accounts import SqlAccounts
from services.accounts.storage.companies import SqlCompanies
from services.accounts.storage.keys import SqlKeys
from services.runtime.database import Database
from services.runtime.writes import Write

_INSTALLATION_LOCK = 7031


class SqlStore:
    """Accounts, companies and keys in one transaction."""

    def __init__(self, connection: AsyncConnection, write: Write | None = None) -> None:
        self._connection = connection
        self.accounts = SqlAccounts(connection, write)
        self.companies = SqlCompanies(connection, write)
        self.keys = SqlKeys(connection, write)

    async def lock_installation(self) -> None:
        """Let no other process set the installation up until the write ends."""
        if self._connection.dialect.name != "sqlite":  # a write on SQLite is alone anyway
            await self._connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_INSTALLATION_LOCK)))


class SqlStores:
    """Opens stores on a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def writing(self, write: Write) -> SqlStore:
        """The store in a write."""
        return SqlStore(write.connection, write)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[SqlStore]:
        """The store in a transaction that only reads."""
        async with self._database.reading() as connection:
            yield SqlStore(connection)
