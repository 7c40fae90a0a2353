"""SIMs in SQL."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.common.errors import not_found
from services.common.identity import Principal, path_text
from services.common.pages import Page, PageRequest, page_of
from services.endpoints.domain.endpoints import EndpointState
from services.endpoints.domain.sims import STATUS_BY_ENDPOINT_STATE, Sim, SimStatus
from services.endpoints.ports import SimFilter
from services.endpoints.storage.tables import endpoints, sims
from services.endpoints.storage.visibility import after, path_of, visible
from services.runtime.writes import Write

_IMPORT_LOCK = 7021

_QUERY = sa.select(sims, endpoints.c.id.label("endpoint_id"), endpoints.c.state.label("endpoint_state")).select_from(
    sims.outerjoin(endpoints, endpoints.c.sim_id == sims.c.id)
)
_STATES = {status: state for state, status in STATUS_BY_ENDPOINT_STATE.items()}


class SqlSims:
    """The SIM inventory in a transaction; `write` is None where it is only read."""

    def __init__(self, connection: AsyncConnection, write: Write | None) -> None:
        self._connection = connection
        self._write = write

    async def get(self, caller: Principal, sim_id: str) -> Sim:
        """Return a SIM that the caller sees, or raise NOT_FOUND."""
        query = _QUERY.where(sims.c.id == sim_id, visible(sims, caller))
        row = (await self._connection.execute(query)).one_or_none()
        if row is None:
            raise not_found("sim", sim_id)
        return _sim(row)

    async def lock(self, sim_ids: Collection[str]) -> Mapping[str, Sim]:
        """Return those of the SIMs that exist; nobody else changes them until the write ends."""
        if not sim_ids:
            return {}
        wanted = sims.c.id.in_(sim_ids)
        lock = sa.select(sims.c.id).where(wanted).order_by(sims.c.id).with_for_update()
        await self._connection.execute(lock)  # by itself, so that the next statement sees what was committed meanwhile
        return {row.id: _sim(row) for row in await self._connection.execute(_QUERY.where(wanted))}

    async def page(self, caller: Principal, wanted: SimFilter, request: PageRequest) -> Page[Sim]:
        """Return a page of the SIMs that the caller sees, oldest first."""
        query = _QUERY.where(visible(sims, caller), after(sims, request.after)).order_by(sims.c.id)
        equal = {"account_id": wanted.account_id, "iccid": wanted.iccid, "imsi": wanted.imsi, "msisdn": wanted.msisdn}
        for column, value in equal.items():
            if value:
                query = query.where(sims.c[column] == value)
        if wanted.status is not None:
            query = query.where(_has_status(wanted.status))
        rows = await self._connection.execute(query.limit(request.size + 1))
        return page_of([_sim(row) for row in rows], request, "id")

    async def taken(self, column: str, numbers: Collection[str]) -> frozenset[str]:
        """Return those of the numbers that a SIM has; no others come until the end."""
        if self._connection.dialect.name != "sqlite":  # imports come one after the other
            await self._connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_IMPORT_LOCK)))
        query = sa.select(sims.c[column]).where(sims.c[column].in_(numbers))
        return frozenset(await self._connection.scalars(query))

    async def add(self, new: Sequence[Sim]) -> None:
        """Store new SIMs."""
        await self._connection.execute(sa.insert(sims), [_row(sim) for sim in new])
        for sim in new:
            self._record(None, sim)

    async def replace(self, before: Sequence[Sim], after: Sequence[Sim]) -> None:
        """Store SIMs with another holder, or whose link changed."""
        if not after:
            return
        update = (
            sa.update(sims)
            .where(sims.c.id == sa.bindparam("key"))
            .values({name: sa.bindparam(name) for name in ("account_id", "enterprise_id", "owner_path", "updated_ms")})
        )
        rows = [
            {
                "key": sim.id,
                "account_id": sim.account_id,
                "enterprise_id": sim.enterprise_id,
                "owner_path": path_text(sim.owner_path),
                "updated_ms": sim.update_ms,
            }
            for sim in after
        ]
        await self._connection.execute(update, rows)
        for old, new in zip(before, after, strict=True):
            self._record(old, new)

    def _record(self, before: Sim | None, after: Sim) -> None:
        assert self._write is not None  # noqa: S101 - reading stores do not write
        self._write.record("sim", after.id, after.owner_path, before, after)


def _has_status(status: SimStatus) -> sa.ColumnElement[bool]:
    if status is SimStatus.AVAILABLE:
        return endpoints.c.id.is_(None)
    return endpoints.c.state == int(_STATES[status]) if status in _STATES else sa.false()


def _row(sim: Sim) -> dict[str, Any]:
    return {
        "id": sim.id,
        "iccid": sim.iccid,
        "imsi": sim.imsi,
        "msisdn": sim.msisdn or None,
        "esim": sim.esim,
        "account_id": sim.account_id,
        "enterprise_id": sim.enterprise_id,
        "owner_path": path_text(sim.owner_path),
        "importer_account_id": sim.importer_account_id,
        "created_ms": sim.create_ms,
        "updated_ms": sim.update_ms,
    }


def _sim(row: Any) -> Sim:
    return Sim(
        id=row.id,
        iccid=row.iccid,
        imsi=row.imsi,
        msisdn=row.msisdn or "",
        esim=row.esim,
        account_id=row.account_id,
        enterprise_id=row.enterprise_id,
        owner_path=path_of(row.owner_path),
        importer_account_id=row.importer_account_id,
        create_ms=row.created_ms,
        update_ms=row.updated_ms,
        endpoint_id=row.endpoint_id or "",
        endpoint_state=None if row.endpoint_state is None else EndpointState(row.endpoint_state),
    )
