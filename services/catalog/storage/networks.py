"""The stored networks."""

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from services.catalog.domain.networks import Network
from services.catalog.domain.services import AccessType
from services.catalog.ports import NetworkSearch
from services.catalog.storage.session import KEYS_MAX, Session, comes_after
from services.catalog.storage.tables import networks as table
from services.common.pages import Page, PageRequest, page_of


class SqlNetworks:
    """Networks; they belong to the OPERATOR, the root of the installation."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def find_many(self, network_ids: Iterable[str]) -> dict[str, Network]:
        """Return those of the networks that exist."""
        wanted, found = sorted(set(network_ids)), {}
        for start in range(0, len(wanted), KEYS_MAX):
            rows = await self._session.rows(sa.select(table).where(table.c.id.in_(wanted[start : start + KEYS_MAX])))
            found.update({row.id: _network(row) for row in rows})
        return found

    async def all(self) -> dict[str, Network]:
        """Return all networks, by id."""
        return {row.id: _network(row) for row in await self._session.rows(sa.select(table).order_by(table.c.id))}

    async def countries(self) -> list[tuple[str, str]]:
        """Return all pairs of network id and country code."""
        return [
            (row.id, row.country_code) for row in await self._session.rows(sa.select(table.c.id, table.c.country_code))
        ]

    async def page(self, search: NetworkSearch, page: PageRequest) -> Page[Network]:
        """Return a page of networks, by country code, MCC and MNC."""
        key = (table.c.country_code, table.c.mcc, table.c.mnc)
        query = sa.select(table).order_by(*key).limit(page.size + 1)
        if search.within is not None:
            query = query.where(table.c.id.in_(search.within))
        if search.country_code:
            code = search.country_code
            query = query.where(
                (table.c.country_code == code) | table.c.country_code.startswith(f"{code}-", autoescape=True)
            )
        if search.query:
            query = query.where(table.c.search_text.contains(search.query.casefold(), autoescape=True))
        if not search.include_not_operational:
            query = query.where(table.c.operational)
        query = query.where(comes_after(page, *key))
        found = page_of(await self._session.rows(query), page, "country_code", "mcc", "mnc")
        return Page([_network(row) for row in found.rows], found.next_page_token)

    async def put(self, before: Mapping[str, Network], after: Iterable[Network]) -> None:
        """Store networks, record the changes. `before` has those that exist."""
        write, stored = self._session.writing(), list(after)
        await self._session.upsert(table, [_row(network) for network in stored])
        for network in stored:
            write.record("network", network.id, write.caller.account_path, before.get(network.id), network)


def _row(network: Network) -> dict[str, Any]:
    return {
        "id": network.id,
        "mcc": network.mcc,
        "mnc": network.mnc,
        "country_code": network.country_code,
        "country_name": network.country_name,
        "brand": network.brand,
        "operator": network.operator,
        "access_types": list(network.access_types),
        "operational": network.operational,
        "search_text": network.search_text,
    }


def _network(row: Any) -> Network:
    return Network(
        mcc=row.mcc,
        mnc=row.mnc,
        country_code=row.country_code,
        country_name=row.country_name,
        brand=row.brand,
        operator=row.operator,
        access_types=tuple(AccessType(number) for number in row.access_types),
        operational=row.operational,
    )
