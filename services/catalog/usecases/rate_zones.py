"""Rate zones: create, change while published tariffs stay unambiguous, delete when unused [001]."""

from collections.abc import Callable, Iterable

from services.catalog.domain.coverage import listed
from services.catalog.domain.items import Owner, born, revised
from services.catalog.domain.tariffs import require_no_overlap
from services.catalog.domain.zones import RateZone, ZoneReach
from services.catalog.ports import Store
from services.catalog.usecases.items import get_item, require_name, require_unused
from services.common.errors import invalid
from services.common.etags import require_etag
from services.common.identity import Principal


async def reaches(store: Store, zones: Iterable[RateZone]) -> dict[str, ZoneReach]:
    """Resolve the countries of zones, by zone id."""
    wanted = list(zones)
    countries = await store.networks.countries() if any(zone.country_codes for zone in wanted) else []
    return {zone.id: zone.reach(countries) for zone in wanted}


async def create_rate_zone(store: Store, owner: Owner, draft: RateZone, now_ms: int) -> RateZone:
    """Create a rate zone."""
    await _require_networks(store, draft)
    zone = born(draft, "zon", owner, now_ms)
    await require_name(store.rate_zones, zone)
    await store.rate_zones.put(None, zone)
    return zone


async def update_rate_zone(
    store: Store, caller: Principal, zone_id: str, etag: str, change: Callable[[RateZone], RateZone], now_ms: int
) -> RateZone:
    """Change a rate zone, unless a published tariff would then have two rates for one network."""
    current = await get_item(store.rate_zones, caller, zone_id)
    require_etag(current.etag, etag)
    after = revised(current, change(current), now_ms)
    await _require_networks(store, after)
    await require_name(store.rate_zones, after)
    await _require_tariffs_hold(store, after)
    await store.rate_zones.put(current, after)
    return after


async def delete_rate_zone(store: Store, caller: Principal, zone_id: str) -> None:
    """Delete a rate zone that no tariff or plan references."""
    zone = await get_item(store.rate_zones, caller, zone_id)
    await require_unused(store, store.rate_zones, zone)
    await store.rate_zones.delete(zone)


async def _require_networks(store: Store, zone: RateZone) -> None:
    if unknown := set(zone.network_ids) - (await store.networks.find_many(zone.network_ids)).keys():
        raise invalid("rate_zone.network_ids", f"not known: {listed(unknown)}; import them first", "NETWORK_NOT_FOUND")


async def _require_tariffs_hold(store: Store, changed: RateZone) -> None:
    sources = await store.references.sources(changed.id)
    tariffs = [t for t in await store.tariffs.published(sources) if changed.id in t.zone_ids]
    zones = await store.rate_zones.find_many(zone_id for tariff in tariffs for zone_id in tariff.zone_ids)
    resolved = await reaches(store, (zones | {changed.id: changed}).values())
    for tariff in tariffs:
        require_no_overlap(tariff, resolved)
