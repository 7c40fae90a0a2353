"""Networks: import by the OPERATOR, search by everybody within its coverage."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.catalog.domain.networks import Network, is_in_country
from services.catalog.domain.tariffs import require_no_overlap
from services.catalog.ports import NetworkSearch, Store
from services.catalog.usecases.coverage import covered_by
from services.catalog.usecases.rate_zones import reaches
from services.common.errors import invalid, not_found
from services.common.identity import AccountKind, Principal
from services.common.pages import Page, PageRequest


@dataclass(frozen=True, slots=True)
class Imported:
    """How many networks an import created, changed, and found as they are."""

    created: int
    updated: int
    unchanged: int


async def import_networks(store: Store, caller: Principal, networks: Sequence[Network]) -> Imported:
    """Create or update networks by (MCC, MNC), all or nothing. OPERATOR only."""
    caller.require_kind(AccountKind.OPERATOR)
    _require_each_once(networks)
    before = await store.networks.find_many(network.id for network in networks)
    new = [network for network in networks if network.id not in before]
    changed = [network for network in networks if network.id in before and before[network.id] != network]
    await store.networks.put(before, [*new, *changed])
    moved = [network for network in changed if before[network.id].country_code != network.country_code]
    await _announce_zones(
        store,
        {n.country_code for n in new} | {before[n.id].country_code for n in moved} | {n.country_code for n in moved},
    )
    if moved:
        await _require_tariffs_hold(store)
    return Imported(len(new), len(changed), len(networks) - len(new) - len(changed))


def _require_each_once(networks: Sequence[Network]) -> None:
    seen: set[str] = set()
    for index, network in enumerate(networks):
        if network.id in seen:
            raise invalid(f"networks[{index}]", f"{network.mcc}-{network.mnc} stands twice", "NETWORK_TWICE")
        seen.add(network.id)


async def _announce_zones(store: Store, codes: set[str]) -> None:
    """Tell the watchers of zones whose countries have gained or lost networks."""
    zones = await store.rate_zones.below(()) if codes else []
    touched = [z.id for z in zones if any(is_in_country(code, wanted) for wanted in z.country_codes for code in codes)]
    store.rate_zones.announce(touched)


async def _require_tariffs_hold(store: Store) -> None:
    """A network that moves to another country must not meet a second rate of a published tariff."""
    tariffs = await store.tariffs.published()
    zones = await store.rate_zones.find_many(zone for tariff in tariffs for zone in tariff.zone_ids)
    resolved = await reaches(store, zones.values())
    for tariff in tariffs:
        require_no_overlap(tariff, resolved)


async def get_network(store: Store, caller: Principal, network_id: str) -> Network:
    """Return a network that the caller's account covers; the OPERATOR sees all."""
    within = await _visible_to(store, caller)
    found = await store.networks.find_many([network_id])
    if network_id not in found or (within is not None and network_id not in within):
        raise not_found("network", network_id)
    return found[network_id]


async def search_networks(store: Store, caller: Principal, search: NetworkSearch, page: PageRequest) -> Page[Network]:
    """Return a page of the networks that the caller's account covers, by country; the OPERATOR sees all."""
    return await store.networks.page(replace(search, within=await _visible_to(store, caller)), page)


async def _visible_to(store: Store, caller: Principal) -> tuple[str, ...] | None:
    if caller.service or caller.account_kind is AccountKind.OPERATOR:
        return None
    return (await covered_by(store, caller.account_kind, caller.account_path)).network_ids
