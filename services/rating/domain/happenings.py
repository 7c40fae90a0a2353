"""What happened to balances, endpoints and accounts, as people hear of it: each once, since it is said when decided."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.rating.domain.balances import assignment_of, balance_id, owner_of_holder, pooled_plan_of
from services.rating.domain.decisions import Notice, NoticeKind
from services.rating.domain.limits import counted_by, counter_id
from services.rating.domain.programs import Step

TYPES = {
    NoticeKind.SHARE_USED: "balance.threshold_reached",
    NoticeKind.USED_UP: "balance.depleted",
    NoticeKind.ENDED: "balance.expired",
    NoticeKind.ACTIVATED: "addon.activated",
    NoticeKind.RENEWED: "addon.renewed",
    NoticeKind.BLOCKED: "endpoint.blocked",
    NoticeKind.UNBLOCKED: "endpoint.unblocked",
    NoticeKind.LIMIT_REACHED: "counter.threshold_reached",
    NoticeKind.CREDIT_SHARE_USED: "account.credit_threshold_reached",
    NoticeKind.CREDIT_USED_UP: "account.credit_exhausted",
}
VALUES = {
    NoticeKind.SHARE_USED: "threshold_percent",
    NoticeKind.USED_UP: "granted",
    NoticeKind.ENDED: "forfeited",
    NoticeKind.ACTIVATED: "expire_time_ms",
    NoticeKind.RENEWED: "occurrence",
    NoticeKind.BLOCKED: "service",
    NoticeKind.UNBLOCKED: "service",
    NoticeKind.LIMIT_REACHED: "limit",
    NoticeKind.CREDIT_SHARE_USED: "threshold_percent",
    NoticeKind.CREDIT_USED_UP: "credit_limit_micros",
}
OF_BALANCES = frozenset({NoticeKind.SHARE_USED, NoticeKind.USED_UP})
"""Said of a bucket, or, without one, of the money."""
OF_CREDIT = frozenset({NoticeKind.CREDIT_SHARE_USED, NoticeKind.CREDIT_USED_UP})


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happened.

    Attributes:
        id: `evt_...`; sorts in the order of commit.
        created_ms: when it was decided, milliseconds since 1970.
        account_id: the account that owns what it happened to.
        owner_path: path of that account, `operator/.../owner/`.
        resource_type: `balance`, `counter`, `endpoint` or `account`.
        resource_id: its id.
        payload: what belongs to it.
    """

    id: str
    created_ms: int
    type: str
    account_id: str
    owner_path: str
    resource_type: str
    resource_id: str
    payload: Mapping[str, Any]


def event_of(notice: Notice, name: str, created_ms: int, steps: Sequence[Step], path: str) -> Happening:
    """Make the event that a notice is.

    Args:
        notice: the notice.
        name: id of the event.
        created_ms: when it was decided.
        steps: of the program of the use that caused it; none if no use did.
        path: path of the account that owns the endpoint of the use, or, without one, the holder.
    """
    kind, owner = NoticeKind(notice.kind), owner_of_holder(notice.holder_id)
    if any(step.payer == owner for step in steps):
        path = f"{path.partition(owner)[0]}{owner}/"
    payload: dict[str, Any] = {"holder_id": notice.holder_id}
    resource_type, resource_id = "endpoint", owner
    if kind is NoticeKind.LIMIT_REACHED:
        resource_type, resource_id = "counter", counter_id(notice.holder_id, notice.bucket)
        payload["plan_id"], payload["counter"] = counted_by(notice.bucket)
    elif kind in OF_CREDIT:
        resource_type = "account"
    elif notice.bucket or kind in OF_BALANCES:
        resource_type, resource_id = "balance", balance_id(notice.holder_id, notice.bucket)
        payload |= _source(notice.bucket) if notice.bucket else {}
    if notice.endpoint_id:
        payload["endpoint_id"] = notice.endpoint_id
    if kind in VALUES:
        payload[VALUES[kind]] = notice.value
    return Happening(
        id=name,
        created_ms=created_ms,
        type=TYPES[kind],
        account_id=path.strip("/").rpartition("/")[2],
        owner_path=path,
        resource_type=resource_type,
        resource_id=resource_id,
        payload=payload,
    )


def _source(bucket: str) -> Mapping[str, str]:
    plan_id = pooled_plan_of(bucket)
    return {"plan_id": plan_id} if plan_id else {"assignment_id": assignment_of(bucket)}
