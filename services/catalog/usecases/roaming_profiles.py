"""Roaming profiles: DEFAULT is the coverage, custom ones lie within it [000]."""

from collections.abc import Callable
from dataclasses import replace

from services.catalog.domain.items import (
    DEFAULT,
    Owner,
    born,
    require_free_name,
    require_not_system_managed,
    revised,
)
from services.catalog.domain.profiles import RoamingProfile, require_within_coverage
from services.catalog.ports import Store
from services.catalog.usecases.coverage import covered_by
from services.catalog.usecases.items import get_item, require_name, require_unused
from services.common.etags import require_etag
from services.common.identity import AccountKind, Principal


async def create_roaming_profile(store: Store, owner: Owner, draft: RoamingProfile, now_ms: int) -> RoamingProfile:
    """Create a custom roaming profile within the coverage of its account (R017)."""
    require_free_name(draft.name, (DEFAULT,), "roaming_profile.name")
    require_within_coverage(draft.network_ids, (await covered_by(store, owner.kind, owner.path)).network_ids)
    profile = born(draft, "rop", owner, now_ms)
    await require_name(store.roaming_profiles, profile)
    await store.roaming_profiles.put(None, profile)
    return profile


async def update_roaming_profile(
    store: Store,
    caller: Principal,
    profile_id: str,
    etag: str,
    change: Callable[[RoamingProfile], RoamingProfile],
    now_ms: int,
) -> RoamingProfile:
    """Change a roaming profile; the networks of DEFAULT cannot be changed by hand."""
    current = await get_item(store.roaming_profiles, caller, profile_id)
    require_etag(current.etag, etag)
    changed = change(current)
    if changed.network_ids != current.network_ids:
        require_not_system_managed(current, "its networks follow the coverage of the account")
        covered = await store.coverages.find(current.account_id)
        require_within_coverage(changed.network_ids, covered.network_ids if covered else ())
    if changed.name != current.name:
        require_not_system_managed(current, "its name stays")
        require_free_name(changed.name, (DEFAULT,), "roaming_profile.name")
    after = revised(current, changed, now_ms)
    await require_name(store.roaming_profiles, after)
    await store.roaming_profiles.put(current, after)
    return after


async def clone_roaming_profile(
    store: Store, caller: Principal, profile_id: str, name: str, now_ms: int
) -> RoamingProfile:
    """Copy a roaming profile under a new name; the copy of DEFAULT is a custom one and follows coverage no more."""
    original = await get_item(store.roaming_profiles, caller, profile_id)
    require_free_name(name, (DEFAULT,), "name")
    profile = born(replace(original, name=name), "rop", Owner(AccountKind.ENTERPRISE, original.owner_path), now_ms)
    await require_name(store.roaming_profiles, profile)
    await store.roaming_profiles.put(None, profile)
    return profile


async def delete_roaming_profile(store: Store, caller: Principal, profile_id: str) -> None:
    """Delete a custom roaming profile that no plan references."""
    profile = await get_item(store.roaming_profiles, caller, profile_id)
    require_not_system_managed(profile, "it cannot be deleted")
    await require_unused(store, store.roaming_profiles, profile)
    await store.roaming_profiles.delete(profile)
