"""The account tree in SQL."""

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.accounts.domain.accounts import INHERITED, Account, AccountState, SuspensionCause
from services.accounts.domain.states import Family
from services.accounts.ports import AccountFilter
from services.accounts.storage.tables import accounts
from services.accounts.storage.visibility import ORDER, after, below, named_like, oldest_first, path_of
from services.common.errors import not_found
from services.common.identity import AccountKind, Principal, path_text
from services.common.money import Money
from services.common.pages import Page, PageRequest, page_of
from services.runtime.writes import Write

_READ_THROUGH = ("company_id", "currency", "credit_limit_micros", "billing_cycle_day", "time_zone")
_master = accounts.alias("master")
_is_partition = accounts.c.kind == int(AccountKind.SUB_ACCOUNT)

_QUERY = sa.select(
    *(column for column in accounts.c if column.name not in _READ_THROUGH),
    *(sa.func.coalesce(accounts.c[name], _master.c[name]).label(name) for name in _READ_THROUGH),
).select_from(accounts.outerjoin(_master, sa.and_(_is_partition, _master.c.id == accounts.c.parent_id)))
"""Accounts, with what a sub-account reads through from its parent."""


class SqlAccounts:
    """The account tree in a transaction; `write` is None where it is only read."""

    def __init__(self, connection: AsyncConnection, write: Write | None) -> None:
        self._connection = connection
        self._write = write

    async def get(self, caller: Principal, account_id: str) -> Account:
        """Return an account that the caller sees, or raise NOT_FOUND."""
        found = await self._all(accounts.c.id == account_id, below(accounts.c.path, caller))
        if not found:
            raise not_found("account", account_id)
        return found[0]

    async def find(self, account_ids: Collection[str]) -> Sequence[Account]:
        """Return those of the accounts that exist."""
        return await self._all(accounts.c.id.in_(account_ids))

    async def _all(self, *conditions: sa.ColumnElement[bool]) -> list[Account]:
        query = _QUERY.where(*conditions).order_by(*oldest_first(accounts))
        return [_account(row) for row in await self._connection.execute(query)]

    async def page(self, caller: Principal, wanted: AccountFilter, request: PageRequest) -> Page[Account]:
        """Return a page of the accounts that the caller sees, oldest first."""
        columns = accounts.c
        query = _QUERY.where(
            below(columns.path, caller),
            named_like(accounts, wanted.query),
            after(accounts, request.after),
        )
        if wanted.parent_id:  # the caller's own account is no child of anything that it sees
            query = query.where(columns.parent_id == wanted.parent_id, columns.id != caller.account_id)
        if wanted.ancestor_id:
            query = query.where(await self._under(caller, wanted.ancestor_id))
        if wanted.kind is not None:
            query = query.where(columns.kind == int(wanted.kind))
        if wanted.state is not None:
            query = query.where(columns.state == int(wanted.state))
        query = query.order_by(*oldest_first(accounts)).limit(request.size + 1)
        rows = await self._connection.execute(query)
        return page_of([_account(row) for row in rows], request, *ORDER)

    async def _under(self, caller: Principal, ancestor_id: str) -> sa.ColumnElement[bool]:
        visible = sa.select(accounts.c.path).where(accounts.c.id == ancestor_id, below(accounts.c.path, caller))
        path = await self._connection.scalar(visible)
        if path is None:
            return sa.false()
        return sa.and_(accounts.c.path.startswith(path, autoescape=True), accounts.c.id != ancestor_id)

    async def hold(self, account: Account) -> Account:
        """Return an account as it stays until the write ends; others may hold it too."""
        return (await self._locked(account.id, accounts.c.id == account.id, shared=True))[0]

    async def lock(self, account: Account) -> Family:
        """Return the family of an account; nobody else changes or enlarges it until the write ends."""
        of_family = sa.or_(
            accounts.c.id == account.master_id, sa.and_(accounts.c.parent_id == account.master_id, _is_partition)
        )
        members = await self._locked(account.master_id, of_family, shared=False)
        (master,) = (member for member in members if member.id == account.master_id)
        return Family(master, tuple(member for member in members if member is not master))

    async def _locked(self, row_id: str, condition: sa.ColumnElement[bool], *, shared: bool) -> list[Account]:
        lock = sa.select(accounts.c.id).where(accounts.c.id == row_id).with_for_update(read=shared)
        await self._connection.execute(lock)  # by itself, so that the next statement sees what was committed meanwhile
        return await self._all(condition)

    async def has_live_children(self, account_id: str) -> bool:
        """Whether a RESELLER or ENTERPRISE that is not TERMINATED is directly below."""
        live = sa.select(accounts.c.id).where(
            accounts.c.parent_id == account_id,
            sa.not_(_is_partition),
            accounts.c.state != int(AccountState.TERMINATED),
        )
        return bool(await self._connection.scalar(sa.select(sa.exists(live))))

    async def add(self, account: Account) -> None:
        """Store a new account."""
        await self._connection.execute(sa.insert(accounts).values(_row(account)))
        self._record(None, account)

    async def replace(self, before: Account, after: Account) -> None:
        """Store a changed account; its sub-accounts change with what they read through."""
        await self._connection.execute(sa.update(accounts).where(accounts.c.id == after.id).values(_row(after)))
        self._record(before, after)
        if any(getattr(before, name) != getattr(after, name) for name in INHERITED):
            partitions = sa.select(accounts.c.id).where(accounts.c.parent_id == after.id, _is_partition)
            for sub_id in await self._connection.scalars(partitions):
                self._writing.announce("account", sub_id)

    def _record(self, before: Account | None, after: Account) -> None:
        self._writing.record("account", after.id, after.path, before, after)

    @property
    def _writing(self) -> Write:
        assert self._write is not None  # noqa: S101 - reading stores do not write
        return self._write


def _row(account: Account) -> dict[str, Any]:
    own = account.kind is not AccountKind.SUB_ACCOUNT
    limit = account.credit_limit
    return {
        "id": account.id,
        "kind": int(account.kind),
        "parent_id": account.parent_id or None,
        "path": path_text(account.path),
        "company_id": account.company_id if own else None,
        "name": account.name,
        "name_folded": account.name.casefold(),
        "state": int(account.state),
        "suspension_cause": int(account.suspension_cause),
        "state_reason": account.state_reason,
        "currency": account.currency if own else None,
        "credit_limit_micros": limit.micros if own and limit is not None else None,
        "billing_cycle_day": account.billing_cycle_day if own else None,
        "time_zone": account.time_zone if own else None,
        "external_account_number": account.external_account_number,
        "notes": account.notes,
        "application_types": list(account.application_types),
        "device_types": list(account.device_types),
        "created_ms": account.created_ms,
        "updated_ms": account.updated_ms,
        "version": account.version,
    }


def _account(row: Any) -> Account:
    limit = row.credit_limit_micros
    return Account(
        id=row.id,
        kind=AccountKind(row.kind),
        path=path_of(row.path),
        company_id=row.company_id,
        name=row.name,
        state=AccountState(row.state),
        suspension_cause=SuspensionCause(row.suspension_cause),
        state_reason=row.state_reason,
        currency=row.currency,
        credit_limit=None if limit is None else Money(row.currency, limit),
        billing_cycle_day=row.billing_cycle_day,
        time_zone=row.time_zone,
        external_account_number=row.external_account_number,
        notes=row.notes,
        application_types=tuple(row.application_types),
        device_types=tuple(row.device_types),
        created_ms=row.created_ms,
        updated_ms=row.updated_ms,
        version=row.version,
    )
