"""The stored coverage and service scopes of accounts, and the DEFAULT profiles that follow them."""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter

from services.catalog.domain.coverage import Coverage, CoverageChange
from services.catalog.domain.profiles import RoamingProfile, ServiceProfile
from services.catalog.domain.services import Scope, intersection
from services.catalog.storage import tables
from services.catalog.storage.session import Session, is_below, path_of
from services.catalog.storage.shelves import ItemRows, SqlShelf, touch_managed
from services.common.identity import path_text

_SCOPE: TypeAdapter[Scope] = TypeAdapter(Scope)
_SERVICE_PROFILE = ItemRows(ServiceProfile)
_ROAMING_PROFILE = ItemRows(RoamingProfile)


class SqlCoverages:
    """Coverage: one row an account."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def find(self, account_id: str) -> Coverage | None:
        """Return the coverage of an account, if it has any."""
        return next(iter(await self.find_many([account_id])), None)

    async def find_many(self, account_ids: Iterable[str]) -> list[Coverage]:
        """Return the coverage of those of the accounts that have any."""
        return await self._where(tables.coverages.c.account_id.in_(sorted(set(account_ids))))

    async def below(self, path: tuple[str, ...]) -> list[Coverage]:
        """Return the coverage of an account and of all accounts below it."""
        return await self._where(is_below(tables.coverages.c.owner_path, path))

    async def _where(self, which: sa.ColumnElement[bool]) -> list[Coverage]:
        rows = await self._session.rows(sa.select(tables.coverages).where(which))
        return [Coverage(path_of(row.owner_path), tuple(row.network_ids)) for row in rows]

    async def put(self, coverages: Iterable[tuple[Coverage, CoverageChange]]) -> None:
        """Store coverage, record what changed; the DEFAULT roaming profiles of the accounts follow."""
        changed = list(coverages)
        rows = [
            {
                "account_id": coverage.account_id,
                "owner_path": path_text(coverage.owner_path),
                "network_ids": list(coverage.network_ids),
            }
            for coverage, _ in changed
        ]
        await self._session.upsert(tables.coverages, rows)
        for coverage, change in changed:
            self._session.writing().record("coverage", coverage.account_id, coverage.owner_path, None, change)
        profile = tables.roaming_profiles
        theirs = profile.c.account_id.in_([coverage.account_id for coverage, _ in changed])
        await touch_managed(self._session, profile, "roaming_profile", theirs)


class SqlScopes:
    """Service scopes: a row for each account that was given one of its own."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def effective(self, path: tuple[str, ...]) -> Scope:
        """Return what an account may use: what every scope set on its path permits."""
        return intersection((await self.of_accounts(path)).values())

    async def of_accounts(self, account_ids: Iterable[str]) -> dict[str, Scope]:
        """Return the scopes set for these accounts themselves."""
        table = tables.scopes
        rows = await self._session.rows(sa.select(table).where(table.c.account_id.in_(sorted(set(account_ids)))))
        return {row.account_id: _SCOPE.validate_python(row.services) for row in rows}

    async def below(self, path: tuple[str, ...]) -> dict[tuple[str, ...], Scope]:
        """Return the scopes set for an account and for accounts below it, by path."""
        rows = await self._session.rows(sa.select(tables.scopes).where(is_below(tables.scopes.c.owner_path, path)))
        return {path_of(row.owner_path): _SCOPE.validate_python(row.services) for row in rows}

    async def put(self, path: tuple[str, ...], services: Scope) -> None:
        """Set the scope of an account, record it; the DEFAULT service profiles below follow."""
        before = (await self.of_accounts(path[-1:])).get(path[-1])
        row = {
            "account_id": path[-1],
            "owner_path": path_text(path),
            "services": _SCOPE.dump_python(services, mode="json"),
        }
        await self._session.upsert(tables.scopes, [row])
        audited = [{"services": scope} if scope is not None else None for scope in (before, services)]
        self._session.writing().record("service_scope", path[-1], path, *audited)
        profile = tables.service_profiles
        await touch_managed(self._session, profile, "service_profile", is_below(profile.c.owner_path, path))


class SqlServiceProfiles(SqlShelf[ServiceProfile]):
    """Service profiles; DEFAULT is read as the scope of its account."""

    def __init__(self, session: Session) -> None:
        super().__init__(session, "service_profile", tables.service_profiles, _SERVICE_PROFILE)
        self._scopes = SqlScopes(session)

    async def _items(self, rows: Iterable[Any]) -> list[ServiceProfile]:
        profiles = await super()._items(rows)
        followers = [profile for profile in profiles if profile.system_managed]
        if not followers:
            return profiles
        scopes = await self._scopes.of_accounts({account for p in followers for account in p.owner_path})
        return [_with_scope(profile, scopes) if profile.system_managed else profile for profile in profiles]


def _with_scope(profile: ServiceProfile, scopes: dict[str, Scope]) -> ServiceProfile:
    granted = intersection(scopes[account] for account in profile.owner_path if account in scopes)
    return profile.with_services(granted)


class SqlRoamingProfiles(SqlShelf[RoamingProfile]):
    """Roaming profiles; DEFAULT is read as the coverage of its account."""

    def __init__(self, session: Session) -> None:
        super().__init__(session, "roaming_profile", tables.roaming_profiles, _ROAMING_PROFILE)
        self._coverages = SqlCoverages(session)

    async def _items(self, rows: Iterable[Any]) -> list[RoamingProfile]:
        profiles = await super()._items(rows)
        followers = {profile.account_id for profile in profiles if profile.system_managed}
        if not followers:
            return profiles
        covered = {found.account_id: found.network_ids for found in await self._coverages.find_many(followers)}
        return [p.with_networks(covered.get(p.account_id, ())) if p.system_managed else p for p in profiles]
