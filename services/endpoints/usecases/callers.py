"""Who may do what: the questions that several use cases ask of a caller [003]."""

from services.common.errors import FailedPreconditionError
from services.common.identity import READERS, WRITERS, AccountKind, Principal
from services.endpoints.ports import Account, Accounts


def require_reader(caller: Principal) -> None:
    """Raise PERMISSION_DENIED unless the caller may read."""
    caller.require_role(*READERS)


def require_endpoint_writer(caller: Principal) -> None:
    """Raise PERMISSION_DENIED unless an ENTERPRISE or SUB_ACCOUNT writes: only they have endpoints (R258, R267)."""
    caller.require_role(*WRITERS)
    caller.require_kind(AccountKind.ENTERPRISE, AccountKind.SUB_ACCOUNT)


async def visible_account(accounts: Accounts, caller: Principal, account_id: str) -> Account:
    """Return an account in the caller's subtree, or raise NOT_FOUND."""
    account = await accounts.get(account_id)
    caller.require_sees(account.path, "account", account_id)
    return account


def require_not_terminated(account: Account) -> None:
    """Raise FAILED_PRECONDITION for an account that has ended."""
    if account.state == "TERMINATED":
        raise FailedPreconditionError(
            "ACCOUNT_TERMINATED",
            f"Account {account.id} is TERMINATED, which is final. Take another account.",
            resource=("account", account.id),
        )
