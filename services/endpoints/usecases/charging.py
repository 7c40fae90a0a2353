"""What rating asks: everything that charging needs of a thousand endpoints or accounts at once."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from services.common.clock import DAY_MS
from services.common.identity import Principal
from services.endpoints.domain.assignments import Assignment, Members
from services.endpoints.domain.endpoints import Endpoint
from services.endpoints.domain.plans import PlanType
from services.endpoints.ports import Store

FORMER_BASES_KEPT_MS = 100 * DAY_MS
FORMER_BASES_MAX = 4
"""Of the base plans that an endpoint or account had, those of which use may still come."""


@dataclass(slots=True)
class InForce:
    """What is assigned to an endpoint or account.

    Attributes:
        version: grows with every change of what charging needs of the endpoint or account.
        base: the base plan's assignment.
        addons: the add-ons' assignments, oldest first.
        members: of an enterprise, the endpoints that share a base plan's volumes.
        former_bases: base plans' assignments that were replaced, oldest first.
    """

    version: int
    base: Assignment | None = None
    addons: list[Assignment] = field(default_factory=list)
    members: Sequence[Members] = ()
    former_bases: Sequence[Assignment] = ()


async def endpoint_contexts(
    store: Store, caller: Principal, endpoint_ids: Collection[str], now_ms: int
) -> Sequence[tuple[Endpoint, InForce]]:
    """Return those of the endpoints that exist, with what is assigned to them, in no order."""
    caller.require_service()
    endpoints = await store.endpoints.batch(endpoint_ids)
    counts = await store.assignments.versions("endpoint_id", endpoint_ids)
    given = {endpoint.id: InForce(endpoint.version + counts.get(endpoint.id, 0)) for endpoint in endpoints}
    _fill(given, await store.assignments.of_endpoints(endpoint_ids), "endpoint_id")
    await _fill_former(store, given, "endpoint_id", now_ms)
    return [(endpoint, given[endpoint.id]) for endpoint in endpoints]


async def account_assignments(
    store: Store, caller: Principal, account_ids: Sequence[str], now_ms: int
) -> Sequence[tuple[str, InForce]]:
    """Return what is assigned to the accounts themselves, in the order asked for."""
    caller.require_service()
    counts = await store.assignments.versions("account_id", account_ids)
    given = {account_id: InForce(counts.get(account_id, 0)) for account_id in account_ids}
    _fill(given, await store.assignments.of_accounts(account_ids), "account_id")
    await _fill_former(store, given, "account_id", now_ms)
    for account_id, members in (await store.assignments.members(account_ids, now_ms)).items():
        given[account_id].members = members
    return [(account_id, given[account_id]) for account_id in account_ids]


def _fill(given: Mapping[str, InForce], assignments: Sequence[Assignment], key: str) -> None:
    for assignment in assignments:
        target = given.get(getattr(assignment, key))
        if target is None:  # came into being since
            continue
        if assignment.role is PlanType.BASE:
            target.base = assignment
        else:
            target.addons.append(assignment)


async def _fill_former(
    store: Store, given: Mapping[str, InForce], key: Literal["endpoint_id", "account_id"], now_ms: int
) -> None:
    for former in await store.assignments.former_bases(key, given.keys(), now_ms - FORMER_BASES_KEPT_MS):
        target = given[getattr(former, key)]
        target.former_bases = (*target.former_bases, former)[-FORMER_BASES_MAX:]
