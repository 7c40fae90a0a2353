"""API keys in SQL, with the digests of their secrets, which leave this room only to be compared."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.accounts.domain.keys import ApiKey
from services.accounts.storage.tables import api_keys
from services.accounts.storage.visibility import ORDER, after, below, oldest_first, path_of
from services.common.errors import not_found
from services.common.identity import Principal, Role, path_text
from services.common.pages import Page, PageRequest, page_of
from services.runtime.writes import Write


class SqlKeys:
    """The API keys in a transaction; `write` is None where they are only read."""

    def __init__(self, connection: AsyncConnection, write: Write | None) -> None:
        self._connection = connection
        self._write = write

    async def get(self, caller: Principal, key_id: str) -> ApiKey:
        """Return a key of an account that the caller sees, or raise NOT_FOUND."""
        query = sa.select(api_keys).where(api_keys.c.id == key_id, below(api_keys.c.owner_path, caller))
        row = (await self._connection.execute(query)).one_or_none()
        if row is None:
            raise not_found("api_key", key_id)
        return _key(row)

    async def find(self, key_id: str) -> tuple[ApiKey, bytes] | None:
        """Return a key and the digest of its secret, if it exists."""
        query = sa.select(api_keys).where(api_keys.c.id == key_id)
        row = (await self._connection.execute(query)).one_or_none()
        return None if row is None else (_key(row), row.digest)

    async def page(self, caller: Principal, account_id: str, request: PageRequest) -> Page[ApiKey]:
        """Return a page of the keys of accounts that the caller sees, oldest first; of one account if named."""
        wanted = (
            sa.select(api_keys)
            .where(below(api_keys.c.owner_path, caller), after(api_keys, request.after))
            .order_by(*oldest_first(api_keys))
            .limit(request.size + 1)
        )
        if account_id:
            wanted = wanted.where(api_keys.c.account_id == account_id)
        rows = await self._connection.execute(wanted)
        return page_of([_key(row) for row in rows], request, *ORDER)

    async def bootstrap_keys(self) -> Sequence[ApiKey]:
        """Return the keys that came with the environment and are not revoked."""
        query = sa.select(api_keys).where(api_keys.c.bootstrap, api_keys.c.revoked_ms.is_(None))
        return [_key(row) for row in await self._connection.execute(query)]

    async def add(self, key: ApiKey, digest: bytes) -> None:
        """Store a new key."""
        await self._connection.execute(sa.insert(api_keys).values(**_row(key), digest=digest))
        self._record(None, key)

    async def replace(self, before: ApiKey, after: ApiKey, digest: bytes | None = None) -> None:
        """Store a changed key, and its new digest if it has one."""
        values = _row(after) | ({"digest": digest} if digest is not None else {})
        await self._connection.execute(sa.update(api_keys).where(api_keys.c.id == after.id).values(values))
        self._record(before, after)

    def _record(self, before: ApiKey | None, after: ApiKey) -> None:
        assert self._write is not None  # noqa: S101 - reading stores do not write
        self._write.record("api_key", after.id, after.owner_path, before, after)


def _row(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "account_id": key.account_id,
        "owner_path": path_text(key.owner_path),
        "name": key.name,
        "role": int(key.role),
        "expires_ms": key.expires_ms,
        "revoked_ms": key.revoked_ms,
        "created_ms": key.created_ms,
        "bootstrap": key.bootstrap,
    }


def _key(row: Any) -> ApiKey:
    return ApiKey(
        id=row.id,
        owner_path=path_of(row.owner_path),
        name=row.name,
        role=Role(row.role),
        expires_ms=row.expires_ms,
        revoked_ms=row.revoked_ms,
        created_ms=row.created_ms,
        bootstrap=row.bootstrap,
    )
