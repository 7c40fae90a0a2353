"""Creating endpoints, one or a thousand, with their SIMs, base plans and add-ons in one transaction."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from services.common.errors import FailedPreconditionError, MeterlineError, invalid, not_found
from services.common.identity import AccountKind, Principal
from services.common.ids import new_id
from services.endpoints.domain.assignments import Assignment, assign
from services.endpoints.domain.endpoints import Endpoint, EndpointState, no_base_plan
from services.endpoints.domain.plans import Plan, PlanType
from services.endpoints.domain.sims import Sim, require_usable_by
from services.endpoints.ports import Account, Accounts, Catalog, Defaults, Store
from services.endpoints.usecases.callers import require_endpoint_writer, require_not_terminated, visible_account
from services.endpoints.usecases.plans import usable_plans


@dataclass(frozen=True, slots=True)
class NewEndpoint:
    """An endpoint as its creator wants it; what is empty is the account's default.

    Attributes:
        account_id: its owner; empty means the caller's account.
        name: name.
        sim_id: SIM to link; empty means none, and the endpoint is born DEACTIVATED.
        apn_group_id: APN group.
        barred_services: numbers of the services barred for it.
        tags: tags.
        plan_id: base plan.
        addon_plan_ids: add-on plans to assign at once, in order.
        activate: whether it is born ACTIVE.
    """

    account_id: str = ""
    name: str = ""
    sim_id: str = ""
    apn_group_id: str = ""
    barred_services: tuple[int, ...] = ()
    tags: tuple[str, ...] = ()
    plan_id: str = ""
    addon_plan_ids: tuple[str, ...] = ()
    activate: bool = False


@dataclass(frozen=True, slots=True)
class _Owner:
    """An owner of new endpoints, with what they may use."""

    account: Account
    defaults: Defaults
    plans: Mapping[str, Plan]


async def create_endpoint(
    store: Store, accounts: Accounts, catalog: Catalog, caller: Principal, new: NewEndpoint, now_ms: int
) -> Endpoint:
    """Create an endpoint; see `create_endpoints`."""
    (created,) = await _create(store, accounts, catalog, caller, [new], now_ms)
    return created


async def create_endpoints(
    store: Store, accounts: Accounts, catalog: Catalog, caller: Principal, news: Sequence[NewEndpoint], now_ms: int
) -> Sequence[Endpoint]:
    """Create endpoints, all or none; what refuses one names its index in the message and in metadata `index`.

    Raises:
        PermissionDeniedError: the caller is neither ENTERPRISE nor SUB_ACCOUNT (R258).
        NotFoundError: an account, SIM, APN group or plan that the caller does not see.
        FailedPreconditionError: SIM_NOT_ASSIGNED, SIM_LINKED, NO_SIM, NO_BASE_PLAN, PLAN_NOT_PUBLISHED,
            PLAN_NOT_BASE, PLAN_NOT_ADDON, PLAN_NOT_AVAILABLE, ACCOUNT_TERMINATED.
    """
    return await _create(store, accounts, catalog, caller, news, now_ms, batch=True)


async def _create(
    store: Store,
    accounts: Accounts,
    catalog: Catalog,
    caller: Principal,
    news: Sequence[NewEndpoint],
    now_ms: int,
    *,
    batch: bool = False,
) -> Sequence[Endpoint]:
    require_endpoint_writer(caller)
    owners = await _owners(accounts, catalog, caller, news)
    for apn_group_id in dict.fromkeys(new.apn_group_id for new in news if new.apn_group_id):
        await catalog.require_apn_group(caller, apn_group_id)
    _require_each_sim_once(news)
    sims = await store.sims.lock([new.sim_id for new in news if new.sim_id])
    endpoint_ids = _ids("ep", len(news), now_ms)
    assignment_ids = iter(_ids("asg", sum(1 + len(new.addon_plan_ids) for new in news), now_ms))
    endpoints: list[Endpoint] = []
    assignments: list[Assignment] = []
    for index, new in enumerate(news):
        with _named(index if batch else None):
            owner = owners[new.account_id or caller.account_id]
            _require_sim(new, sims, caller, owner.account)
            endpoint, given = _build(new, owner, endpoint_ids[index], assignment_ids, now_ms)
            endpoints.append(endpoint)
            assignments += given
    await store.endpoints.add(endpoints)
    await store.assignments.add(assignments)
    linked = [endpoint for endpoint in endpoints if endpoint.sim_id]
    await store.sims.replace(
        [sims[endpoint.sim_id] for endpoint in linked],
        [replace(sims[e.sim_id], endpoint_id=e.id, endpoint_state=e.state, update_ms=now_ms) for e in linked],
    )
    return endpoints


def _build(
    new: NewEndpoint, owner: _Owner, endpoint_id: str, assignment_ids: Iterator[str], now_ms: int
) -> tuple[Endpoint, Sequence[Assignment]]:
    state = EndpointState.PRE_ACTIVE if new.sim_id else EndpointState.DEACTIVATED
    endpoint = Endpoint(
        id=endpoint_id,
        account_id=owner.account.id,
        enterprise_id=owner.account.enterprise_id,
        owner_path=owner.account.path,
        name=new.name,
        state=EndpointState.ACTIVE if new.activate else state,
        sim_id=new.sim_id,
        apn_group_id=new.apn_group_id or owner.defaults.apn_group_id,
        barred_services=new.barred_services,
        tags=new.tags,
        base=None,
        create_ms=now_ms,
        update_ms=now_ms,
    )
    plan_id = new.plan_id or owner.defaults.plan_id
    if not plan_id:
        if new.activate or new.addon_plan_ids:
            raise no_base_plan("endpoint", "")
        return endpoint, ()
    plan = owner.plans[plan_id]
    plan.require_assignable(PlanType.BASE)
    base = assign(plan, endpoint.target, now_ms, next(assignment_ids))
    addons = []
    for addon_id in new.addon_plan_ids:
        addon = owner.plans[addon_id]
        addon.require_assignable(PlanType.ADDON)
        addons.append(assign(addon, endpoint.target, now_ms, next(assignment_ids)))
    return replace(endpoint, base=base), (base, *addons)


async def _owners(
    accounts: Accounts, catalog: Catalog, caller: Principal, news: Sequence[NewEndpoint]
) -> Mapping[str, _Owner]:
    owners = {}
    for account_id in dict.fromkeys(new.account_id or caller.account_id for new in news):
        if not account_id:
            raise invalid("endpoint.account_id", "is required: this caller has no account of its own", "FIELD_REQUIRED")
        account = await visible_account(accounts, caller, account_id)
        if account.kind not in {AccountKind.ENTERPRISE, AccountKind.SUB_ACCOUNT}:
            raise invalid("endpoint.account_id", "must be an ENTERPRISE or SUB_ACCOUNT; others own no endpoints")
        require_not_terminated(account)
        own = [new for new in news if (new.account_id or caller.account_id) == account_id]
        defaults = Defaults()
        if not all(new.plan_id and new.apn_group_id for new in own):
            defaults = await catalog.defaults(account.enterprise_id)
        wanted = dict.fromkeys(
            plan_id for new in own for plan_id in (new.plan_id or defaults.plan_id, *new.addon_plan_ids) if plan_id
        )
        plans = await usable_plans(accounts, catalog, caller, wanted, account_id, _serves(account))
        owners[account_id] = _Owner(account, defaults, plans)
    return owners


def _serves(owner: Account) -> Callable[[Plan], bool]:
    family = {owner.id, owner.enterprise_id}
    return lambda plan: plan.serves_endpoints_of(family)


def _require_sim(new: NewEndpoint, sims: Mapping[str, Sim], caller: Principal, owner: Account) -> None:
    if not new.sim_id:
        if new.activate:
            raise FailedPreconditionError(
                "NO_SIM", "An endpoint without a SIM cannot be active. Give `sim_id`, or leave `activate` out."
            )
        return
    if new.sim_id not in sims or not caller.sees(sims[new.sim_id].owner_path):
        raise not_found("sim", new.sim_id)
    require_usable_by(sims[new.sim_id], owner.enterprise_id)


def _require_each_sim_once(news: Iterable[NewEndpoint]) -> None:
    first: dict[str, int] = {}
    for index, new in enumerate(news):
        if new.sim_id and first.setdefault(new.sim_id, index) != index:
            raise invalid(f"requests[{index}].endpoint.sim_id", f"is the same as in requests[{first[new.sim_id]}]")


def _ids(prefix: str, count: int, now_ms: int) -> Sequence[str]:
    """New ids in order, so that lists show what was made together in the order of the request."""
    return sorted(new_id(prefix, at_ms=now_ms) for _ in range(count))


@contextmanager
def _named(index: int | None) -> Iterator[None]:
    """Let an error say which element of the batch it is about."""
    try:
        yield
    except MeterlineError as error:
        if index is not None:
            error.message = f"requests[{index}]: {error.message} Nothing was created."
            error.metadata = {**error.metadata, "index": str(index)}
        raise
