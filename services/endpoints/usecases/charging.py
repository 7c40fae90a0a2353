"""What rating asks: everything that charging needs of a thousand endpoints or accounts at once."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from services.common.identity import Principal
from services.endpoints.domain.assignments import Assignment, Members
from services.endpoints.domain.endpoints import Endpoint
from services.endpoints.domain.plans import PlanType
from services.endpoints.ports import Store


@dataclass(slots=True)
class InForce:
    """What is assigned to an endpoint or account.

    Attributes:
        version: grows with every change of what charging needs of the endpoint or account.
        base: the base plan's assignment.
        addons: the add-ons' assignments, oldest first.
        members: of an enterprise, the endpoints that share a base plan's volumes.
    """

    version: int
    base: Assignment | None = None
    addons: list[Assignment] = field(default_factory=list)
    members: Sequence[Members] = ()


async def endpoint_contexts(
    store: Store, caller: Principal, endpoint_ids: Collection[str]
) -> Sequence[tuple[Endpoint, InForce]]:
    """Return those of the endpoints that exist, with what is assigned to them, in no order."""
    caller.require_service()
    endpoints = await store.endpoints.batch(endpoint_ids)
    counts = await store.assignments.versions("endpoint_id", endpoint_ids)
    given = {endpoint.id: InForce(endpoint.version + counts.get(endpoint.id, 0)) for endpoint in endpoints}
    _fill(given, await store.assignments.of_endpoints(endpoint_ids), "endpoint_id")
    return [(endpoint, given[endpoint.id]) for endpoint in endpoints]


async def account_assignments(
    store: Store, caller: Principal, account_ids: Sequence[str], now_ms: int
) -> Sequence[tuple[str, InForce]]:
    """Return what is assigned to the accounts themselves, in the order asked for."""
    caller.require_service()
    counts = await store.assignments.versions("account_id", account_ids)
    given = {account_id: InForce(counts.get(account_id, 0)) for account_id in account_ids}
    _fill(given, await store.assignments.of_accounts(account_ids), "account_id")
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
