"""Verbs of plan assignments: add-ons of endpoints, and the prices of accounts."""

from dataclasses import dataclass

from services.common.errors import FailedPreconditionError, PermissionDeniedError
from services.common.etags import require_etag
from services.common.identity import WRITERS, AccountKind, Principal
from services.common.pages import Page, PageRequest
from services.endpoints.domain.assignments import (
    Assignment,
    Target,
    assign,
    changed,
    removed,
    require_addon,
    require_room,
)
from services.endpoints.domain.endpoints import Verb, next_state, no_base_plan, require_base
from services.endpoints.domain.plans import PlanType
from services.endpoints.ports import Account, Accounts, AssignmentFilter, Catalog, Store
from services.endpoints.usecases.callers import (
    require_endpoint_writer,
    require_not_terminated,
    require_reader,
    visible_account,
)
from services.endpoints.usecases.endpoints import replace_base
from services.endpoints.usecases.plans import usable_plans


async def assign_endpoint_addon(
    store: Store, accounts: Accounts, catalog: Catalog, caller: Principal, endpoint_id: str, plan_id: str, now_ms: int
) -> Assignment:
    """Give an endpoint an add-on: an assignment of its own each time, the base plan untouched (R069, R086-R088).

    Raises:
        FailedPreconditionError: PLAN_NOT_PUBLISHED, PLAN_NOT_ADDON, PLAN_NOT_AVAILABLE, NO_BASE_PLAN (R070),
            TOO_MANY_ADDONS, ENDPOINT_STATE.
    """
    require_endpoint_writer(caller)
    endpoint = await store.endpoints.lock(caller, endpoint_id)
    next_state(endpoint, Verb.ASSIGN_ADDON)
    family = {endpoint.account_id, endpoint.enterprise_id}
    plans = await usable_plans(
        accounts, catalog, caller, [plan_id], endpoint.account_id, lambda plan: plan.serves_endpoints_of(family)
    )
    plans[plan_id].require_assignable(PlanType.ADDON)
    require_base(endpoint)
    require_room(await store.assignments.of_endpoints([endpoint_id]), now_ms)
    assignment = assign(plans[plan_id], endpoint.target, now_ms)
    await store.assignments.add([assignment])
    return assignment


async def assign_account_plan(
    store: Store,
    accounts: Accounts,
    catalog: Catalog,
    caller: Principal,
    account_id: str,
    plan_id: str,
    now_ms: int,
    *,
    reseller_addons: bool = True,
) -> Assignment:
    """Set the parent's price to an account, or give it an add-on; a base plan replaces the one before (R283).

    The base plan version that it has already stays as it is.

    Args:
        store: where assignments are.
        accounts: the accounts.
        catalog: the plans.
        caller: who asks.
        account_id: who gets it.
        plan_id: the plan.
        now_ms: the time, milliseconds since 1970.
        reseller_addons: whether resellers can have add-ons: not where rating spreads their enterprises over cells.

    Raises:
        PermissionDeniedError: the caller is not above the account.
        FailedPreconditionError: ACCOUNT_NOT_CHARGED, PLAN_NOT_PUBLISHED, PLAN_NOT_AVAILABLE (the plan is not the
            parent's, or is designated to others), CURRENCY_MISMATCH, PLAN_OF_ENDPOINTS, NO_BASE_PLAN and
            TOO_MANY_ADDONS (for an add-on), ADDON_NEEDS_ONE_CELL.
    """
    caller.require_role(*WRITERS)
    account = await visible_account(accounts, caller, account_id)
    _require_above(caller, account.path)
    _require_charged(account)
    require_not_terminated(account)
    plans = await usable_plans(
        accounts, catalog, caller, [plan_id], account_id, lambda plan: plan.prices(account.id, account.parent_id)
    )
    plan = plans[plan_id]
    plan.require_assignable()
    plan.require_currency_of_account(account_id, account.currency)
    plan.require_for_account(account_id)
    if plan.type is PlanType.ADDON and account.kind is AccountKind.RESELLER and not reseller_addons:
        raise FailedPreconditionError(
            "ADDON_NEEDS_ONE_CELL",
            f"Account {account_id} is a reseller, whose enterprises are charged in several cells of this installation; "
            "a volume cannot be shared between cells. Give the add-on to its enterprises, or lower its price.",
            resource=("account", account_id),
        )
    present = await store.assignments.lock_account(account_id)
    base = next((assignment for assignment in present if assignment.role is PlanType.BASE), None)
    assignment = assign(plan, Target(account.id, account.enterprise_id, account.path), now_ms)
    if plan.type is PlanType.BASE:
        if base and (base.plan_id, base.plan_version) == (plan.id, plan.version):
            return base
        await replace_base(store, base, assignment, now_ms)
        return assignment
    if base is None:
        raise no_base_plan("account", account_id)
    require_room(present, now_ms)
    await store.assignments.add([assignment])
    return assignment


async def get_assignment(store: Store, caller: Principal, assignment_id: str) -> Assignment:
    """Return an assignment that the caller sees (R089, R093)."""
    require_reader(caller)
    return await store.assignments.get(caller, assignment_id)


async def list_assignments(
    store: Store, caller: Principal, wanted: AssignmentFilter, request: PageRequest
) -> Page[Assignment]:
    """Return a page of the assignments that the caller sees, oldest first."""
    require_reader(caller)
    return await store.assignments.page(caller, wanted, request)


@dataclass(frozen=True, slots=True)
class AssignmentChanges:
    """New values of an add-on assignment; those named in `fields` count."""

    fields: frozenset[str]
    priority: int
    expire_ms: int | None
    etag: str


async def update_assignment(
    store: Store, caller: Principal, assignment_id: str, changes: AssignmentChanges, now_ms: int
) -> Assignment:
    """Change priority or end of one add-on assignment, and of no other (R091).

    Raises:
        FailedPreconditionError: ASSIGNMENT_NOT_ADDON, ASSIGNMENT_REMOVED, ASSIGNMENT_ENDED.
        AbortedError: ETAG_MISMATCH, CONCURRENT_CHANGE.
    """
    before = await _writable(store, caller, assignment_id)
    require_etag(before.version, changes.etag)
    after = changed(before, changes.fields, changes.priority, changes.expire_ms, now_ms)
    await store.assignments.replace([before], [after])
    return after


async def remove_assignment(store: Store, caller: Principal, assignment_id: str, now_ms: int) -> Assignment:
    """End one add-on assignment, and no other (R092); a success if it has ended already.

    Raises:
        FailedPreconditionError: ASSIGNMENT_NOT_ADDON.
        AbortedError: CONCURRENT_CHANGE.
    """
    before = await _writable(store, caller, assignment_id)
    require_addon(before)
    after = removed(before, now_ms)
    if after is not before:
        await store.assignments.replace([before], [after])
    return after


async def _writable(store: Store, caller: Principal, assignment_id: str) -> Assignment:
    caller.require_role(*WRITERS)
    assignment = await store.assignments.get(caller, assignment_id)
    if assignment.endpoint_id:
        require_endpoint_writer(caller)
    else:
        _require_above(caller, assignment.owner_path)
    return assignment


def _require_above(caller: Principal, path: tuple[str, ...]) -> None:
    if not caller.service and caller.account_id == path[-1]:
        raise PermissionDeniedError(
            "OWN_PRICE_NOT_PERMITTED",
            "The plans of an account are its price and are set by the account above it. Ask that account.",
        )


def _require_charged(account: Account) -> None:
    if account.kind is AccountKind.SUB_ACCOUNT or not account.parent_id:
        raise FailedPreconditionError(
            "ACCOUNT_NOT_CHARGED",
            f"Account {account.id} is a {account.kind.name}, which no account charges. "
            "Assign the plan to the enterprise or reseller.",
            resource=("account", account.id),
        )
