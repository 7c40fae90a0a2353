"""Which plans a caller may assign to what."""

from collections.abc import Callable, Collection, Mapping

from services.common.errors import NotFoundError, not_found
from services.common.identity import Principal
from services.endpoints.domain.plans import Plan, not_available
from services.endpoints.ports import Accounts, Catalog


async def usable_plans(
    accounts: Accounts,
    catalog: Catalog,
    caller: Principal,
    plan_ids: Collection[str],
    account_id: str,
    serves: Callable[[Plan], bool],
) -> Mapping[str, Plan]:
    """Return plans that may be assigned to something of an account, by id.

    Raises:
        NotFoundError: a plan does not exist or is none of the caller's business.
        FailedPreconditionError: PLAN_NOT_AVAILABLE, the caller sees it, but `serves` says no.
    """
    if not plan_ids:
        return {}
    plans = await catalog.plans(plan_ids)
    for plan_id in plan_ids:
        if plan_id not in plans:
            raise not_found("plan", plan_id)
        if not serves(plan := plans[plan_id]):
            raise not_available(plan, account_id) if await _sees(accounts, caller, plan) else not_found("plan", plan_id)
    return plans


async def _sees(accounts: Accounts, caller: Principal, plan: Plan) -> bool:
    if caller.account_id in plan.designated_account_ids:
        return True
    try:
        owner = await accounts.get(plan.account_id)
    except NotFoundError:
        return False
    return caller.sees(owner.path)
