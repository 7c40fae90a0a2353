"""Service scopes: what an account may use under its commercial agreement [000]."""

from services.catalog.domain.items import Owner, require_can_own
from services.catalog.domain.profiles import require_within_scope
from services.catalog.domain.services import Scope, canonical, intersection, outside
from services.catalog.ports import Store
from services.catalog.usecases.coverage import require_grants
from services.common.errors import FailedPreconditionError
from services.common.identity import Principal


async def set_scope(store: Store, caller: Principal, account: Owner, services: Scope) -> Scope:
    """Grant services to an account, within its parent's scope; DEFAULT profiles below follow (R005).

    Raises:
        FailedPreconditionError: SERVICE_OUTSIDE_SCOPE; SERVICE_SCOPE_IN_USE where a custom profile would be left
            wider, or an account below without any service.
    """
    require_can_own(account)
    require_grants(caller, account, "service scope")
    granted = canonical(services, "services")
    above = await store.scopes.effective(account.path[:-1])
    require_within_scope(granted, above)
    await _require_custom_profiles_fit(store, account.path, granted, above)
    await store.scopes.put(account.path, granted)
    return granted


async def _require_custom_profiles_fit(store: Store, path: tuple[str, ...], granted: Scope, above: Scope) -> None:
    own = await store.scopes.below(path) | {path: granted}
    for profile in await store.service_profiles.below(path):
        scope = intersection([above, *(own[part] for part in own if profile.owner_path[: len(part)] == part)])
        wider = not scope if profile.system_managed else outside(profile.services, scope)
        if wider:
            raise FailedPreconditionError(
                "SERVICE_SCOPE_IN_USE",
                f"Service profile {profile.name!r} ({profile.id}) of {profile.account_id} would be left "
                f"{'empty' if profile.system_managed else 'wider than the scope'}. Delete it or keep its services.",
                metadata={"service_profile_id": profile.id, "account_id": profile.account_id},
            )


async def get_scope(store: Store, account: Owner) -> Scope:
    """Return what an account may use."""
    return await store.scopes.effective(account.path)
