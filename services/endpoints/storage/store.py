"""All repositories over one transaction."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.endpoints.storage.assignments import SqlAssignments
from services.endpoints.storage.endpoints import SqlEndpoints
from services.endpoints.storage.sims import SqlSims
from services.endpoints.storage.tables import runtime
from services.runtime.database import Database
from services.runtime.writes import Write


class SqlStore:
    """SIMs, endpoints and assignments in one transaction."""

    def __init__(self, connection: AsyncConnection, write: Write | None = None) -> None:
        self.sims = SqlSims(connection, write)
        self.endpoints = SqlEndpoints(connection, write)
        self.assignments = SqlAssignments(connection, write)


def writing(write: Write) -> SqlStore:
    """The store in a write."""
    return SqlStore(write.connection, write)


async def newest_for_charging(database: Database) -> int:
    """Cursor of the newest change of an endpoint's or account's charging context; 0 if there is none."""
    changes = runtime.changes.c
    query = sa.select(changes.cursor).where(changes.resource_type.in_(("endpoint", "account")))
    async with database.reading() as connection:
        return await connection.scalar(query.order_by(changes.cursor.desc()).limit(1)) or 0


@asynccontextmanager
async def reading(database: Database) -> AsyncIterator[SqlStore]:
    """The store in a transaction that only reads."""
    async with database.reading() as connection:
        yield SqlStore(connection)
