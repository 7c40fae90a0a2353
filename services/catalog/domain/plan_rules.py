"""What a plan may say, and when it may be published or changed [001] [004]."""

from collections.abc import Sequence
from dataclasses import replace

from services.catalog.domain.benefit_rules import POOLS, require_sound_benefits
from services.catalog.domain.items import Item, Owner, immutable
from services.catalog.domain.naming import named
from services.catalog.domain.plans import (
    AccountScope,
    Activation,
    ChargingMode,
    OnDepletion,
    Plan,
    PlanState,
    PlanType,
    ProductKind,
    Recurrence,
    ResubscribeOn,
)
from services.catalog.domain.profiles import ServiceProfile
from services.catalog.domain.services import Unit
from services.catalog.domain.tariffs import Tariff
from services.common.errors import FailedPreconditionError, invalid
from services.common.identity import AccountKind

_MODE_OF_KIND = {
    ProductKind.PREPAID_BUNDLE: ChargingMode.PREPAID,
    ProductKind.PAYGO: ChargingMode.PREPAID,
    ProductKind.SUBSCRIPTION_STATIC_POOL: ChargingMode.POSTPAID,
    ProductKind.SUBSCRIPTION_DYNAMIC_POOL: ChargingMode.POSTPAID,
    ProductKind.SUBSCRIPTION_UNLIMITED: ChargingMode.POSTPAID,
    ProductKind.SUBSCRIPTION_MONTHLY_BUNDLE: ChargingMode.POSTPAID,
    ProductKind.SUBSCRIPTION_PAY_PER_MB: ChargingMode.POSTPAID,
}
"""How each kind of product is paid [004]; STANDARD may be either."""
_PRICED_BY_TARIFF = frozenset({ProductKind.SUBSCRIPTION_PAY_PER_MB, ProductKind.PAYGO})
_NOT_OF_ADDONS = ("charging_mode", "roaming_profile_id", "tariff_id", "counters")
_NOT_OF_BASE_PLANS = (
    "priority",
    "activation",
    "validity_s",
    "rate_zone_ids",
    "account_scope",
    "recurrence",
    "max_subscriptions",
    "resubscribe_on",
)
_CONTRACT_NAMES = {"validity_s": "validity"}


def completed(plan: Plan) -> Plan:
    """Fill in what a caller may leave to the server: names and units of benefits, what an add-on does if not told."""
    ids = named([benefit.benefit_id for benefit in plan.benefits], "b", "plan.benefits", "benefit_id")
    benefits = tuple(
        replace(benefit, benefit_id=given, unit=benefit.unit or min(benefit.services).unit)
        for benefit, given in zip(plan.benefits, ids, strict=True)
    )
    plan = replace(plan, benefits=benefits)
    if plan.type is not PlanType.ADDON:
        return plan
    recurs = plan.recurrence is Recurrence.RECURRING
    return replace(
        plan,
        activation=plan.activation or Activation.ON_SUBSCRIPTION,
        account_scope=plan.account_scope or AccountScope.OWN_STEP,
        recurrence=plan.recurrence or Recurrence.ONE_TIME,
        resubscribe_on=plan.resubscribe_on or (ResubscribeOn.EXPIRY if recurs else None),
    )


def default_on_depletion(kind: ProductKind) -> OnDepletion:
    """What happens at zero if the plan does not say: a prepaid bundle suspends its SIM [004] (model, e-05)."""
    return OnDepletion.SUSPEND if kind is ProductKind.PREPAID_BUNDLE else OnDepletion.BLOCK_TRAFFIC


def require_coherent(plan: Plan, owner: Owner) -> None:
    """Raise INVALID_ARGUMENT, naming the field, for a plan that contradicts itself or its type."""
    if not plan.service_profile_id:
        raise invalid("plan.service_profile_id", "is required; create a service profile first", "FIELD_REQUIRED")
    if plan.type is PlanType.BASE:
        bundle = plan.product_kind is ProductKind.PREPAID_BUNDLE
        unfit = [field for field in _NOT_OF_BASE_PLANS if field != "validity_s" or not bundle]
        _require_unset(plan, unfit, "FIELD_NOT_FOR_BASE_PLAN", "belongs to add-on plans only")
        _require_complete_base(plan, owner)
    else:
        _require_unset(plan, _NOT_OF_ADDONS, "FIELD_NOT_FOR_ADDON_PLAN", "belongs to base plans only")
        if plan.product_kind is not ProductKind.STANDARD:
            raise invalid("plan.product_kind", "an add-on is STANDARD", "FIELD_NOT_FOR_ADDON_PLAN")
        _require_sound_recurrence(plan)
    gives_money = any(benefit.unit is Unit.MONEY for benefit in plan.benefits)
    if not plan.currency and (plan.charges or plan.tariff_id or gives_money):
        raise invalid(
            "plan.currency", "is required beside charges, a tariff or a benefit of money", "CURRENCY_REQUIRED"
        )
    _require_distinct_names(plan)
    _require_one_unit(plan)
    require_sound_benefits(plan)


def _require_sound_recurrence(plan: Plan) -> None:
    if plan.recurrence in {Recurrence.DAILY, Recurrence.WEEKLY}:
        raise invalid(
            "plan.recurrence",
            "must be ONE_TIME or RECURRING; DAILY and WEEKLY are for benefits, or give it a validity",
            "RECURRENCE_NOT_PERMITTED",
        )
    if plan.recurrence is not Recurrence.RECURRING:
        for field in ("max_subscriptions", "resubscribe_on"):
            if getattr(plan, field):
                raise invalid(f"plan.{field}", "belongs to add-ons whose recurrence is RECURRING", "NOT_RECURRING")
        return
    if plan.resubscribe_on is not ResubscribeOn.EXPIRY_OR_EXHAUSTION and plan.validity_s is None:
        raise invalid("plan.validity", "is required: its end begins the next subscription", "VALIDITY_REQUIRED")
    for index, benefit in enumerate(plan.benefits):
        if benefit.recurrence is not Recurrence.ONE_TIME:
            raise invalid(
                f"plan.benefits[{index}].recurrence",
                "must be ONE_TIME in an add-on that recurs itself",
                "RECURRENCE_TWICE",
            )


def _require_unset(plan: Plan, fields: Sequence[str], reason: str, description: str) -> None:
    for field in fields:
        if getattr(plan, field):
            raise invalid(f"plan.{_CONTRACT_NAMES.get(field, field)}", description, reason)


def _require_complete_base(plan: Plan, owner: Owner) -> None:
    if plan.charging_mode is None:
        raise invalid("plan.charging_mode", "is required for a base plan", "FIELD_REQUIRED")
    mode = _MODE_OF_KIND.get(plan.product_kind, plan.charging_mode)
    if plan.charging_mode is not mode:
        raise invalid(
            "plan.charging_mode", f"{plan.product_kind.name} is {mode.name} by its nature", "CHARGING_MODE_OF_KIND"
        )
    if not plan.roaming_profile_id and owner.kind is AccountKind.ENTERPRISE:
        raise invalid(
            "plan.roaming_profile_id",
            "is required for a base plan of endpoints; DEFAULT is the whole coverage",
            "FIELD_REQUIRED",
        )


def _require_distinct_names(plan: Plan) -> None:
    seen: set[str] = set()
    for index, counter in enumerate(plan.counters):
        if counter.name in seen:
            raise invalid(f"plan.counters[{index}].name", f"{counter.name!r} stands twice", "COUNTER_TWICE")
        seen.add(counter.name)


def _require_one_unit(plan: Plan) -> None:
    counted = [("benefits", b.services) for b in plan.benefits] + [("counters", c.services) for c in plan.counters]
    for index, (field, services) in enumerate(counted):
        money = field == "benefits" and plan.benefits[index].unit is Unit.MONEY
        if len({service.unit for service in services}) > 1 and not money:
            place = index if field == "benefits" else index - len(plan.benefits)
            raise invalid(
                f"plan.{field}[{place}].services",
                "mixes services counted in bytes with services counted in messages; make one for each",
                "UNITS_MIXED",
            )


def require_fits_profile(plan: Plan, profile: ServiceProfile) -> None:
    """Raise INVALID_ARGUMENT BENEFIT_OUTSIDE_SERVICE_PROFILE for a benefit of a service that the plan does not have."""
    offered = {access.service for access in profile.services}
    for index, benefit in enumerate(plan.benefits):
        if missing := [service.name for service in benefit.services if service not in offered]:
            raise invalid(
                f"plan.benefits[{index}].services",
                f"{', '.join(missing)} is not in service profile {profile.name!r}",
                "BENEFIT_OUTSIDE_SERVICE_PROFILE",
            )


def require_own(plan: Plan, field: str, referenced_id: str, found: Item | None) -> None:
    """Raise INVALID_ARGUMENT REFERENCE_NOT_FOUND unless a referenced object belongs to the plan's own account."""
    if found is None or found.owner_path != plan.owner_path:
        raise invalid(
            f"plan.{field}",
            f"the plan's account {plan.account_id} has no {referenced_id!r}",
            "REFERENCE_NOT_FOUND",
        )


def require_publishable(plan: Plan, tariff: Tariff | None) -> None:
    """Raise FAILED_PRECONDITION for a plan that could not be charged by.

    Args:
        plan: the draft, or the new version of a published plan.
        tariff: newest published version of its tariff; None if there is none.

    Raises:
        FailedPreconditionError: TARIFF_NOT_PUBLISHED, CURRENCY_MISMATCH, TARIFF_REQUIRED.
    """
    if plan.tariff_id and tariff is None:
        raise FailedPreconditionError(
            "TARIFF_NOT_PUBLISHED",
            f"Tariff {plan.tariff_id} has no published version. Publish it first.",
            metadata={"tariff_id": plan.tariff_id},
        )
    if tariff is not None and tariff.currency != plan.currency:
        raise FailedPreconditionError(
            "CURRENCY_MISMATCH",
            f"The plan is in {plan.currency}, its tariff in {tariff.currency}. They must agree.",
            metadata={"plan_currency": plan.currency, "tariff_currency": tariff.currency},
        )
    if not plan.tariff_id and plan.product_kind in _PRICED_BY_TARIFF:
        raise FailedPreconditionError(
            "TARIFF_REQUIRED", f"A plan of kind {plan.product_kind.name} prices every unit: it needs a tariff."
        )


def next_version(current: Plan, changed: Plan) -> Plan:
    """The plan after an update: a draft in place, a published plan as a new published version.

    Raises:
        FailedPreconditionError: PLAN_RETIRED, SYSTEM_MANAGED.
        InvalidArgumentError: FIELD_IMMUTABLE for the currency of a published plan; BENEFIT_OF_POOL.
    """
    if current.state is PlanState.RETIRED:
        raise FailedPreconditionError("PLAN_RETIRED", "A retired plan cannot change. Clone it and change the copy.")
    if current.state is PlanState.PUBLISHED and current.currency and changed.currency != current.currency:
        raise immutable("plan.currency")
    if current.system_managed and (changed.name, changed.roaming_profile_id) != (
        current.name,
        current.roaming_profile_id,
    ):
        raise FailedPreconditionError(
            "SYSTEM_MANAGED", f"Name and roaming profile of {current.name} stay. Clone it and change the copy."
        )
    if current.state is PlanState.PUBLISHED and current.product_kind in POOLS:
        _require_same_sorts(current, changed)
    version = current.version + 1 if current.state is PlanState.PUBLISHED else current.version
    return replace(changed, version=version, state=current.state)


def _require_same_sorts(current: Plan, changed: Plan) -> None:
    """Who has an older version of a pool plan shares one balance with who has a newer: a benefit stays of its sort."""
    before = {benefit.benefit_id: (benefit.unit, benefit.recurrence) for benefit in current.benefits}
    for index, benefit in enumerate(changed.benefits):
        sort = (benefit.unit, benefit.recurrence)
        if before.get(benefit.benefit_id, sort) != sort:
            raise invalid(
                f"plan.benefits[{index}].benefit_id",
                f"{benefit.benefit_id!r} is shared by versions of the plan and stays of its unit and recurrence; "
                "give another benefit another id",
                "BENEFIT_OF_POOL",
            )


def require_state(plan: Plan, state: PlanState, verb: str) -> None:
    """Raise FAILED_PRECONDITION PLAN_STATE unless the plan is in the state that a verb needs."""
    if plan.state is not state:
        raise FailedPreconditionError(
            "PLAN_STATE",
            f"A plan that is {plan.state.name} cannot be {verb}; it would have to be {state.name}.",
            metadata={"state": plan.state.name},
        )


def require_known_accounts(unknown: list[str]) -> None:
    """Raise INVALID_ARGUMENT ACCOUNT_NOT_BELOW for designated accounts that are not below the plan's own."""
    if unknown:
        named_ones = ", ".join(unknown[:10])
        raise invalid("plan.designated_account_ids", f"not below the plan's account: {named_ones}", "ACCOUNT_NOT_BELOW")


def service_profile_frozen(plan: Plan) -> FailedPreconditionError:
    """The error for an update that would change a plan's service profile [001] (model, e-07)."""
    return FailedPreconditionError(
        "PLAN_SERVICE_PROFILE_FROZEN",
        f"The service profile {plan.service_profile_id} was selected when the plan was set up and stays. Create a new "
        "plan with the other profile.",
        metadata={"service_profile_id": plan.service_profile_id},
    )
