"""The audit service that accounts, catalog and endpoints offer alike, over their own entries."""

from typing import Any

import sqlalchemy as sa
from google.protobuf.timestamp_pb2 import Timestamp

from meterline.type.v1 import audit_pb2
from services.common.identity import READERS, path_text
from services.common.pages import page_of, page_request
from services.runtime.database import Database
from services.runtime.server import current_call


class AuditServicer:
    """Lists audit entries. Registered under each service's own AuditService."""

    def __init__(self, database: Database, entries: sa.Table) -> None:
        self._database = database
        self._entries = entries

    async def ListAuditEntries(  # noqa: N802 - the name of the method in the contract
        self, request: audit_pb2.ListAuditEntriesRequest, _: object
    ) -> audit_pb2.ListAuditEntriesResponse:
        """Return a page of entries of objects below the caller's account, newest first."""
        caller = current_call().caller
        caller.require_role(*READERS)
        page = page_request(request.page_size, request.page_token)
        entries = self._entries.c
        query = sa.select(self._entries).order_by(entries.id.desc()).limit(page.size + 1)
        if not caller.service:
            query = query.where(entries.owner_path.startswith(path_text(caller.account_path), autoescape=True))
        if request.resource_id:
            query = query.where(entries.resource_id == request.resource_id)
        if request.account_id:
            query = query.where(entries.owner_account_id == request.account_id)
        if page.after:
            query = query.where(entries.id < str(page.after[0]))
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).all()
        found = page_of(rows, page, "id")
        return audit_pb2.ListAuditEntriesResponse(
            audit_entries=[_to_proto(row, frozenset(caller.account_path[:-1])) for row in found.rows],
            next_page_token=found.next_page_token,
        )


def _to_proto(row: Any, hidden: frozenset[str]) -> audit_pb2.AuditEntry:
    """Write an entry; accounts above the caller, which do not exist for it, are left out."""
    time = Timestamp()
    time.FromMilliseconds(row.created_ms)
    entry = audit_pb2.AuditEntry(
        id=row.id,
        create_time=time,
        actor="" if row.account_id in hidden else row.actor,
        account_id="" if row.account_id in hidden else row.account_id,
        method=row.method,
        request_id=row.request_id,
        resource_type=row.resource_type,
        resource_id=row.resource_id,
        owner_account_id=row.owner_account_id,
    )
    if row.before is not None:
        entry.before.update(_without(row.before, hidden))
    if row.after is not None:
        entry.after.update(_without(row.after, hidden))
    return entry


def _without(value: Any, hidden: frozenset[str]) -> Any:
    """A JSON value without the ids of hidden accounts."""
    if isinstance(value, dict):
        return {name: _without(inner, hidden) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without(inner, hidden) for inner in value if not (isinstance(inner, str) and inner in hidden)]
    return "" if isinstance(value, str) and value in hidden else value
