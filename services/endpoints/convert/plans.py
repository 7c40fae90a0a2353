"""Plans of catalog, as far as their assignment goes."""

from collections.abc import Sequence

from meterline.catalog.v1 import plans_pb2
from services.endpoints.domain.plans import Plan, PlanType

_SHARED = frozenset({plans_pb2.PRODUCT_KIND_SUBSCRIPTION_STATIC_POOL, plans_pb2.PRODUCT_KIND_SUBSCRIPTION_DYNAMIC_POOL})


def from_proto(plan: plans_pb2.Plan) -> Plan:
    """Read a plan version."""
    return Plan(
        id=plan.id,
        version=plan.version,
        account_id=plan.account_id,
        type=PlanType(plan.type),
        state=plans_pb2.PlanState.Name(plan.state).removeprefix("PLAN_STATE_"),
        priority=plan.priority,
        on_usage=plan.activation == plans_pb2.ACTIVATION_ON_USAGE,
        validity_ms=plan.validity.ToMilliseconds() if plan.HasField("validity") else None,
        recurs=plan.recurrence == plans_pb2.RECURRENCE_RECURRING,
        designated_account_ids=frozenset(plan.designated_account_ids),
        currency=plan.currency,
        pooled=plan.account_scope == plans_pb2.ACCOUNT_SCOPE_ENDPOINTS,
        shared=plan.product_kind in _SHARED,
        grows=plan.product_kind == plans_pb2.PRODUCT_KIND_SUBSCRIPTION_DYNAMIC_POOL,
    )


def newest(plans: Sequence[plans_pb2.Plan]) -> dict[str, Plan]:
    """Read plans by id; of several versions the newest."""
    return {plan.id: from_proto(plan) for plan in sorted(plans, key=lambda plan: plan.version)}
