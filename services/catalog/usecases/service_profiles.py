"""Service profiles: create, change until a plan references them, clone, delete [001]."""

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
from services.catalog.domain.profiles import ServiceProfile, require_within_scope
from services.catalog.domain.services import canonical
from services.catalog.ports import Store
from services.catalog.usecases.items import get_item, require_name, require_unused
from services.common.errors import FailedPreconditionError
from services.common.etags import require_etag
from services.common.identity import Principal

_SERVICES = "service_profile.services"


async def create_service_profile(store: Store, owner: Owner, draft: ServiceProfile, now_ms: int) -> ServiceProfile:
    """Create a service profile within the scope of its account (R008)."""
    require_free_name(draft.name, (DEFAULT,), "service_profile.name")
    services = canonical(draft.services, _SERVICES)
    require_within_scope(services, await store.scopes.effective(owner.path))
    profile = born(draft.with_services(services), "svp", owner, now_ms)
    await require_name(store.service_profiles, profile)
    await store.service_profiles.put(None, profile)
    return profile


async def update_service_profile(
    store: Store,
    caller: Principal,
    profile_id: str,
    etag: str,
    change: Callable[[ServiceProfile], ServiceProfile],
    now_ms: int,
) -> ServiceProfile:
    """Change a service profile; its services only until a plan references it (R045)."""
    current = await get_item(store.service_profiles, caller, profile_id)
    require_etag(current.etag, etag)
    changed = change(current)
    changed = changed.with_services(canonical(changed.services, _SERVICES))
    if changed.services != current.services:
        require_not_system_managed(current, "its services follow the scope of the account")
        await _require_not_frozen(store, current)
        require_within_scope(changed.services, await store.scopes.effective(current.owner_path))
    if changed.name != current.name:
        require_not_system_managed(current, "its name stays")
        require_free_name(changed.name, (DEFAULT,), "service_profile.name")
    after = revised(current, changed, now_ms)
    await require_name(store.service_profiles, after)
    await store.service_profiles.put(current, after)
    return after


async def _require_not_frozen(store: Store, profile: ServiceProfile) -> None:
    if sources := await store.references.sources(profile.id):
        raise FailedPreconditionError(
            "SERVICE_PROFILE_FROZEN",
            f"Plan {sources[0]} references {profile.name!r}: its services cannot change any more. Clone the profile "
            "and use the copy in a new plan.",
            metadata={"referenced_by": ", ".join(sources[:10])},
        )


async def clone_service_profile(
    store: Store, caller: Principal, profile_id: str, name: str, now_ms: int
) -> ServiceProfile:
    """Copy a service profile under a new name; the copy of DEFAULT is a custom one."""
    original = await get_item(store.service_profiles, caller, profile_id)
    require_free_name(name, (DEFAULT,), "name")
    copy = replace(original, name=name)
    profile = born(copy, "svp", Owner(caller.account_kind, original.owner_path), now_ms)
    await require_name(store.service_profiles, profile)
    await store.service_profiles.put(None, profile)
    return profile


async def delete_service_profile(store: Store, caller: Principal, profile_id: str) -> None:
    """Delete a custom service profile that no plan references."""
    profile = await get_item(store.service_profiles, caller, profile_id)
    require_not_system_managed(profile, "it cannot be deleted")
    await require_unused(store, store.service_profiles, profile)
    await store.service_profiles.delete(profile)
