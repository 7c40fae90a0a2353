"""Shelves of nouns that keep their versions: tariffs and plans."""

from collections.abc import Iterable
from typing import Any, TypeVar

import sqlalchemy as sa

from services.catalog.domain.items import Item
from services.catalog.domain.plans import Plan
from services.catalog.domain.tariffs import Tariff, TariffState
from services.catalog.ports import ListFilter
from services.catalog.storage import tables
from services.catalog.storage.session import Session, is_below
from services.catalog.storage.shelves import ItemRows, SqlShelf

V = TypeVar("V", bound=Item)

_TARIFF = ItemRows(Tariff, "version", "state", "effective_ms")
_PLAN = ItemRows(Plan, "version", "state", "type")


class SqlReferences:
    """Which version of a plan or tariff names which object."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def sources(self, target_id: str) -> list[str]:
        """Return ids of objects that reference an object, sorted."""
        table = tables.references.c
        query = sa.select(table.source_id).where(table.target_id == target_id).distinct().order_by(table.source_id)
        return [row.source_id for row in await self._session.rows(query)]


class _VersionedShelf(SqlShelf[V]):
    """A head in one table, versions in another."""

    def __init__(
        self, session: Session, kind: str, heads: sa.Table, versions: sa.Table, rows: ItemRows[V], *head_columns: str
    ) -> None:
        super().__init__(session, kind, heads, rows)
        self._versions = versions
        self._head_columns = head_columns

    def _select_versions(self) -> sa.Select[Any]:
        head, version = self._table.c, self._versions.c
        own = [head[name] for name in ("id", "account_id", "owner_path", "system_managed", "created_ms")]
        columns = [*own, *(head[name] for name in self._head_columns), *(c for c in version if c.name != "id")]
        return sa.select(*columns).join_from(self._table, self._versions, head.id == version.id)

    def _select(self) -> sa.Select[Any]:
        return self._select_versions().where(self._versions.c.version == self._table.c.newest_version)

    async def find_version(self, object_id: str, version: int) -> V | None:
        """Return a version of an object, if it exists."""
        return next(iter(await self.find_versions([(object_id, version)])), None)

    async def find_versions(self, keys: Iterable[tuple[str, int]]) -> list[V]:
        """Return those of the versions that exist."""
        wanted = sorted(set(keys))
        if not wanted:
            return []
        key = sa.tuple_(self._versions.c.id, self._versions.c.version)
        return await self._items(await self._session.rows(self._select_versions().where(key.in_(wanted))))

    def _version_of(self, item: V) -> int:
        raise NotImplementedError

    def _targets_of(self, item: V) -> frozenset[str]:
        raise NotImplementedError

    def _version_row(self, item: V) -> dict[str, Any]:
        return {"id": item.id, "version": self._version_of(item), "name": item.name} | self._body(item)

    async def put(self, before: V | None, after: V) -> None:
        """Store a version as the newest one, record the change."""
        version = self._version_of(after)
        await self._session.upsert(self._table, [self._head(after) | {"newest_version": version}])
        await self._session.upsert(self._versions, [self._version_row(after)])
        reference = tables.references
        await self._session.run(sa.delete(reference).filter_by(source_id=after.id, source_version=version))
        targets = [
            {"source_id": after.id, "source_version": version, "target_id": target}
            for target in sorted(self._targets_of(after))
        ]
        await self._session.run(sa.insert(reference), targets)
        self._record(before, after)

    async def delete(self, item: V) -> None:
        """Delete all versions of an object, record it."""
        await self._session.run(sa.delete(tables.references).where(tables.references.c.source_id == item.id))
        await self._session.run(sa.delete(self._versions).where(self._versions.c.id == item.id))
        await super().delete(item)


class SqlTariffs(_VersionedShelf[Tariff]):
    """The stored tariffs."""

    def __init__(self, session: Session) -> None:
        super().__init__(session, "tariff", tables.tariffs, tables.tariff_versions, _TARIFF)

    async def published(self, tariff_ids: Iterable[str] | None = None) -> list[Tariff]:
        """Return all published versions of tariffs (of all, if none is named), oldest first."""
        version = self._versions.c
        query = self._select_versions().where(version.state == TariffState.PUBLISHED)
        if tariff_ids is not None:
            query = query.where(version.id.in_(sorted(set(tariff_ids))))
        return await self._items(await self._session.rows(query.order_by(version.id, version.version)))

    def _version_of(self, item: Tariff) -> int:
        return item.version

    def _targets_of(self, item: Tariff) -> frozenset[str]:
        return item.zone_ids

    def _version_row(self, item: Tariff) -> dict[str, Any]:
        return super()._version_row(item) | {"state": item.state, "effective_ms": item.effective_ms}


class SqlPlans(_VersionedShelf[Plan]):
    """The stored plans."""

    def __init__(self, session: Session) -> None:
        super().__init__(session, "plan", tables.plans, tables.plan_versions, _PLAN, "type", "state")

    def _visible(self, which: ListFilter) -> sa.Select[Any]:
        plan, designation = self._table.c, tables.plan_designations.c
        visible = is_below(plan.owner_path, which.below)
        if which.designated_to:
            mine = sa.select(designation.plan_id).where(designation.account_id.in_(which.designated_to))
            visible = visible | plan.id.in_(mine)
        query = self._select().where(visible)
        if which.account_id:
            query = query.where(plan.account_id == which.account_id)
        if which.type:
            query = query.where(plan.type == which.type)
        if which.state:
            query = query.where(plan.state == which.state)
        return query.where(plan.search_text.contains(which.query.casefold(), autoescape=True))

    def _version_of(self, item: Plan) -> int:
        return item.version

    def _targets_of(self, item: Plan) -> frozenset[str]:
        return item.references

    def _head(self, item: Plan) -> dict[str, Any]:
        own = {"type": item.type, "state": item.state, "search_text": item.name.casefold()}
        return super()._head(item) | own

    async def put(self, before: Plan | None, after: Plan) -> None:
        """Store a version as the newest one, record the change."""
        await super().put(before, after)
        designation = tables.plan_designations
        if before is None or before.designated_account_ids != after.designated_account_ids:
            await self._session.run(sa.delete(designation).where(designation.c.plan_id == after.id))
            rows = [{"plan_id": after.id, "account_id": key} for key in after.designated_account_ids]
            await self._session.run(sa.insert(designation), rows)

    async def delete(self, item: Plan) -> None:
        """Delete a plan, record it."""
        designation = tables.plan_designations
        await self._session.run(sa.delete(designation).where(designation.c.plan_id == item.id))
        await super().delete(item)
