"""Creating accounts: who may, where, and what an enterprise is born with [000] [002] [003]."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.accounts.domain.accounts import Account, inherited_violations, placed_below, require_fits_below
from services.accounts.domain.companies import Company
from services.accounts.domain.states import Family, Verb, first_state
from services.accounts.ports import Catalog, Store
from services.accounts.usecases.changes import require_none
from services.accounts.usecases.companies import PROVIDERS, create_company
from services.accounts.usecases.readiness import lacking_of, missing_of, require_nothing_missing
from services.accounts.usecases.terms import require_good_terms
from services.common.errors import invalid
from services.common.identity import WRITERS, AccountKind, Principal
from services.common.ids import new_id


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a caller asks for.

    Attributes:
        parent_id: the account above the new one.
        account: its description; place and state are not the caller's to state.
        company: a company to create with it, instead of one that exists.
        skip_defaults: leave out the DEFAULT elements of an ENTERPRISE.
        activate: promote and activate it in the same operation.
    """

    parent_id: str
    account: Account
    company: Company | None = None
    skip_defaults: bool = False
    activate: bool = False


async def create_account(store: Store, catalog: Catalog, caller: Principal, wanted: Wanted, now_ms: int) -> Account:
    """Create an account below another one, in one operation with its company, defaults and activation.

    Raises:
        NotFoundError: the caller does not see the parent or the company.
        PermissionDeniedError: the caller is neither OPERATOR nor RESELLER, or may only read.
        FailedPreconditionError: SUB_ACCOUNT_NEEDS_ENTERPRISE, PARENT_IS_LEAF, ACCOUNT_TREE_TOO_DEEP,
            ACCOUNT_STATE_NOT_ALLOWED_BY_PARENT or ACCOUNT_NOT_READY.
        InvalidArgumentError: names each wrong field.
    """
    caller.require_role(*WRITERS)
    kind = wanted.account.kind
    parent = await store.accounts.get(caller, wanted.parent_id)
    caller.require_kind(*PROVIDERS)
    require_fits_below(kind, parent)
    family = await _family_above(store, kind, parent)
    account = _placed(wanted.account, family.master, now_ms)
    account = await _with_company(store, caller, account, wanted.company, now_ms)
    missing = await _equip(catalog, wanted, account)
    if wanted.activate:
        account = _activated(family, account, missing, now_ms)
    await store.accounts.add(account)
    return account


async def _family_above(store: Store, kind: AccountKind, parent: Account) -> Family:
    """The parent as it stays until the write ends, locked with its partitions where the newcomer is one of them."""
    if kind is AccountKind.SUB_ACCOUNT:
        return await store.accounts.lock(parent)
    return Family(await store.accounts.hold(parent))


def _placed(draft: Account, parent: Account, now_ms: int) -> Account:
    state = first_state(draft.kind, parent)
    if draft.kind is AccountKind.SUB_ACCOUNT:
        require_none(inherited_violations(draft, parent))
    placed = placed_below(replace(draft, state=state), parent, new_id("acc", at_ms=now_ms), now_ms)
    require_good_terms(placed)
    return placed


async def _with_company(
    store: Store, caller: Principal, account: Account, company: Company | None, now_ms: int
) -> Account:
    """The account with its company: a new one, one that exists, or its parent's."""
    if account.kind is AccountKind.SUB_ACCOUNT:
        if company is not None:
            raise invalid("company", "a SUB_ACCOUNT has its parent's; leave it out", "FIELD_INHERITED")
        return account
    if (company is None) == (not account.company_id):
        raise invalid(
            "account.company_id",
            "an account belongs to one company: name one here, or describe a new one in `company`",
            "COMPANY_REQUIRED",
        )
    if company is not None:
        return replace(account, company_id=(await create_company(store, caller, company, now_ms)).id)
    await store.companies.get(caller, account.company_id)
    return account


def needs_catalog(wanted: Wanted) -> bool:
    """Whether the catalogue has a part in it."""
    provisions = wanted.account.kind is AccountKind.ENTERPRISE and not wanted.skip_defaults
    return provisions or (wanted.activate and wanted.account.kind is not AccountKind.RESELLER)


async def _equip(catalog: Catalog, wanted: Wanted, account: Account) -> Sequence[str]:
    """Create the DEFAULT elements that are due; return the names of what the account lacks.

    Should the write fail after it, what the catalogue made belongs to an account that never was: nobody sees it.
    """
    if account.kind is AccountKind.ENTERPRISE and not wanted.skip_defaults:
        return lacking_of(await catalog.provision_defaults(account))
    return await missing_of(catalog, account) if wanted.activate else ()


def _activated(parent: Family, account: Account, missing: Sequence[str], now_ms: int) -> Account:
    """The account after promote and activate, which its parent's state and the readiness gate must permit."""
    if account.kind is AccountKind.SUB_ACCOUNT:
        family = Family(parent.master, (*parent.subs, account))
    else:
        family = Family(account)
    family = family.moved(account.id, Verb.PROMOTE, now_ms).moved(account.id, Verb.ACTIVATE, now_ms)
    require_nothing_missing(account, missing)
    return replace(family.member(account.id), version=1)
