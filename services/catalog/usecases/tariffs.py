"""Tariffs: drafts that change, versions that never do [001]."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from services.catalog.domain.coverage import listed
from services.catalog.domain.items import Owner, born, revised
from services.catalog.domain.naming import with_names
from services.catalog.domain.tariffs import (
    Tariff,
    TariffState,
    published,
    require_caps_of_rates,
    require_counters_agree,
    require_exact_prices,
    require_no_overlap,
)
from services.catalog.ports import Store
from services.catalog.usecases.items import get_item, require_name, require_unused
from services.catalog.usecases.rate_zones import reaches
from services.common.errors import FailedPreconditionError, invalid, not_found
from services.common.etags import require_etag
from services.common.identity import Principal


async def create_tariff(store: Store, owner: Owner, draft: Tariff, now_ms: int) -> Tariff:
    """Create a tariff as a draft."""
    tariff = born(replace(draft, version=1, state=TariffState.DRAFT, effective_ms=None), "tar", owner, now_ms)
    tariff = with_names(tariff)
    await require_name(store.tariffs, tariff)
    await _require_sound(store, tariff)
    await store.tariffs.put(None, tariff)
    return tariff


async def get_tariff(store: Store, caller: Principal, tariff_id: str, version: int) -> Tariff:
    """Return a version of a tariff; 0 is the newest."""
    newest = await get_item(store.tariffs, caller, tariff_id)
    if version in {0, newest.version}:
        return newest
    found = await store.tariffs.find_version(tariff_id, version)
    if found is None:
        raise not_found("tariff_version", f"{tariff_id}/{version}")
    return found


async def update_tariff(
    store: Store, caller: Principal, tariff_id: str, etag: str, change: Callable[[Tariff], Tariff], now_ms: int
) -> Tariff:
    """Change the draft; a published tariff gets a new draft and stays in force."""
    current = await get_item(store.tariffs, caller, tariff_id)
    require_etag(current.etag, etag)
    changed = change(current)
    is_frozen = current.state is TariffState.PUBLISHED
    version = current.version + 1 if is_frozen else current.version
    changed = replace(changed, version=version, state=TariffState.DRAFT, effective_ms=None)
    draft = revised(current, with_names(changed, [current, *await _in_force(store, tariff_id)]), now_ms)
    await require_name(store.tariffs, draft)
    await _require_sound(store, draft)
    await store.tariffs.put(current, draft)
    return draft


async def _in_force(store: Store, tariff_id: str) -> Sequence[Tariff]:
    """The version that was published last, if there is one."""
    return (await store.tariffs.published([tariff_id]))[-1:]


async def publish_tariff(
    store: Store, caller: Principal, tariff_id: str, effective_ms: int | None, now_ms: int
) -> Tariff:
    """Freeze the draft if each network has one rate in it and every charge will be exact.

    Raises:
        FailedPreconditionError: NOTHING_TO_PUBLISH, TARIFF_EMPTY, TARIFF_ZONES_OVERLAP, PRICE_OUT_OF_RANGE.
    """
    draft = await get_item(store.tariffs, caller, tariff_id)
    if draft.state is not TariffState.DRAFT:
        raise FailedPreconditionError(
            "NOTHING_TO_PUBLISH", f"Version {draft.version} is published. Update the tariff, then publish the draft."
        )
    earlier = await _in_force(store, tariff_id)
    frozen = published(draft, earlier[0] if earlier else None, effective_ms, now_ms)
    zones = await store.rate_zones.find_many(draft.zone_ids)
    require_no_overlap(draft, await reaches(store, zones.values()))
    require_exact_prices(draft)
    after = revised(draft, frozen, now_ms)
    await store.tariffs.put(draft, after)
    return after


async def delete_tariff(store: Store, caller: Principal, tariff_id: str) -> None:
    """Delete a tariff that was never published and that no plan references."""
    tariff = await get_item(store.tariffs, caller, tariff_id)
    if tariff.state is TariffState.PUBLISHED or tariff.version > 1:
        raise FailedPreconditionError(
            "TARIFF_PUBLISHED", "A tariff that was published is kept: charges were made by it."
        )
    await require_unused(store, store.tariffs, tariff)
    await store.tariffs.delete(tariff)


async def _require_sound(store: Store, tariff: Tariff) -> None:
    require_counters_agree(tariff)
    require_caps_of_rates(tariff)
    await _require_own_zones(store, tariff)
    named = {network_id for rate in tariff.rates for network_id in rate.network_ids}
    if unknown := named - (await store.networks.find_many(named)).keys():
        raise invalid("tariff.rates", f"networks not known: {listed(unknown)}; import them first", "NETWORK_NOT_FOUND")


async def _require_own_zones(store: Store, tariff: Tariff) -> None:
    zones = await store.rate_zones.find_many(tariff.zone_ids)
    for index, rate in enumerate(tariff.rates):
        zone = zones.get(rate.rate_zone_id)
        if rate.rate_zone_id and (zone is None or zone.owner_path != tariff.owner_path):
            raise invalid(
                f"tariff.rates[{index}].rate_zone_id",
                f"the tariff's account {tariff.account_id} has no rate zone {rate.rate_zone_id!r}",
                "REFERENCE_NOT_FOUND",
            )
