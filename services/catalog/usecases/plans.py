"""Plans: drafts, published versions, clones; base and add-on by the same verbs [001]."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

from services.catalog.domain.items import DEFAULT, Item, Owner, born, require_free_name, revised
from services.catalog.domain.plan_rules import (
    completed,
    next_version,
    require_coherent,
    require_fits_profile,
    require_known_accounts,
    require_own,
    require_publishable,
    require_state,
)
from services.catalog.domain.plans import RESERVED_NAMES, Plan, PlanState
from services.catalog.ports import Accounts, ListFilter, Shelf, Store
from services.catalog.usecases.items import require_name
from services.common.errors import FailedPreconditionError, PermissionDeniedError, not_found
from services.common.etags import require_etag
from services.common.identity import AccountKind, Principal
from services.common.pages import Page, PageRequest

T = TypeVar("T", bound=Item)

KIND = "plan"


def designations_of(caller: Principal) -> tuple[str, ...]:
    """The accounts whose designated plans a caller sees: its own; inside an enterprise, the enterprise's too."""
    own = 2 if caller.account_kind is AccountKind.SUB_ACCOUNT else 1
    return caller.account_path[-own:]


async def accounts_below(accounts: Accounts, owner: Owner, account_ids: Iterable[str]) -> frozenset[str]:
    """Return those of the accounts that are below the owner, to whom its plans can be designated."""
    wanted = frozenset(account_ids) - {owner.id}
    found = await accounts.get_many(wanted) if wanted else {}
    return frozenset(account_id for account_id, account in found.items() if owner.id in account.path)


async def create_plan(store: Store, owner: Owner, draft: Plan, below: frozenset[str], now_ms: int) -> Plan:
    """Create a plan as a draft.

    Args:
        store: the catalogue.
        owner: the account that will own it.
        draft: what the caller says of it.
        below: accounts below the owner, out of those that the plan is designated to.
        now_ms: the time of the write.
    """
    require_known_accounts(sorted(frozenset(draft.designated_account_ids) - below))
    require_free_name(draft.name, RESERVED_NAMES, "plan.name")
    plan = completed(born(replace(draft, version=1, state=PlanState.DRAFT), "pln", owner, now_ms))
    await _require_sound(store, owner, plan)
    await store.plans.put(None, plan)
    return plan


async def get_plan(store: Store, caller: Principal, plan_id: str, version: int = 0) -> Plan:
    """Return a version of a plan of the caller's subtree, or designated to the caller; 0 is the newest."""
    newest = await store.plans.find(plan_id)
    if newest is None or not _is_visible(caller, newest):
        raise not_found(KIND, plan_id)
    if version in {0, newest.version}:
        return newest
    found = await store.plans.find_version(plan_id, version)
    if found is None:
        raise not_found("plan_version", f"{plan_id}/{version}")
    return found


def _is_visible(caller: Principal, plan: Plan) -> bool:
    return caller.sees(plan.owner_path) or not set(designations_of(caller)).isdisjoint(plan.designated_account_ids)


async def get_own_plan(store: Store, caller: Principal, plan_id: str) -> Plan:
    """Return a plan that the caller may change; a plan that is only designated to it is another's."""
    plan = await get_plan(store, caller, plan_id)
    if not caller.sees(plan.owner_path):
        raise PermissionDeniedError(
            "PLAN_OF_OTHER_ACCOUNT", "The plan is designated to this account, not owned by it: it can only be used."
        )
    return plan


async def list_plans(store: Store, caller: Principal, which: ListFilter, page: PageRequest) -> Page[Plan]:
    """Return a page of the plans (newest versions) that the caller sees, oldest first."""
    mine = replace(which, below=caller.account_path, designated_to=designations_of(caller))
    return await store.plans.page(mine, page)


async def update_plan(
    store: Store,
    caller: Principal,
    owner: Owner,
    plan_id: str,
    etag: str,
    change: Callable[[Plan], Plan],
    below: frozenset[str],
    now_ms: int,
) -> Plan:
    """Change a draft in place; a published plan gets a new published version. Arguments as of `create_plan`."""
    current = await get_own_plan(store, caller, plan_id)
    require_etag(current.etag, etag)
    after = next_version(current, completed(revised(current, change(current), now_ms)))
    known = below.union(current.designated_account_ids)
    require_known_accounts(sorted(frozenset(after.designated_account_ids) - known))
    if after.name != current.name:
        require_free_name(after.name, RESERVED_NAMES, "plan.name")
    await _require_sound(store, owner, after)
    if after.state is PlanState.PUBLISHED:
        await _require_publishable(store, after)
    await store.plans.put(current, after)
    return after


async def publish_plan(store: Store, caller: Principal, plan_id: str, now_ms: int) -> Plan:
    """Publish a draft so that it can be assigned."""
    draft = await get_own_plan(store, caller, plan_id)
    require_state(draft, PlanState.DRAFT, "published")
    await _require_publishable(store, draft)
    after = revised(draft, replace(draft, state=PlanState.PUBLISHED), now_ms)
    await store.plans.put(draft, after)
    return after


async def retire_plan(store: Store, caller: Principal, plan_id: str, now_ms: int) -> Plan:
    """End new assignments; those that exist go on. Retiring a retired plan changes nothing."""
    plan = await get_own_plan(store, caller, plan_id)
    if plan.state is PlanState.RETIRED:
        return plan
    if plan.system_managed:
        raise FailedPreconditionError("SYSTEM_MANAGED", f"{plan.name} is the baseline of its account and stays.")
    require_state(plan, PlanState.PUBLISHED, "retired")
    after = revised(plan, replace(plan, state=PlanState.RETIRED), now_ms)
    await store.plans.put(plan, after)
    return after


async def clone_plan(store: Store, caller: Principal, plan_id: str, name: str, target: Owner, now_ms: int) -> Plan:
    """Copy the newest version as a draft. For another account, its DEFAULT profiles stand for the original's."""
    original = await get_own_plan(store, caller, plan_id)
    require_free_name(name, RESERVED_NAMES, "name")
    copy = replace(original, name=name, version=1, state=PlanState.DRAFT)
    if target.id != original.account_id:
        copy = replace(
            copy,
            service_profile_id=await _counterpart(store.service_profiles, copy.service_profile_id, target),
            roaming_profile_id=await _counterpart(store.roaming_profiles, copy.roaming_profile_id, target),
            designated_account_ids=(),
        )
    plan = born(copy, "pln", target, now_ms)
    await _require_sound(store, target, plan)
    await store.plans.put(None, plan)
    return plan


async def _counterpart(shelf: Shelf[T], object_id: str, target: Owner) -> str:
    """The target account's DEFAULT for an original's DEFAULT; anything else stays, and has to be the target's own."""
    original = await shelf.find(object_id) if object_id else None
    if original is None or not original.system_managed:
        return object_id
    return await shelf.holder_of_name(target.id, DEFAULT) or object_id


async def delete_plan(store: Store, caller: Principal, plan_id: str) -> None:
    """Delete a draft that was never published."""
    plan = await get_own_plan(store, caller, plan_id)
    require_state(plan, PlanState.DRAFT, "deleted")
    await store.plans.delete(plan)


async def _require_sound(store: Store, owner: Owner, plan: Plan) -> None:
    """Raise unless the plan agrees with itself, its name is free, and all that it references is its account's own."""
    require_coherent(plan, owner)
    await require_name(store.plans, plan)
    profile = await store.service_profiles.find(plan.service_profile_id)
    require_own(plan, "service_profile_id", plan.service_profile_id, profile)
    if profile is not None:
        require_fits_profile(plan, profile)
    if plan.roaming_profile_id:
        roaming = await store.roaming_profiles.find(plan.roaming_profile_id)
        require_own(plan, "roaming_profile_id", plan.roaming_profile_id, roaming)
    if plan.tariff_id:
        require_own(plan, "tariff_id", plan.tariff_id, await store.tariffs.find(plan.tariff_id))
    await _require_own_zones(store, plan)


async def _require_own_zones(store: Store, plan: Plan) -> None:
    zones = await store.rate_zones.find_many(plan.zone_ids)
    for zone_id in plan.rate_zone_ids:
        require_own(plan, "rate_zone_ids", zone_id, zones.get(zone_id))
    for index, benefit in enumerate(plan.benefits):
        field = f"benefits[{index}]"
        for zone_id in benefit.rate_zone_ids:
            require_own(plan, f"{field}.rate_zone_ids", zone_id, zones.get(zone_id))
        for number, weight in enumerate(benefit.weights):
            for zone_id in weight.rate_zone_ids:
                require_own(plan, f"{field}.weights[{number}].rate_zone_ids", zone_id, zones.get(zone_id))


async def _require_publishable(store: Store, plan: Plan) -> None:
    versions = await store.tariffs.published([plan.tariff_id]) if plan.tariff_id else []
    require_publishable(plan, versions[-1] if versions else None)
