"""The verbs that move accounts through their life [002]."""

from collections.abc import Sequence

from services.accounts.domain.accounts import Account
from services.accounts.domain.states import Family, Verb
from services.accounts.ports import Store
from services.accounts.usecases.companies import PROVIDERS
from services.accounts.usecases.readiness import require_nothing_missing
from services.common.errors import FailedPreconditionError, PermissionDeniedError
from services.common.identity import Principal, Role


async def promote_account(store: Store, caller: Principal, account_id: str, reason: str, now_ms: int) -> Account:
    """DRAFT (or NEW, for a sub-account) to LEAD; DRAFT sub-accounts become NEW."""
    return await _move(store, await _family(store, caller, account_id), account_id, Verb.PROMOTE, reason, now_ms)


async def activate_account(
    store: Store, caller: Principal, account_id: str, missing: Sequence[str], reason: str, now_ms: int
) -> Account:
    """LEAD to ACTIVE, unless something is missing (`readiness.missing_of`).

    Raises:
        FailedPreconditionError: ACCOUNT_STATE_INVALID, ACCOUNT_STATE_NOT_ALLOWED_BY_PARENT or ACCOUNT_NOT_READY.
    """
    family = await _family(store, caller, account_id)
    family.moved(account_id, Verb.ACTIVATE, now_ms)  # a wrong state is said before what is missing
    require_nothing_missing(family.member(account_id), missing)
    return await _move(store, family, account_id, Verb.ACTIVATE, reason, now_ms)


async def suspend_account(store: Store, caller: Principal, account_id: str, reason: str, now_ms: int) -> Account:
    """ACTIVE to SUSPENDED, with all ACTIVE sub-accounts (R137)."""
    return await _move(store, await _family(store, caller, account_id), account_id, Verb.SUSPEND, reason, now_ms)


async def resume_account(
    store: Store, caller: Principal, account_id: str, reason: str, now_ms: int, *, cascade: bool
) -> Account:
    """SUSPENDED to ACTIVE; with `cascade`, also the sub-accounts that were suspended with it (e-03)."""
    family = await _family(store, caller, account_id)
    return await _move(store, family, account_id, Verb.RESUME, reason, now_ms, cascade=cascade)


async def terminate_account(store: Store, caller: Principal, account_id: str, reason: str, now_ms: int) -> Account:
    """Any state to TERMINATED, which is final, with all sub-accounts (R140).

    Raises:
        FailedPreconditionError: ACCOUNT_STATE_INVALID, ACCOUNT_STATE_NOT_ALLOWED_BY_PARENT or ACCOUNT_HAS_CHILDREN.
    """
    family = await _family(store, caller, account_id)
    if await store.accounts.has_live_children(account_id):
        raise FailedPreconditionError(
            "ACCOUNT_HAS_CHILDREN",
            f"Account {account_id} has a RESELLER or ENTERPRISE below it that is not TERMINATED. Terminate it first.",
            resource=("account", account_id),
        )
    return await _move(store, family, account_id, Verb.TERMINATE, reason, now_ms)


async def _family(store: Store, caller: Principal, account_id: str) -> Family:
    """The account's family, locked; only an ADMIN of the provider's side moves accounts, and never its own."""
    account = await store.accounts.get(caller, account_id)
    caller.require_role(Role.ADMIN)
    caller.require_kind(*PROVIDERS)
    if account.id == caller.account_id:
        raise PermissionDeniedError(
            "OWN_ACCOUNT_STATE",
            "An account does not move its own state; the account above it does.",
            resource=("account", account.id),
        )
    return await store.accounts.lock(account)


async def _move(
    store: Store, family: Family, account_id: str, verb: Verb, reason: str, now_ms: int, *, cascade: bool = False
) -> Account:
    moved = family.moved(account_id, verb, now_ms, reason, cascade=cascade)
    for before, after in zip(family.members, moved.members, strict=True):
        if after is not before:
            await store.accounts.replace(before, after)
    return moved.member(account_id)
