"""Plan assignments in SQL."""

from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.common.errors import AbortedError, not_found
from services.common.identity import Principal, path_text
from services.common.pages import Page, PageRequest, page_of
from services.endpoints.domain.assignments import (
    CYCLE_MS_MAX,
    JOINED_TOGETHER_MS,
    Assignment,
    AssignmentState,
    Joined,
    Members,
)
from services.endpoints.domain.plans import PlanType
from services.endpoints.ports import AssignmentFilter
from services.endpoints.storage.tables import assignments, pool_members
from services.endpoints.storage.visibility import after, path_of, visible
from services.runtime.database import dialect_insert
from services.runtime.writes import Write

ALL_MEMBERS = 0
"""Stands for a stretch of time, of all who share a plan's volumes."""
_IN_FORCE = assignments.c.removed_ms.is_(None)


class SqlAssignments:
    """The plan assignments in a transaction; `write` is None where they are only read."""

    def __init__(self, connection: AsyncConnection, write: Write | None) -> None:
        self._connection = connection
        self._write = write

    async def get(self, caller: Principal, assignment_id: str) -> Assignment:
        """Return an assignment that the caller sees, or raise NOT_FOUND."""
        query = sa.select(assignments).where(assignments.c.id == assignment_id, visible(assignments, caller))
        row = (await self._connection.execute(query)).one_or_none()
        if row is None:
            raise not_found("assignment", assignment_id)
        return to_assignment(row)

    async def page(self, caller: Principal, wanted: AssignmentFilter, request: PageRequest) -> Page[Assignment]:
        """Return a page of the assignments that the caller sees, oldest first."""
        query = sa.select(assignments).where(visible(assignments, caller), after(assignments, request.after))
        if wanted.endpoint_id:
            query = query.where(assignments.c.endpoint_id == wanted.endpoint_id)
        if wanted.account_id:
            query = query.where(assignments.c.account_id == wanted.account_id, assignments.c.endpoint_id.is_(None))
        if not wanted.include_removed:
            query = query.where(_IN_FORCE)
        found = await self._read(query.order_by(assignments.c.id).limit(request.size + 1))
        return page_of(found, request, "id")

    async def of_endpoints(self, endpoint_ids: Collection[str]) -> Sequence[Assignment]:
        """Return what is in force or pending of the endpoints, oldest first."""
        wanted = _of("endpoint_id", endpoint_ids)
        return await self._read(sa.select(assignments).where(wanted, _IN_FORCE).order_by(assignments.c.id))

    async def of_accounts(self, account_ids: Collection[str]) -> Sequence[Assignment]:
        """Return what is in force or pending of the accounts themselves, oldest first."""
        wanted = _of("account_id", account_ids)
        return await self._read(sa.select(assignments).where(wanted, _IN_FORCE).order_by(assignments.c.id))

    async def former_bases(
        self, of: Literal["endpoint_id", "account_id"], ids: Collection[str], since_ms: int
    ) -> Sequence[Assignment]:
        """Return base plans of endpoints, or of accounts themselves, that were replaced since then, in that order."""
        replaced = sa.and_(assignments.c.role == int(PlanType.BASE), assignments.c.removed_ms >= since_ms)
        query = sa.select(assignments).where(_of(of, ids), replaced)
        return await self._read(query.order_by(assignments.c.removed_ms, assignments.c.id))

    async def versions(self, of: Literal["endpoint_id", "account_id"], ids: Collection[str]) -> Mapping[str, int]:
        """Count the changes of all assignments, removed ones too, of endpoints or of accounts themselves."""
        column = assignments.c[of]
        query = sa.select(column, sa.func.sum(assignments.c.version)).where(_of(of, ids)).group_by(column)
        counts = {name: int(count) for name, count in await self._connection.execute(query)}
        if of == "account_id":
            pool = pool_members.c.pool_account_id
            changes = sa.select(pool, sa.func.sum(pool_members.c.changes)).where(pool.in_(ids)).group_by(pool)
            for name, count in await self._connection.execute(changes):
                counts[name] = counts.get(name, 0) + int(count)
        return counts

    async def members(self, account_ids: Collection[str], now_ms: int) -> Mapping[str, Sequence[Members]]:
        """Count the endpoints of enterprises that share a base plan's volumes, by enterprise."""
        recent = pool_members.c.stretch > (now_ms - CYCLE_MS_MAX) // JOINED_TOGETHER_MS
        wanted = sa.or_(pool_members.c.stretch == ALL_MEMBERS, recent)
        query = (
            sa.select(pool_members)
            .where(pool_members.c.pool_account_id.in_(account_ids), pool_members.c.members > 0, wanted)
            .order_by(*pool_members.primary_key)
        )
        found: dict[str, list[Members]] = {}
        rows = (await self._connection.execute(query)).all()
        for (account_id, plan_id, version), of_plan in groupby(rows, lambda row: row[:3]):
            every, *recently = of_plan  # which its order puts first
            joined = [Joined(row.members, row.stretch * JOINED_TOGETHER_MS, row.sum_ms) for row in recently]
            before = every.members - sum(each.count for each in joined)
            if before:
                joined.insert(0, Joined(before, 0, every.sum_ms - sum(each.sum_ms for each in joined)))
            found.setdefault(account_id, []).append(Members(plan_id, version, every.since_ms, joined))
        return found

    async def _count_members(self, change: int, changed: Sequence[Assignment]) -> None:
        """Note who begins (1) or ends (-1) to share volumes with others."""
        sums: dict[tuple[str, str, int, int], list[int]] = {}
        for one in (each for each in changed if each.shared):
            for stretch in (ALL_MEMBERS, one.assign_ms // JOINED_TOGETHER_MS):
                key = (one.enterprise_id, one.plan_id, one.plan_version, stretch)
                total = sums.setdefault(key, [0, 0, one.assign_ms, 0])
                total[0] += change
                total[1] += change * one.assign_ms
                total[3] += stretch == ALL_MEMBERS
        if not sums:
            return
        insert = dialect_insert(self._connection.dialect.name)(pool_members)
        there, new = pool_members.c, insert.excluded
        added = {name: there[name] + new[name] for name in ("members", "sum_ms", "changes")}
        since = {"since_ms": sa.case((there.members == 0, new["since_ms"]), else_=there.since_ms)}
        upsert = insert.on_conflict_do_update(index_elements=list(pool_members.primary_key), set_={**added, **since})
        names = [column.name for column in pool_members.columns]
        rows = [dict(zip(names, (*key, *total), strict=True)) for key, total in sorted(sums.items())]
        await self._connection.execute(upsert, rows)

    async def lock_account(self, account_id: str) -> Sequence[Assignment]:
        """As `of_accounts` for one; nobody else assigns to it until the write ends."""
        if self._connection.dialect.name != "sqlite":
            lock = sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(account_id, 0))
            await self._connection.execute(sa.select(lock))
        return await self.of_accounts([account_id])

    async def add(self, new: Sequence[Assignment]) -> None:
        """Store new assignments."""
        if not new:
            return
        await self._connection.execute(sa.insert(assignments), [_row(assignment) for assignment in new])
        await self._count_members(1, new)
        for assignment in new:
            self._record(None, assignment)

    async def replace(self, before: Sequence[Assignment], after: Sequence[Assignment]) -> None:
        """Store changed assignments; ABORTED if somebody else changed one meanwhile."""
        for old, new in zip(before, after, strict=True):
            update = (
                sa.update(assignments)
                .where(assignments.c.id == old.id, assignments.c.version == old.version)
                .values(
                    state=int(new.state),
                    priority=new.priority,
                    expires_ms=new.expire_ms,
                    removed_ms=new.remove_ms,
                    version=new.version,
                )
            )
            if (await self._connection.execute(update)).rowcount != 1:
                raise AbortedError(
                    "CONCURRENT_CHANGE",
                    f"Assignment {old.id} was changed at the same time. Read it again, and repeat.",
                    resource=("assignment", old.id),
                )
            self._record(old, new)
        await self._count_members(-1, [new for new in after if new.state is AssignmentState.REMOVED])

    async def _read(self, query: sa.Select[Any]) -> list[Assignment]:
        return [to_assignment(row) for row in await self._connection.execute(query)]

    def _record(self, before: Assignment | None, after: Assignment) -> None:
        assert self._write is not None  # noqa: S101 - reading stores do not write
        self._write.record("assignment", after.id, after.owner_path, before, after)
        if after.endpoint_id:
            self._write.announce("endpoint", after.endpoint_id)
        if after.shared:
            self._write.announce("account", after.enterprise_id)
        elif not after.endpoint_id:
            self._write.announce("account", after.account_id)


def _of(of: Literal["endpoint_id", "account_id"], ids: Collection[str]) -> sa.ColumnElement[bool]:
    """Assignments of endpoints, or of accounts themselves."""
    named = assignments.c[of].in_(ids)
    return named if of == "endpoint_id" else sa.and_(named, assignments.c.endpoint_id.is_(None))


def _row(assignment: Assignment) -> dict[str, Any]:
    return {
        "id": assignment.id,
        "plan_id": assignment.plan_id,
        "plan_version": assignment.plan_version,
        "endpoint_id": assignment.endpoint_id or None,
        "account_id": assignment.account_id,
        "enterprise_id": assignment.enterprise_id,
        "owner_path": path_text(assignment.owner_path),
        "role": int(assignment.role),
        "state": int(assignment.state),
        "priority": assignment.priority,
        "assigned_ms": assignment.assign_ms,
        "expires_ms": assignment.expire_ms,
        "removed_ms": assignment.remove_ms,
        "version": assignment.version,
        "pool_account_id": assignment.enterprise_id if assignment.shared else None,
    }


def to_assignment(row: Any) -> Assignment:
    """Read a row of the table."""
    return Assignment(
        id=row.id,
        plan_id=row.plan_id,
        plan_version=row.plan_version,
        endpoint_id=row.endpoint_id or "",
        account_id=row.account_id,
        enterprise_id=row.enterprise_id,
        owner_path=path_of(row.owner_path),
        role=PlanType(row.role),
        state=AssignmentState(row.state),
        priority=row.priority,
        assign_ms=row.assigned_ms,
        expire_ms=row.expires_ms,
        remove_ms=row.removed_ms,
        version=row.version,
        shared=row.pool_account_id is not None,
    )
