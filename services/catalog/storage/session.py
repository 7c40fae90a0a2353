"""The open transaction that the repositories of one store share."""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.common.identity import path_text
from services.common.pages import PageRequest
from services.runtime.database import dialect_insert
from services.runtime.writes import Write

KEYS_MAX = 10_000
"""Values in one IN list; SQLite takes 32,766 parameters, asyncpg 32,767."""


@dataclass(frozen=True, slots=True)
class Session:
    """A transaction; `write` is None where it only reads."""

    connection: AsyncConnection
    write: Write | None = None

    async def rows(self, query: sa.Select[Any]) -> list[Any]:
        """Run a query."""
        return list((await self.connection.execute(query)).all())

    async def row(self, query: sa.Select[Any]) -> Any | None:
        """Run a query for at most one row."""
        return (await self.connection.execute(query)).one_or_none()

    async def run(self, statement: sa.UpdateBase, values: list[dict[str, Any]] | None = None) -> None:
        """Run a statement, for each of `values` if given."""
        if values is None:
            await self.connection.execute(statement)
        elif values:
            await self.connection.execute(statement, values)

    async def upsert(self, table: sa.Table, values: list[dict[str, Any]]) -> None:
        """Insert rows; where the primary key exists, replace the rest."""
        statement = dialect_insert(self.connection.dialect.name)(table)
        keys = [column.name for column in table.primary_key]
        rest = {c.name: statement.excluded[c.name] for c in table.columns if c.name not in keys}
        await self.run(statement.on_conflict_do_update(index_elements=keys, set_=rest), values)

    def writing(self) -> Write:
        """The write in progress."""
        if self.write is None:
            raise RuntimeError("this store was opened for reading")
        return self.write


def is_below(column: sa.ColumnElement[str], path: tuple[str, ...]) -> sa.ColumnElement[bool]:
    """Whether a row belongs to the account with this path or to one below it."""
    return column.startswith(path_text(path), autoescape=True)


def comes_after(page: PageRequest, *key: sa.Column[Any]) -> sa.ColumnElement[bool]:
    """Whether a row lies behind the page before; true for all if there is none."""
    after = page.key(*(column.type.python_type for column in key))
    if not after:
        return sa.true()
    return sa.tuple_(*key) > sa.tuple_(*map(sa.literal, after))


def path_of(text: str) -> tuple[str, ...]:
    """Read an account path from its column."""
    return tuple(text.rstrip("/").split("/"))
