"""What rating reads: plan versions with all that they reference, in a handful of queries however many there are."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from services.catalog.domain.plans import Plan, PlanState
from services.catalog.domain.profiles import RoamingProfile, ServiceProfile
from services.catalog.domain.tariffs import Tariff
from services.catalog.domain.zones import RateZone
from services.catalog.ports import Store
from services.catalog.usecases.rate_zones import reaches


@dataclass(frozen=True, slots=True)
class PlanVersions:
    """Plan versions with all that they reference; the zones resolved to networks."""

    plans: list[Plan]
    tariffs: list[Tariff]
    rate_zones: list[RateZone]
    service_profiles: list[ServiceProfile]
    roaming_profiles: list[RoamingProfile]


async def batch_get_plan_versions(store: Store, keys: Iterable[tuple[str, int]]) -> PlanVersions:
    """Return those of the plan versions that exist; version 0 is the newest published one."""
    wanted = set(keys)
    newest = await store.plans.find_many(plan_id for plan_id, version in wanted if version == 0)
    plans = {(p.id, p.version): p for p in newest.values() if p.state is not PlanState.DRAFT}
    exact = {key for key in wanted if key[1] != 0} - plans.keys()
    plans |= {(p.id, p.version): p for p in await store.plans.find_versions(exact)}
    tariffs = await store.tariffs.published({p.tariff_id for p in plans.values() if p.tariff_id})
    zone_ids = frozenset().union(*(plan.zone_ids for plan in plans.values()), *(t.zone_ids for t in tariffs))
    services = await store.service_profiles.find_many(plan.service_profile_id for plan in plans.values())
    roaming = await store.roaming_profiles.find_many(
        p.roaming_profile_id for p in plans.values() if p.roaming_profile_id
    )
    return PlanVersions(
        plans=[plans[key] for key in sorted(plans)],
        tariffs=tariffs,
        rate_zones=await _resolved(store, (await store.rate_zones.find_many(zone_ids)).values()),
        service_profiles=list(services.values()),
        roaming_profiles=list(roaming.values()),
    )


async def _resolved(store: Store, zones: Iterable[RateZone]) -> list[RateZone]:
    wanted = list(zones)
    reach = await reaches(store, wanted)
    return [replace(zone, network_ids=tuple(sorted(reach[zone.id].network_ids))) for zone in wanted]
