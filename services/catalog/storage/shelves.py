"""Shelves: the stored objects of a noun, with the columns that all of them have."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from pydantic import TypeAdapter

from services.catalog.domain.items import Item
from services.catalog.ports import ListFilter
from services.catalog.storage.session import KEYS_MAX, Session, comes_after, is_below, path_of
from services.common.identity import path_text
from services.common.pages import Page, PageRequest, page_of

T = TypeVar("T", bound=Item)

_IN_COLUMNS = frozenset(field.name for field in fields(Item))


class ItemRows(Generic[T]):
    """Writes objects of a type as rows and reads them back.

    Args:
        item_type: the dataclass.
        columns: names of its fields that have columns besides those of every item; the others go to `detail`.
    """

    def __init__(self, item_type: type[T], *columns: str) -> None:
        self._json = TypeAdapter(item_type)
        self._columns = columns
        self._excluded = _IN_COLUMNS.union(columns)

    def detail(self, item: T) -> Any:
        """What of an object has no column of its own."""
        return self._json.dump_python(item, mode="json", exclude=set(self._excluded))

    def item(self, row: Any) -> T:
        """Read an object."""
        values: Mapping[str, Any] = row._mapping  # noqa: SLF001 - the public name of a row's columns
        own = {name: values[name] for name in (*_IN_COLUMNS, *self._columns) if name != "owner_path"}
        return self._json.validate_python({**row.detail, **own, "owner_path": path_of(row.owner_path)})


class SqlShelf(Generic[T]):
    """The objects of a noun in one table."""

    def __init__(self, session: Session, kind: str, table: sa.Table, rows: ItemRows[T]) -> None:
        self._session = session
        self._kind = kind
        self._table = table
        self._rows = rows

    @property
    def kind(self) -> str:
        """The noun."""
        return self._kind

    def _select(self) -> sa.Select[Any]:
        return sa.select(self._table)

    async def _items(self, rows: Iterable[Any]) -> list[T]:
        return [self._rows.item(row) for row in rows]

    async def find(self, object_id: str) -> T | None:
        """Return an object, if it exists."""
        return (await self.find_many([object_id])).get(object_id)

    async def find_many(self, object_ids: Iterable[str]) -> dict[str, T]:
        """Return those of the objects that exist."""
        wanted, found = sorted(set(object_ids)), {}
        for start in range(0, len(wanted), KEYS_MAX):
            query = self._select().where(self._table.c.id.in_(wanted[start : start + KEYS_MAX]))
            found.update({item.id: item for item in await self._items(await self._session.rows(query))})
        return found

    async def find_managed(self, account_id: str) -> list[T]:
        """Return the system-managed objects of an account."""
        mine = self._table.c.account_id == account_id
        query = self._select().where(mine, self._table.c.system_managed).order_by(self._table.c.name)
        return await self._items(await self._session.rows(query))

    async def below(self, path: tuple[str, ...]) -> list[T]:
        """Return the objects of an account and of all accounts below it."""
        query = self._select().where(is_below(self._table.c.owner_path, path))
        return await self._items(await self._session.rows(query))

    def _visible(self, which: ListFilter) -> sa.Select[Any]:
        query = self._select().where(is_below(self._table.c.owner_path, which.below))
        return query.where(self._table.c.account_id == which.account_id) if which.account_id else query

    async def page(self, which: ListFilter, page: PageRequest) -> Page[T]:
        """Return a page of objects, oldest first."""
        key = (self._table.c.created_ms, self._table.c.id)
        query = self._visible(which).order_by(*key).limit(page.size + 1)
        query = query.where(comes_after(page, *key))
        found = page_of(await self._session.rows(query), page, "created_ms", "id")
        return Page(await self._items(found.rows), found.next_page_token)

    async def holder_of_name(self, account_id: str, name: str) -> str:
        """Return the id of the object with this name in the account; empty if there is none."""
        query = sa.select(self._table.c.id).filter_by(account_id=account_id, name=name)
        row = await self._session.row(query)
        return str(row.id) if row else ""

    def _head(self, item: T) -> dict[str, Any]:
        return {
            "id": item.id,
            "account_id": item.account_id,
            "owner_path": path_text(item.owner_path),
            "name": item.name,
            "system_managed": item.system_managed,
            "created_ms": item.created_ms,
        }

    def _body(self, item: T) -> dict[str, Any]:
        return {"updated_ms": item.updated_ms, "etag": item.etag, "detail": self._rows.detail(item)}

    async def put(self, before: T | None, after: T) -> None:
        """Store an object, record the change."""
        await self._session.upsert(self._table, [self._head(after) | self._body(after)])
        self._record(before, after)

    async def delete(self, item: T) -> None:
        """Delete an object, record it."""
        await self._session.run(sa.delete(self._table).where(self._table.c.id == item.id))
        self._record(item, None)

    def _record(self, before: T | None, after: T | None) -> None:
        item = after or before
        if item is not None:
            self._session.writing().record(self._kind, item.id, item.owner_path, before, after)

    def announce(self, object_ids: Iterable[str]) -> None:
        """Tell the watchers that what is derived from these objects has changed."""
        for object_id in object_ids:
            self._session.writing().announce(self._kind, object_id)


async def touch_managed(session: Session, table: sa.Table, kind: str, which: sa.ColumnElement[bool]) -> None:
    """Count a change of the DEFAULT objects whose content is derived, and tell the watchers."""
    write = session.writing()
    statement = (
        sa.update(table)
        .where(table.c.system_managed, which)
        .values(etag=table.c.etag + 1, updated_ms=write.now_ms)
        .returning(table.c.id)
    )
    for row in await session.connection.execute(statement):
        write.announce(kind, row.id)
