"""What an account still needs before it can become ACTIVE (R228, R241)."""

from collections.abc import Sequence

from services.accounts.domain.accounts import Account
from services.accounts.ports import Catalog, Defaults
from services.common.errors import FailedPreconditionError
from services.common.identity import AccountKind

_DEFAULTS = {
    "SERVICE_PROFILE_DEFAULT": "service_profile_id",
    "ROAMING_PROFILE_DEFAULT": "roaming_profile_id",
    "APN_GROUP_DEFAULT": "apn_group_id",
    "PRICE_PLAN_DEFAULT": "plan_id",
}


async def missing_of(catalog: Catalog, account: Account) -> Sequence[str]:
    """Return the names of what an account lacks.

    A RESELLER needs no defaults; a SUB_ACCOUNT uses those of its enterprise.
    """
    if account.kind not in {AccountKind.ENTERPRISE, AccountKind.SUB_ACCOUNT}:
        return ()
    return lacking_of(await catalog.defaults(account.master_id))


def lacking_of(defaults: Defaults) -> Sequence[str]:
    """Return the names of the defaults that are not there."""
    return tuple(name for name, attribute in _DEFAULTS.items() if not getattr(defaults, attribute))


def require_nothing_missing(account: Account, missing: Sequence[str]) -> None:
    """Raise FAILED_PRECONDITION ACCOUNT_NOT_READY that lists exactly what is missing."""
    if missing:
        raise FailedPreconditionError(
            "ACCOUNT_NOT_READY",
            f"Account {account.id} cannot become ACTIVE without {', '.join(missing)}. Provide them, then activate it.",
            metadata={"missing": ",".join(missing)},
            resource=("account", account.id),
        )
