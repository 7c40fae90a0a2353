"""Verbs of an endpoint that exists."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from services.common.errors import invalid, not_found
from services.common.etags import require_etag
from services.common.identity import Principal
from services.common.pages import Page, PageRequest
from services.endpoints.domain.assignments import Assignment, assign, removed
from services.endpoints.domain.endpoints import Endpoint, Verb, moved, next_state, touched, with_sim
from services.endpoints.domain.plans import PlanType
from services.endpoints.domain.sims import Sim, require_usable_by
from services.endpoints.ports import Accounts, Catalog, EndpointFilter, Store
from services.endpoints.usecases.callers import require_endpoint_writer, require_reader
from services.endpoints.usecases.plans import usable_plans


async def get_endpoint(store: Store, caller: Principal, endpoint_id: str) -> Endpoint:
    """Return an endpoint that the caller sees."""
    require_reader(caller)
    return await store.endpoints.get(caller, endpoint_id)


async def list_endpoints(
    store: Store, caller: Principal, wanted: EndpointFilter, request: PageRequest
) -> Page[Endpoint]:
    """Return a page of the endpoints that the caller sees, oldest first."""
    require_reader(caller)
    return await store.endpoints.page(caller, wanted, request)


@dataclass(frozen=True, slots=True)
class EndpointChanges:
    """New values of an endpoint; those named in `fields` count. `kept` must be as they are."""

    fields: frozenset[str]
    kept: Mapping[str, str]
    name: str
    apn_group_id: str
    barred_services: tuple[int, ...]
    tags: tuple[str, ...]
    etag: str


async def update_endpoint(
    store: Store, catalog: Catalog, caller: Principal, endpoint_id: str, changes: EndpointChanges, now_ms: int
) -> Endpoint:
    """Change name, tags, APN group and service barring; takes effect on traffic at once (R113).

    Raises:
        AbortedError: ETAG_MISMATCH, it is not in the state that the caller has seen.
    """
    require_endpoint_writer(caller)
    if "apn_group_id" in changes.fields and changes.apn_group_id:
        await catalog.require_apn_group(caller, changes.apn_group_id)
    before = await store.endpoints.lock(caller, endpoint_id)
    require_etag(before.version, changes.etag)
    next_state(before, Verb.UPDATE)
    for name, value in changes.kept.items():
        if getattr(before, name) != value:
            raise invalid(f"endpoint.{name}", "does not change by an update; use the verb for it", "FIELD_IMMUTABLE")
    after = replace(before, **{name: getattr(changes, name) for name in changes.fields})
    if after == before:
        return before
    after = touched(after, now_ms)
    await store.endpoints.replace(before, after)
    return after


async def move_endpoint(
    store: Store, caller: Principal, endpoint_id: str, verb: Verb, reason: str, now_ms: int
) -> Endpoint:
    """Activate, suspend, resume, deactivate, de-link or delete; a success where it is there already.

    Raises:
        PermissionDeniedError: the caller is neither ENTERPRISE nor SUB_ACCOUNT (R267).
        FailedPreconditionError: ENDPOINT_STATE, NO_BASE_PLAN.
    """
    require_endpoint_writer(caller)
    before = await store.endpoints.lock(caller, endpoint_id)
    after = moved(before, verb, reason, now_ms)
    if after is before:
        return before
    if verb is Verb.DELETE:
        after = replace(after, base=None)
        ended = await store.assignments.of_endpoints([endpoint_id])
        await store.assignments.replace(ended, [removed(assignment, now_ms) for assignment in ended])
    await _replace(store, before, after)
    return after


async def link_sim(store: Store, caller: Principal, endpoint_id: str, sim_id: str, verb: Verb, now_ms: int) -> Endpoint:
    """Link a SIM to a deactivated endpoint, or swap the one it has; id and plans stay (R098, R106, R107).

    Raises:
        FailedPreconditionError: ENDPOINT_STATE, SIM_NOT_ASSIGNED, SIM_LINKED.
    """
    require_endpoint_writer(caller)
    before = await store.endpoints.lock(caller, endpoint_id)
    after = with_sim(before, verb, sim_id, now_ms)
    sims = await store.sims.lock([sim_id])
    if sim_id not in sims or not caller.sees(sims[sim_id].owner_path):
        raise not_found("sim", sim_id)
    if before.sim_id == sim_id:
        return before
    require_usable_by(sims[sim_id], before.enterprise_id)
    await _replace(store, before, after)
    return after


async def change_plan(
    store: Store, accounts: Accounts, catalog: Catalog, caller: Principal, endpoint_id: str, plan_id: str, now_ms: int
) -> Endpoint:
    """Replace the base plan; add-ons stay (R065, R108). The version that it has already stays as it is.

    The endpoint's money stays as well, so the new plan has to be in the same currency.

    Raises:
        FailedPreconditionError: PLAN_NOT_PUBLISHED, PLAN_NOT_BASE, PLAN_NOT_AVAILABLE, CURRENCY_MISMATCH,
            ENDPOINT_STATE.
    """
    require_endpoint_writer(caller)
    before = await store.endpoints.lock(caller, endpoint_id)
    next_state(before, Verb.CHANGE_PLAN)
    family = {before.account_id, before.enterprise_id}
    plans = await usable_plans(
        accounts, catalog, caller, [plan_id], before.account_id, lambda plan: plan.serves_endpoints_of(family)
    )
    plan = plans[plan_id]
    plan.require_assignable(PlanType.BASE)
    if before.base and (before.base.plan_id, before.base.plan_version) == (plan.id, plan.version):
        return before
    default = (await accounts.get(before.enterprise_id)).currency
    present = await catalog.plan_version(before.base.plan_id, before.base.plan_version) if before.base else None
    currency = (present.currency if present else "") or default
    plan.require_currency_of_endpoint(endpoint_id, currency, default)
    after = touched(replace(before, base=assign(plan, before.target, now_ms)), now_ms)
    await replace_base(store, before.base, after.base, now_ms)
    await store.endpoints.replace(before, after)
    return after


async def replace_base(store: Store, old: Assignment | None, new: Assignment | None, now_ms: int) -> None:
    """End a base assignment and begin another: at most one is active at any instant (R065)."""
    if old is not None:
        await store.assignments.replace([old], [removed(old, now_ms)])
    if new is not None:
        await store.assignments.add([new])


async def _replace(store: Store, before: Endpoint, after: Endpoint) -> None:
    """Store a moved endpoint and let SIMs follow it (R103)."""
    sims = await store.sims.lock({sim_id for sim_id in (before.sim_id, after.sim_id) if sim_id})
    await store.endpoints.replace(before, after)
    await store.sims.replace(list(sims.values()), [_following(sim, after) for sim in sims.values()])


def _following(sim: Sim, endpoint: Endpoint) -> Sim:
    linked = sim.id == endpoint.sim_id
    return replace(
        sim,
        endpoint_id=endpoint.id if linked else "",
        endpoint_state=endpoint.state if linked else None,
        update_ms=endpoint.update_ms,
    )
