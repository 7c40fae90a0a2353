"""Assignments: which plan version prices which endpoint or account, each with an id of its own [001]."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from services.common.errors import FailedPreconditionError, invalid
from services.common.ids import new_id
from services.endpoints.domain.plans import Plan, PlanType

ADDONS_MAX = 100
"""Add-ons that one endpoint or account may have at once, expired and removed ones not counted."""


class AssignmentState(IntEnum):
    """Where an assignment is in its life; numbers as in the contract."""

    PENDING = 1
    ACTIVE = 2
    REMOVED = 3


@dataclass(frozen=True, slots=True)
class Target:
    """What a plan is assigned to.

    Attributes:
        account_id: the account, or the enterprise of the endpoint.
        enterprise_id: the enterprise concerned; empty for an account above enterprises.
        owner_path: path of the account that owns the target, from the OPERATOR down.
        endpoint_id: the endpoint; empty for an account.
    """

    account_id: str
    enterprise_id: str
    owner_path: tuple[str, ...]
    endpoint_id: str = ""


@dataclass(frozen=True, slots=True)
class Assignment:
    """A plan version given to an endpoint or an account.

    Attributes:
        id: `asg_...`.
        plan_id: the plan.
        plan_version: its version; never changes.
        endpoint_id: the endpoint; empty for an account's own.
        account_id: the account, or the enterprise of the endpoint.
        enterprise_id: the enterprise concerned; empty for an account above enterprises.
        owner_path: path of the account that owns the target.
        role: base plan or add-on.
        state: where it is in its life.
        priority: order of consumption of add-ons, lowest first.
        assign_ms: when it was assigned, milliseconds since 1970, as all times here.
        expire_ms: when it ends; None if it is not activated yet or has no end.
        remove_ms: when it was removed or replaced.
        version: counts its changes, from 1.
        shared: whether the endpoints of the enterprise that have the plan share its volumes.
    """

    id: str
    plan_id: str
    plan_version: int
    endpoint_id: str
    account_id: str
    enterprise_id: str
    owner_path: tuple[str, ...]
    role: PlanType
    state: AssignmentState
    priority: int
    assign_ms: int
    expire_ms: int | None = None
    remove_ms: int | None = None
    version: int = 1
    shared: bool = False


CYCLE_MS_MAX = 32 * 86_400_000
"""Longer than any billing cycle."""
JOINED_TOGETHER_MS = 900_000
"""Who joins within such a stretch of the clock joins in one billing cycle: cycles begin at a midnight somewhere."""


@dataclass(frozen=True, slots=True)
class Joined:
    """Endpoints that were given a plan within a quarter of an hour, or longer ago than any cycle.

    Attributes:
        count: how many.
        since_ms: begin of the quarter of an hour; 0 for those of longer ago.
        sum_ms: the sum of their times.
    """

    count: int
    since_ms: int
    sum_ms: int


@dataclass(frozen=True, slots=True)
class Members:
    """The endpoints of an enterprise that have a version of a plan whose volumes they share, by when they joined.

    Attributes:
        since_ms: since when there have always been some.
    """

    plan_id: str
    plan_version: int
    since_ms: int
    joined: Sequence[Joined]


def assign(plan: Plan, target: Target, now_ms: int, assignment_id: str = "") -> Assignment:
    """Give a plan to a target now.

    An add-on that activates on usage waits as PENDING, and its validity has not begun; anything else is in force at
    once, and an add-on's validity runs from now (R077, R078). One that recurs has no end of its own.
    """
    addon = plan.type is PlanType.ADDON
    waits = addon and plan.on_usage
    ends = addon and not waits and plan.validity_ms is not None and not plan.recurs
    return Assignment(
        id=assignment_id or new_id("asg", at_ms=now_ms),
        plan_id=plan.id,
        plan_version=plan.version,
        endpoint_id=target.endpoint_id,
        account_id=target.account_id,
        enterprise_id=target.enterprise_id,
        owner_path=target.owner_path,
        role=plan.type,
        state=AssignmentState.PENDING if waits else AssignmentState.ACTIVE,
        priority=plan.priority if addon else 0,
        assign_ms=now_ms,
        expire_ms=now_ms + (plan.validity_ms or 0) if ends else None,
        shared=plan.shared and bool(target.endpoint_id),
    )


def require_room(present: Iterable[Assignment], now_ms: int) -> None:
    """Raise FAILED_PRECONDITION if what is assigned to a target leaves no room for another add-on."""
    addons = [
        one for one in present if one.role is PlanType.ADDON and (one.expire_ms is None or one.expire_ms > now_ms)
    ]
    if len(addons) >= ADDONS_MAX:
        raise FailedPreconditionError(
            "TOO_MANY_ADDONS",
            f"It has {len(addons)} add-ons that have not expired; at most {ADDONS_MAX} are permitted. "
            "Remove those that are used up.",
            metadata={"maximum": str(ADDONS_MAX)},
        )


def removed(assignment: Assignment, now_ms: int) -> Assignment:
    """End an assignment; one that has ended stays as it was."""
    if assignment.state is AssignmentState.REMOVED:
        return assignment
    return replace(assignment, state=AssignmentState.REMOVED, remove_ms=now_ms, version=assignment.version + 1)


def require_addon(assignment: Assignment) -> None:
    """Raise FAILED_PRECONDITION for a base plan, which is replaced and never changed or removed by itself."""
    if assignment.role is not PlanType.ADDON:
        raise FailedPreconditionError(
            "ASSIGNMENT_NOT_ADDON",
            f"Assignment {assignment.id} is a base plan. Replace it by changing the plan of its endpoint or account.",
            resource=("assignment", assignment.id),
        )


def changed(
    assignment: Assignment, fields: frozenset[str], priority: int, expire_ms: int | None, now_ms: int
) -> Assignment:
    """Change the named fields of an add-on assignment.

    Raises:
        FailedPreconditionError: it is a base plan, was removed, or has ended and would begin again.
        InvalidArgumentError: it would end before it began.
    """
    require_addon(assignment)
    if assignment.state is AssignmentState.REMOVED:
        raise FailedPreconditionError(
            "ASSIGNMENT_REMOVED",
            f"Assignment {assignment.id} was removed and cannot change. Assign the add-on anew.",
            resource=("assignment", assignment.id),
        )
    if "expire_time" in fields:
        if expire_ms is not None and expire_ms < assignment.assign_ms:
            raise invalid("assignment.expire_time", "lies before the time of assignment")
        if assignment.expire_ms is not None and assignment.expire_ms <= now_ms and expire_ms != assignment.expire_ms:
            raise FailedPreconditionError(
                "ASSIGNMENT_ENDED",
                f"Assignment {assignment.id} has ended, and what it held with it. Assign the add-on anew.",
                resource=("assignment", assignment.id),
            )
        assignment = replace(assignment, expire_ms=expire_ms)
    if "priority" in fields:
        assignment = replace(assignment, priority=priority)
    return replace(assignment, version=assignment.version + 1)
