"""Endpoints in SQL."""

from collections.abc import Collection, Sequence
from dataclasses import replace as with_values
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.common.errors import not_found
from services.common.identity import Principal, path_text
from services.common.pages import Page, PageRequest, page_of
from services.endpoints.domain.endpoints import Endpoint, EndpointState
from services.endpoints.domain.plans import PlanType
from services.endpoints.ports import EndpointFilter
from services.endpoints.storage.assignments import SqlAssignments
from services.endpoints.storage.tables import endpoints, sims, tags
from services.endpoints.storage.visibility import after, path_of, visible
from services.runtime.writes import Write


class SqlEndpoints:
    """The endpoints in a transaction; `write` is None where they are only read."""

    def __init__(self, connection: AsyncConnection, write: Write | None) -> None:
        self._connection = connection
        self._write = write

    async def get(self, caller: Principal, endpoint_id: str) -> Endpoint:
        """Return an endpoint that the caller sees, or raise NOT_FOUND."""
        query = sa.select(endpoints).where(endpoints.c.id == endpoint_id, visible(endpoints, caller))
        row = (await self._connection.execute(query)).one_or_none()
        if row is None:
            raise not_found("endpoint", endpoint_id)
        (endpoint,) = await self._with_base([_endpoint(row)])
        return endpoint

    async def lock(self, caller: Principal, endpoint_id: str) -> Endpoint:
        """As `get`; nobody else changes it or its assignments until the write ends."""
        lock = sa.select(endpoints.c.id).where(endpoints.c.id == endpoint_id).with_for_update()
        await self._connection.execute(lock)
        return await self.get(caller, endpoint_id)

    async def page(self, caller: Principal, wanted: EndpointFilter, request: PageRequest) -> Page[Endpoint]:
        """Return a page of the endpoints that the caller sees, oldest first."""
        query = sa.select(endpoints).where(visible(endpoints, caller), after(endpoints, request.after))
        if wanted.account_id:
            account = wanted.account_id
            query = query.where(sa.or_(endpoints.c.account_id == account, endpoints.c.enterprise_id == account))
        if wanted.state is None:
            query = query.where(endpoints.c.state != int(EndpointState.DELETED))
        else:
            query = query.where(endpoints.c.state == int(wanted.state))
        numbers = {"iccid": wanted.iccid, "imsi": wanted.imsi, "msisdn": wanted.msisdn}
        if any(numbers.values()):
            query = query.join(sims, sims.c.id == endpoints.c.sim_id)
            query = query.where(*(sims.c[name] == number for name, number in numbers.items() if number))
        if wanted.tag:
            query = query.join(tags, tags.c.endpoint_id == endpoints.c.id).where(tags.c.tag == wanted.tag)
        rows = await self._connection.execute(query.order_by(endpoints.c.id).limit(request.size + 1))
        page = page_of([_endpoint(row) for row in rows], request, "id")
        return Page(await self._with_base(page.rows), page.next_page_token)

    async def batch(self, endpoint_ids: Collection[str]) -> Sequence[Endpoint]:
        """Return those of the endpoints that exist, without their base plans, in no order."""
        query = sa.select(endpoints).where(endpoints.c.id.in_(endpoint_ids))
        return [_endpoint(row) for row in await self._connection.execute(query)]

    async def add(self, new: Sequence[Endpoint]) -> None:
        """Store new endpoints; not their base assignments."""
        await self._connection.execute(sa.insert(endpoints), [_row(endpoint) for endpoint in new])
        await self._add_tags(new)
        for endpoint in new:
            self._record(None, endpoint)

    async def replace(self, before: Endpoint, after: Endpoint) -> None:
        """Store a changed endpoint; not its base assignment."""
        row = _row(after)
        await self._connection.execute(sa.update(endpoints).where(endpoints.c.id == after.id).values(row))
        if after.tags != before.tags:
            await self._connection.execute(sa.delete(tags).where(tags.c.endpoint_id == after.id))
            await self._add_tags([after])
        self._record(before, after)

    async def _add_tags(self, tagged: Sequence[Endpoint]) -> None:
        rows = [{"tag": tag, "endpoint_id": endpoint.id} for endpoint in tagged for tag in endpoint.tags]
        if rows:
            await self._connection.execute(sa.insert(tags), rows)

    async def _with_base(self, found: Sequence[Endpoint]) -> Sequence[Endpoint]:
        if not found:
            return found
        given = await SqlAssignments(self._connection, None).of_endpoints([endpoint.id for endpoint in found])
        base = {assignment.endpoint_id: assignment for assignment in given if assignment.role is PlanType.BASE}
        return [with_values(endpoint, base=base.get(endpoint.id)) for endpoint in found]

    def _record(self, before: Endpoint | None, after: Endpoint) -> None:
        assert self._write is not None  # noqa: S101 - reading stores do not write
        self._write.record("endpoint", after.id, after.owner_path, before, after)


def _row(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "id": endpoint.id,
        "account_id": endpoint.account_id,
        "enterprise_id": endpoint.enterprise_id,
        "owner_path": path_text(endpoint.owner_path),
        "name": endpoint.name,
        "state": int(endpoint.state),
        "reason": endpoint.reason,
        "sim_id": endpoint.sim_id or None,
        "apn_group_id": endpoint.apn_group_id,
        "barred_services": list(endpoint.barred_services),
        "tags": list(endpoint.tags),
        "created_ms": endpoint.create_ms,
        "updated_ms": endpoint.update_ms,
        "version": endpoint.version,
    }


def _endpoint(row: Any) -> Endpoint:
    return Endpoint(
        id=row.id,
        account_id=row.account_id,
        enterprise_id=row.enterprise_id,
        owner_path=path_of(row.owner_path),
        name=row.name,
        state=EndpointState(row.state),
        sim_id=row.sim_id or "",
        apn_group_id=row.apn_group_id,
        barred_services=tuple(row.barred_services),
        tags=tuple(row.tags),
        base=None,
        create_ms=row.created_ms,
        update_ms=row.updated_ms,
        version=row.version,
        reason=row.reason,
    )
