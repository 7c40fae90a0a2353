"""The commercial terms of an account: what they may be, and who sets them."""

from services.accounts.domain.accounts import INHERITED, SET_FROM_ABOVE, Account
from services.accounts.usecases.changes import require_none
from services.accounts.usecases.formats import wrong_currency, wrong_time_zone
from services.common.errors import FieldViolation, PermissionDeniedError
from services.common.identity import AccountKind, Principal


def require_good_terms(account: Account) -> None:
    """Raise INVALID_ARGUMENT that names each wrong code."""
    limit = account.credit_limit
    wrong = {
        "currency": wrong_currency(account.currency),
        "time_zone": wrong_time_zone(account.time_zone),
        "credit_limit": (
            f"must be in the account's currency, {account.currency}, not {limit.currency}"
            if limit is not None and limit.currency != account.currency
            else ""
        ),
        "name": "" if account.name.strip() else "is required",
    }
    require_none([FieldViolation(f"account.{name}", what) for name, what in wrong.items() if what])


def require_may_set(caller: Principal, before: Account, after: Account) -> None:
    """Raise unless the caller may set the terms that a change touches.

    Raises:
        InvalidArgumentError: FIELD_INHERITED, a SUB_ACCOUNT's terms are its parent's.
        PermissionDeniedError: SET_FROM_ABOVE, an account does not set its own terms (R185, model e-16).
    """
    touched = [name for name in INHERITED if getattr(before, name) != getattr(after, name)]
    if before.kind is AccountKind.SUB_ACCOUNT:
        require_none([
            FieldViolation(f"account.{name}", "is the parent's for a SUB_ACCOUNT; change it there", "FIELD_INHERITED")
            for name in touched
        ])  # fmt: skip
    if caller.service or caller.account_id != before.id:
        return
    own = [name for name in touched if name in SET_FROM_ABOVE]
    if before.kind is AccountKind.OPERATOR:  # nobody is above: it keeps its own house, and owes nobody
        own = [name for name in own if name == "credit_limit"]
    if own:
        raise PermissionDeniedError(
            "SET_FROM_ABOVE",
            f"An account does not set its own {', '.join(own)}; the account above it does.",
            metadata={"fields": ",".join(own)},
            resource=("account", before.id),
        )
