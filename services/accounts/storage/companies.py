"""Companies in SQL."""

from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.accounts.domain.companies import Address, Company, CompanyType
from services.accounts.storage.tables import accounts, companies
from services.accounts.storage.visibility import ORDER, after, below, named_like, oldest_first, path_of
from services.common.errors import not_found
from services.common.identity import AccountKind, Principal, path_text
from services.common.pages import Page, PageRequest, page_of
from services.runtime.writes import Write

_DETAILS = ("phone_number", "email", "homepage", "registration_number", "vat_number", "tax_number")


def _visible(caller: Principal) -> sa.ColumnElement[bool]:
    """The condition for companies that the caller, or an account below it, created or belongs to."""
    member = below(accounts.c.path, caller)
    if caller.account_kind is AccountKind.SUB_ACCOUNT:  # it belongs to its parent's
        member = sa.or_(member, accounts.c.id == caller.account_path[-2])
    belongs = sa.exists().where(accounts.c.company_id == companies.c.id, member)
    return sa.or_(below(companies.c.owner_path, caller), belongs)


class SqlCompanies:
    """The companies in a transaction; `write` is None where they are only read."""

    def __init__(self, connection: AsyncConnection, write: Write | None) -> None:
        self._connection = connection
        self._write = write

    async def get(self, caller: Principal, company_id: str) -> Company:
        """Return a company that the caller sees, or raise NOT_FOUND."""
        query = sa.select(companies).where(companies.c.id == company_id, _visible(caller))
        row = (await self._connection.execute(query)).one_or_none()
        if row is None:
            raise not_found("company", company_id)
        return _company(row)

    async def lock(self, caller: Principal, company_id: str) -> Company:
        """Return a company that nobody else changes until the write ends, or raise NOT_FOUND."""
        lock = sa.select(companies.c.id).where(companies.c.id == company_id).with_for_update()
        await self._connection.execute(lock)  # by itself, so that the next statement sees what was committed meanwhile
        return await self.get(caller, company_id)

    async def page(self, caller: Principal, query: str, request: PageRequest) -> Page[Company]:
        """Return a page of the companies that the caller sees, oldest first."""
        wanted = (
            sa.select(companies)
            .where(_visible(caller), named_like(companies, query), after(companies, request.after))
            .order_by(*oldest_first(companies))
            .limit(request.size + 1)
        )
        rows = await self._connection.execute(wanted)
        return page_of([_company(row) for row in rows], request, *ORDER)

    async def add(self, company: Company) -> None:
        """Store a new company."""
        await self._connection.execute(sa.insert(companies).values(_row(company)))
        self._record(None, company)

    async def replace(self, before: Company, after: Company) -> None:
        """Store a changed company."""
        await self._connection.execute(sa.update(companies).where(companies.c.id == after.id).values(_row(after)))
        self._record(before, after)

    def _record(self, before: Company | None, after: Company) -> None:
        assert self._write is not None  # noqa: S101 - reading stores do not write
        self._write.record("company", after.id, after.owner_path, before, after)


def _row(company: Company) -> dict[str, Any]:
    details: dict[str, Any] = {name: getattr(company, name) for name in _DETAILS}
    return {
        "id": company.id,
        "owner_path": path_text(company.owner_path),
        "name": company.name,
        "name_folded": company.name.casefold(),
        "type": int(company.type),
        "details": details | {"address": asdict(company.address)},
        "created_ms": company.created_ms,
        "updated_ms": company.updated_ms,
        "version": company.version,
    }


def _company(row: Any) -> Company:
    details = {name: row.details[name] for name in _DETAILS}
    return Company(
        id=row.id,
        owner_path=path_of(row.owner_path),
        name=row.name,
        type=CompanyType(row.type),
        address=Address(**row.details["address"]),
        created_ms=row.created_ms,
        updated_ms=row.updated_ms,
        version=row.version,
        **details,
    )
