"""Coverage: given by the account above, taken back with all that stands on it [000]."""

from services.catalog.domain.coverage import (
    Coverage,
    CoverageChange,
    Selection,
    networks_to_add,
    networks_to_remove,
)
from services.catalog.domain.items import Owner, require_can_own, revised
from services.catalog.ports import Store
from services.common.errors import PermissionDeniedError
from services.common.identity import AccountKind, Principal


async def covered_by(store: Store, kind: AccountKind, path: tuple[str, ...]) -> Coverage:
    """Return the coverage of an account; a SUB_ACCOUNT uses its enterprise's."""
    holder = path[:-1] if kind is AccountKind.SUB_ACCOUNT else path
    found = await store.coverages.find(holder[-1])
    return Coverage(path, found.network_ids if found else ())


def require_grants(caller: Principal, account: Owner, what: str) -> None:
    """Raise PERMISSION_DENIED if the caller would grant something to itself; only the OPERATOR does that."""
    if account.id == caller.account_id and account.kind is not AccountKind.OPERATOR:
        raise PermissionDeniedError(
            "GRANTED_BY_PARENT", f"The {what} of an account is set by an account above it, not by itself."
        )


async def add_coverage(store: Store, caller: Principal, account: Owner, selection: Selection) -> Coverage:
    """Add networks within the parent's coverage; the DEFAULT roaming profile gains them, custom ones do not (R014)."""
    require_can_own(account)
    require_grants(caller, account, "coverage")
    selection.require_something()
    current = await covered_by(store, account.kind, account.path)
    parent = await store.coverages.find(account.path[-2]) if len(account.path) > 1 else None
    bound = None if len(account.path) == 1 else frozenset(parent.network_ids if parent else ())
    added = networks_to_add(selection, await store.networks.all(), bound) - frozenset(current.network_ids)
    if not added:
        return current
    after = Coverage(account.path, tuple(sorted(added.union(current.network_ids))))
    await store.coverages.put([(after, CoverageChange(added=tuple(sorted(added))))])
    return after


async def remove_coverage(
    store: Store, caller: Principal, account: Owner, selection: Selection, now_ms: int
) -> Coverage:
    """Remove networks here and from all accounts below, and from their custom roaming profiles (R012, R016)."""
    require_can_own(account)
    require_grants(caller, account, "coverage")
    selection.require_something()
    current = await covered_by(store, account.kind, account.path)
    removed = networks_to_remove(selection, await store.networks.all(), frozenset(current.network_ids))
    if not removed:
        return current
    changes = []
    for coverage in await store.coverages.below(account.path):
        if gone := removed.intersection(coverage.network_ids):
            left = tuple(network for network in coverage.network_ids if network not in gone)
            changes.append((Coverage(coverage.owner_path, left), CoverageChange(removed=tuple(sorted(gone)))))
    await store.coverages.put(changes)
    for profile in await store.roaming_profiles.below(account.path):
        if not profile.system_managed and removed.intersection(profile.network_ids):
            left = tuple(network for network in profile.network_ids if network not in removed)
            await store.roaming_profiles.put(profile, revised(profile, profile.with_networks(left), now_ms))
    return Coverage(account.path, tuple(network for network in current.network_ids if network not in removed))


async def get_coverage(store: Store, account: Owner) -> Coverage:
    """Return the coverage of an account, empty if it has none."""
    return await covered_by(store, account.kind, account.path)
