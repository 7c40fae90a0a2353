"""The DEFAULT elements that an enterprise is born with [000]."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from services.catalog.domain.coverage import Coverage, CoverageChange
from services.catalog.domain.items import DEFAULT, Item, born_default
from services.catalog.domain.plans import (
    DEFAULT_POSTPAID_PLAN,
    DEFAULT_PREPAID_PLAN,
    ChargingMode,
    Plan,
    PlanState,
    PlanType,
)
from services.catalog.domain.profiles import Apn, ApnGroup, RoamingProfile, ServiceProfile
from services.catalog.ports import Shelf, Store
from services.common.errors import invalid

T = TypeVar("T", bound=Item)

DEFAULT_APN = "iot.meterline"


@dataclass(frozen=True, slots=True)
class Defaults:
    """Ids of the DEFAULT elements of an account; an empty one is missing."""

    service_profile_id: str = ""
    roaming_profile_id: str = ""
    apn_group_id: str = ""
    postpaid_plan_id: str = ""
    prepaid_plan_id: str = ""


async def get_defaults(store: Store, account_id: str) -> Defaults:
    """Return what an account has."""
    plans = {plan.name: plan.id for plan in await store.plans.find_managed(account_id)}
    return Defaults(
        service_profile_id=_only(await store.service_profiles.find_managed(account_id)),
        roaming_profile_id=_only(await store.roaming_profiles.find_managed(account_id)),
        apn_group_id=_only(await store.apn_groups.find_managed(account_id)),
        postpaid_plan_id=plans.get(DEFAULT_POSTPAID_PLAN, ""),
        prepaid_plan_id=plans.get(DEFAULT_PREPAID_PLAN, ""),
    )


def _only(items: Sequence[Item]) -> str:
    return items[0].id if items else ""


async def provision_defaults(
    store: Store, account_id: str, path: tuple[str, ...], currency: str, now_ms: int
) -> Defaults:
    """Create the DEFAULT elements of an account, with its parent's coverage; what exists stays as it is.

    The default plans have no tariff: nothing beyond a benefit or an add-on is allowed, so nothing is ever charged
    that was not bought (R033, R035).

    Args:
        store: the catalogue.
        account_id: the new account.
        path: ids from the OPERATOR down to it.
        currency: ISO 4217 code, for the plans.
        now_ms: the time of the write.
    """
    if len(path) < 2 or path[-1] != account_id:
        raise invalid("account_path", "leads from the OPERATOR to the account, both included", "ACCOUNT_PATH_INVALID")
    if await store.coverages.find(account_id) is None:
        parent = await store.coverages.find(path[-2])
        networks = parent.network_ids if parent else ()
        await store.coverages.put([(Coverage(path, networks), CoverageChange(added=networks))])

    async def keep(shelf: Shelf[T], prefix: str, draft: T) -> str:
        item = born_default(draft, prefix, path, now_ms)
        if await shelf.find(item.id) is None:
            await shelf.put(None, item)
        return item.id

    services = await keep(store.service_profiles, "svp", ServiceProfile(name=DEFAULT))
    roaming = await keep(store.roaming_profiles, "rop", RoamingProfile(name=DEFAULT))
    baseline = Plan(
        type=PlanType.BASE,
        state=PlanState.PUBLISHED,
        currency=currency,
        service_profile_id=services,
        roaming_profile_id=roaming,
    )
    postpaid = replace(baseline, name=DEFAULT_POSTPAID_PLAN, charging_mode=ChargingMode.POSTPAID)
    prepaid = replace(baseline, name=DEFAULT_PREPAID_PLAN, charging_mode=ChargingMode.PREPAID)
    return Defaults(
        service_profile_id=services,
        roaming_profile_id=roaming,
        apn_group_id=await keep(store.apn_groups, "apn", ApnGroup(name=DEFAULT, apns=(Apn(DEFAULT_APN),))),
        postpaid_plan_id=await keep(store.plans, "pln", postpaid),
        prepaid_plan_id=await keep(store.plans, "pln", prepaid),
    )
