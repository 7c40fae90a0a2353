"""APN groups: create, change (DEFAULT too), delete [000] [002]."""

from collections.abc import Callable

from services.catalog.domain.items import (
    DEFAULT,
    Owner,
    born,
    require_free_name,
    require_not_system_managed,
    revised,
)
from services.catalog.domain.profiles import ApnGroup, require_distinct_apns
from services.catalog.ports import Store
from services.catalog.usecases.items import get_item, require_name
from services.common.etags import require_etag
from services.common.identity import Principal


async def create_apn_group(store: Store, owner: Owner, draft: ApnGroup, now_ms: int) -> ApnGroup:
    """Create an APN group."""
    require_free_name(draft.name, (DEFAULT,), "apn_group.name")
    require_distinct_apns(draft.apns)
    group = born(draft, "apn", owner, now_ms)
    await require_name(store.apn_groups, group)
    await store.apn_groups.put(None, group)
    return group


async def update_apn_group(
    store: Store, caller: Principal, group_id: str, etag: str, change: Callable[[ApnGroup], ApnGroup], now_ms: int
) -> ApnGroup:
    """Change an APN group; the APNs of DEFAULT too, not its name (R020)."""
    current = await get_item(store.apn_groups, caller, group_id)
    require_etag(current.etag, etag)
    changed = change(current)
    require_distinct_apns(changed.apns)
    if changed.name != current.name:
        require_not_system_managed(current, "its name stays")
        require_free_name(changed.name, (DEFAULT,), "apn_group.name")
    after = revised(current, changed, now_ms)
    await require_name(store.apn_groups, after)
    await store.apn_groups.put(current, after)
    return after


async def delete_apn_group(store: Store, caller: Principal, group_id: str) -> None:
    """Delete an APN group that is not DEFAULT."""
    group = await get_item(store.apn_groups, caller, group_id)
    require_not_system_managed(group, "it cannot be deleted")
    await store.apn_groups.delete(group)
