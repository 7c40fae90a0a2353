"""Reading and changing accounts."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from services.accounts.domain.accounts import IMMUTABLE, Account
from services.accounts.ports import AccountFilter, Store
from services.accounts.usecases.changes import Changes, changed, require_none
from services.accounts.usecases.companies import PROVIDERS
from services.accounts.usecases.terms import require_good_terms, require_may_set
from services.common.errors import FieldViolation
from services.common.etags import require_etag
from services.common.identity import READERS, WRITERS, Principal
from services.common.pages import Page, PageRequest


async def get_account(store: Store, caller: Principal, account_id: str) -> Account:
    """Return an account that the caller sees."""
    caller.require_role(*READERS)
    return await store.accounts.get(caller, account_id)


async def list_accounts(store: Store, caller: Principal, wanted: AccountFilter, request: PageRequest) -> Page[Account]:
    """Return a page of the accounts that the caller sees, oldest first."""
    caller.require_role(*READERS)
    return await store.accounts.page(caller, wanted, request)


async def find_accounts(store: Store, caller: Principal, account_ids: Collection[str]) -> Sequence[Account]:
    """Return those of the accounts that exist, to a service."""
    caller.require_service()
    return await store.accounts.find(account_ids)


async def update_account(
    store: Store, caller: Principal, account_id: str, changes: Changes, etag: str, now_ms: int
) -> Account:
    """Change an account: its own, or, from the provider's side, one below.

    Raises:
        NotFoundError: the caller does not see the account or its new company.
        PermissionDeniedError: the caller may only read, is not on the provider's side, or sets its own terms.
        InvalidArgumentError: FIELD_IMMUTABLE, FIELD_INHERITED, or a wrong value; names each field.
        AbortedError: ETAG_MISMATCH.
    """
    caller.require_role(*WRITERS)
    account = await store.accounts.get(caller, account_id)
    if caller.account_id != account.id:
        caller.require_kind(*PROVIDERS)
    account = (await store.accounts.lock(account)).member(account.id)
    require_etag(account.version, etag)
    _require_immutable_kept(account, changes)
    after = changed(account, {path: value for path, value in changes.items() if path not in IMMUTABLE})
    require_may_set(caller, account, after)
    require_good_terms(after)
    if after.company_id != account.company_id:
        await store.companies.get(caller, after.company_id)
    if after == account:
        return account
    after = replace(after, updated_ms=now_ms, version=account.version + 1)
    await store.accounts.replace(account, after)
    return after


def _require_immutable_kept(account: Account, changes: Changes) -> None:
    require_none(
        [
            FieldViolation(f"account.{name}", "cannot be changed", "FIELD_IMMUTABLE")
            for name in IMMUTABLE
            if name in changes and changes[name] and changes[name] != getattr(account, name)
        ]
    )
