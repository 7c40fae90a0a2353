"""One write: a transaction with its caller, its request id, its audit trail and its place in the change feed.

Every write of accounts, catalog and endpoints goes through `Writes.run`. In one transaction it looks the request id
up (a repeat gets the first answer), runs the use case, and stores audit entries, changes and the answer.
"""

import dataclasses
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import Enum
from typing import Any, TypeVar

import sqlalchemy as sa
from google.protobuf.message import Message
from sqlalchemy.ext.asyncio import AsyncConnection

from services.common.clock import Clock
from services.common.errors import AlreadyExistsError
from services.common.identity import Principal, path_text
from services.common.ids import new_id
from services.runtime.database import Database

T = TypeVar("T")
M = TypeVar("M", bound=Message)

_CHANGES_LOCK = 7012
CURSOR = sa.BigInteger().with_variant(sa.Integer, "sqlite")


@dataclass(frozen=True, slots=True)
class RuntimeTables:
    """The tables that a service keeps beside its own."""

    requests: sa.Table
    audit: sa.Table


@dataclass(frozen=True, slots=True)
class FollowedTables(RuntimeTables):
    """Those of a service whose changes others follow."""

    changes: sa.Table


def audit_table(metadata: sa.MetaData) -> sa.Table:
    """Declare the table of audit entries in a service's metadata."""
    return sa.Table(
        "audit_entry",
        metadata,
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.String(64), nullable=False),
        sa.Column("account_id", sa.String(64), nullable=False),
        sa.Column("method", sa.String(128), nullable=False),
        sa.Column("request_id", sa.String(128), nullable=False),
        sa.Column("resource_type", sa.String(64), nullable=False),
        sa.Column("resource_id", sa.String(64), nullable=False, index=True),
        sa.Column("owner_account_id", sa.String(64), nullable=False),
        sa.Column("owner_path", sa.Text, nullable=False, index=True),
        sa.Column("before", sa.JSON),
        sa.Column("after", sa.JSON),
    )


def requests_table(metadata: sa.MetaData, name: str = "request") -> sa.Table:
    """Declare the table of answered requests in a service's metadata."""
    return sa.Table(
        name,
        metadata,
        sa.Column("account_id", sa.String(64), primary_key=True),
        sa.Column("method", sa.String(128), primary_key=True),
        sa.Column("request_id", sa.String(128), primary_key=True),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("answer", sa.LargeBinary, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
    )


def runtime_tables(metadata: sa.MetaData) -> FollowedTables:
    """Declare the tables of writes in a service's metadata."""
    changes = sa.Table(
        "change",
        metadata,
        sa.Column("cursor", CURSOR, primary_key=True, autoincrement=True),
        sa.Column("resource_type", sa.String(64), nullable=False),
        sa.Column("resource_id", sa.String(64), nullable=False),
        sqlite_autoincrement=True,
    )
    return FollowedTables(requests_table(metadata), audit_table(metadata), changes)


_ANCESTRY = frozenset({"path", "owner_path"})
"""Attributes that an entry leaves out: who may read it need not know what is above its own account (R286)."""


def _plain(value: Any) -> Any:
    """Values as JSON shows them in an audit entry."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = (f.name for f in dataclasses.fields(value))
        return {name: _plain(getattr(value, name)) for name in names if name not in _ANCESTRY}
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, datetime | date):
        return value.isoformat()
    return value


@dataclass(slots=True)
class Write:
    """A write in progress, handed to the use case and its repositories.

    Attributes:
        connection: the open transaction.
        caller: who calls.
        now_ms: the time of the write, milliseconds since 1970.
        method: full name of the method.
        request_id: the caller's id of the request, or empty.
    """

    connection: AsyncConnection
    caller: Principal
    now_ms: int
    method: str
    request_id: str
    entries: list[dict[str, Any]] = field(default_factory=list)
    changed: list[dict[str, str]] = field(default_factory=list)

    def record(
        self,
        resource_type: str,
        resource_id: str,
        owner_path: tuple[str, ...],
        before: object | None,
        after: object | None,
    ) -> None:
        """Put a change of an object (a dataclass without secrets) into the audit trail and the change feed.

        Args:
            resource_type: for example `account`.
            resource_id: its id.
            owner_path: path of the account that owns it, from the OPERATOR down.
            before: the object before; None for a creation.
            after: the object after; None for a deletion.
        """
        self.entries.append(
            {
                "id": new_id("aud"),
                "created_ms": self.now_ms,
                "actor": self.caller.actor,
                "account_id": self.caller.account_id,
                "method": self.method,
                "request_id": self.request_id,
                "resource_type": resource_type,
                "resource_id": resource_id,
                "owner_account_id": owner_path[-1] if owner_path else "",
                "owner_path": path_text(owner_path),
                "before": _plain(before),
                "after": _plain(after),
            }
        )
        self.announce(resource_type, resource_id)

    def announce(self, resource_type: str, resource_id: str) -> None:
        """Put an object into the change feed only: what others derive from it has changed."""
        change = {"resource_type": resource_type, "resource_id": resource_id}
        if change not in self.changed[-16:]:
            self.changed.append(change)


async def _nobody() -> None:
    """Wait for nobody."""


class Writes:
    """Runs the writes of a service.

    Args:
        database: where they are kept.
        tables: of requests, audit and changes.
        clock: tells the time.
        on_commit: is told that something was changed.
        settle: waits, within bounds, until rating has seen what is committed; never fails.
    """

    def __init__(
        self,
        database: Database,
        tables: RuntimeTables,
        clock: Clock,
        on_commit: Callable[[], None] = lambda: None,
        settle: Callable[[], Awaitable[None]] = _nobody,
    ) -> None:
        self.database = database
        self.tables = tables
        self.clock = clock
        self._on_commit = on_commit
        self._settle = settle

    async def run(
        self,
        caller: Principal,
        method: str,
        request: Message,
        response_type: type[M],
        use_case: Callable[[Write], Awaitable[T]],
        answer: Callable[[T], M],
        stored_answer: Callable[[M], M] = lambda message: message,
        *,
        settles: bool = False,
    ) -> M:
        """Run a write once, however often it is asked for.

        Args:
            caller: who calls.
            method: full name of the method.
            request: the request; its `request_id`, if it has one, makes a repeat known.
            response_type: message class of the response.
            use_case: does the write; gets the open transaction.
            answer: makes the response out of what the use case returns.
            stored_answer: what a repeat gets, where that must differ (a secret is shown once).
            settles: whether rating sees it before the caller gets the answer and charges by it.

        Raises:
            AlreadyExistsError: REQUEST_ID_REUSED, if the request id was used with another content.
        """
        request_id: str = getattr(request, "request_id", "")
        now_ms = self.clock.now_ms()
        async with self.database.transaction() as connection:
            write = Write(connection, caller, now_ms, method, request_id)
            first = await self._first_answer(write, request) if request_id else None
            if first is None:
                response = answer(await use_case(write))
                await self._store(write, stored_answer(response))
            else:
                response = response_type.FromString(first)
        if write.changed:
            self._on_commit()
        if settles:
            await self._settle()
        return response

    async def _first_answer(self, write: Write, request: Message) -> bytes | None:
        """Claim the request id; return the answer that it already has, if any."""
        requests, digest = self.tables.requests, request_digest(request)
        key = {
            "account_id": write.caller.account_id,
            "method": write.method,
            "request_id": write.request_id,
        }
        found = (await write.connection.execute(sa.select(requests).filter_by(**key))).one_or_none()
        if found is None:
            claim = self.database.insert(requests).values(**key, digest=digest, answer=b"", created_ms=write.now_ms)
            if (await write.connection.execute(claim.on_conflict_do_nothing())).rowcount == 1:
                return None
            found = (await write.connection.execute(sa.select(requests).filter_by(**key))).one()
        if found.digest != digest:
            raise AlreadyExistsError(
                "REQUEST_ID_REUSED",
                f"The request id {write.request_id!r} was used for a request with other content. Take a new one.",
            )
        first: bytes = found.answer
        return first

    async def _store(self, write: Write, response: Message) -> None:
        tables, connection = self.tables, write.connection
        if write.request_id:
            key = (write.caller.account_id, write.method, write.request_id)
            await connection.execute(
                sa.update(tables.requests)
                .where(sa.tuple_(*tables.requests.primary_key.columns) == key)
                .values(answer=response.SerializeToString())
            )
        if write.entries:
            await connection.execute(sa.insert(tables.audit), write.entries)
        if write.changed and isinstance(tables, FollowedTables):
            if not self.database.is_sqlite:  # cursors are given in the order of commit
                await connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_CHANGES_LOCK})"))
            await connection.execute(sa.insert(tables.changes), write.changed)


def request_digest(request: Message) -> bytes:
    """SHA-256 of a request's content."""
    return hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
