"""Plans."""

from google.protobuf.duration_pb2 import Duration

from meterline.catalog.v1 import plans_pb2
from services.catalog.convert.components import (
    time_band_from_proto,
    time_band_to_proto,
    use_rounding_from_proto,
    use_rounding_to_proto,
)
from services.catalog.convert.values import (
    currency_from_proto,
    enum_from_proto,
    money_to_proto,
    optional_enum_from_proto,
    price_from_proto,
    services_from_proto,
    time_to_proto,
)
from services.catalog.domain.plan_rules import default_on_depletion
from services.catalog.domain.plans import (
    AccountScope,
    Activation,
    Benefit,
    BenefitWeight,
    ChargeTrigger,
    ChargingMode,
    Counter,
    OnDepletion,
    Plan,
    PlanCharge,
    PlanNotification,
    PlanType,
    ProductKind,
    Recurrence,
    ResubscribeOn,
    RollOverOrder,
)
from services.catalog.domain.services import Unit
from services.common.errors import invalid
from services.common.money import MAX_MICROS

_VALIDITY_MAX_S = 20 * 366 * 86_400


def plan_from_proto(message: plans_pb2.Plan) -> Plan:
    """Read what a caller says of a plan."""
    kind = ProductKind(message.product_kind or ProductKind.STANDARD)
    return Plan(
        name=message.name,
        type=enum_from_proto(PlanType, message.type, "plan.type"),
        charging_mode=optional_enum_from_proto(ChargingMode, message.charging_mode),
        product_kind=kind,
        currency=currency_from_proto(message.currency, "plan.currency"),
        service_profile_id=message.service_profile_id,
        roaming_profile_id=message.roaming_profile_id,
        tariff_id=message.tariff_id,
        benefits=tuple(_benefit_from_proto(b, f"plan.benefits[{i}]") for i, b in enumerate(message.benefits)),
        charges=tuple(
            _charge_from_proto(c, message.currency, f"plan.charges[{i}]") for i, c in enumerate(message.charges)
        ),
        counters=tuple(_counter_from_proto(c, f"plan.counters[{i}]") for i, c in enumerate(message.counters)),
        notifications=tuple(
            PlanNotification(threshold_percent=n.threshold_percent, target=n.target) for n in message.notifications
        ),
        priority=message.priority,
        activation=optional_enum_from_proto(Activation, message.activation),
        validity_s=_validity_from_proto(message.validity) if message.HasField("validity") else None,
        rate_zone_ids=tuple(sorted(message.rate_zone_ids)),
        on_depletion=optional_enum_from_proto(OnDepletion, message.on_depletion) or default_on_depletion(kind),
        prorated=message.prorated,
        designated_account_ids=tuple(sorted(message.designated_account_ids)),
        labels=tuple(message.labels),
        carrier=message.carrier,
        description=message.description,
        account_scope=optional_enum_from_proto(AccountScope, message.account_scope),
        recurrence=optional_enum_from_proto(Recurrence, message.recurrence),
        max_subscriptions=message.max_subscriptions,
        resubscribe_on=optional_enum_from_proto(ResubscribeOn, message.resubscribe_on),
    )


def _benefit_from_proto(message: plans_pb2.Benefit, field: str) -> Benefit:
    return Benefit(
        benefit_id=message.benefit_id,
        services=services_from_proto(message.services, f"{field}.services"),
        quantity=message.quantity,
        rate_zone_ids=tuple(sorted(message.rate_zone_ids)),
        recurrence=optional_enum_from_proto(Recurrence, message.recurrence) or Recurrence.ONE_TIME,
        unit=optional_enum_from_proto(Unit, message.unit),
        roll_over_cycles=message.roll_over_cycles,
        use_rounding=use_rounding_from_proto(message),
        weights=tuple(
            _weight_from_proto(weight, f"{field}.weights[{index}]") for index, weight in enumerate(message.weights)
        ),
        roll_over_order=optional_enum_from_proto(RollOverOrder, message.roll_over_order)
        or (RollOverOrder.OLDEST_FIRST if message.roll_over_cycles else None),
        roll_over_maximum=message.roll_over_maximum,
        time_bands=tuple(map(time_band_from_proto, message.time_bands)),
    )


def _weight_from_proto(message: plans_pb2.BenefitWeight, field: str) -> BenefitWeight:
    return BenefitWeight(
        rate_zone_ids=tuple(sorted(message.rate_zone_ids)),
        services=services_from_proto(message.services, f"{field}.services"),
        quantity=message.quantity,
        per_quantity=message.per_quantity or 1,
    )


def _charge_from_proto(message: plans_pb2.PlanCharge, currency: str, field: str) -> PlanCharge:
    return PlanCharge(
        name=message.name,
        trigger=enum_from_proto(ChargeTrigger, message.trigger, f"{field}.trigger"),
        amount_micros=price_from_proto(message.amount, currency, f"{field}.amount", MAX_MICROS),
    )


def _counter_from_proto(message: plans_pb2.Counter, field: str) -> Counter:
    return Counter(
        name=message.name, services=services_from_proto(message.services, f"{field}.services"), limit=message.limit
    )


def _validity_from_proto(duration: Duration) -> int:
    if duration.nanos or not 0 < duration.seconds <= _VALIDITY_MAX_S:
        raise invalid("plan.validity", "must be whole seconds, more than 0, up to 20 years")
    return duration.seconds


def plan_to_proto(plan: Plan) -> plans_pb2.Plan:
    """Write a version of a plan."""
    return plans_pb2.Plan(
        id=plan.id,
        account_id=plan.account_id,
        name=plan.name,
        type=plan.type.value,  # type: ignore[arg-type]
        charging_mode=plan.charging_mode.value if plan.charging_mode else 0,  # type: ignore[arg-type]
        product_kind=plan.product_kind.value,  # type: ignore[arg-type]
        version=plan.version,
        state=plan.state.value,  # type: ignore[arg-type]
        currency=plan.currency,
        service_profile_id=plan.service_profile_id,
        roaming_profile_id=plan.roaming_profile_id,
        tariff_id=plan.tariff_id,
        benefits=[_benefit_to_proto(benefit) for benefit in plan.benefits],
        charges=[_charge_to_proto(charge, plan.currency) for charge in plan.charges],
        counters=[_counter_to_proto(counter) for counter in plan.counters],
        notifications=[
            plans_pb2.PlanNotification(threshold_percent=n.threshold_percent, target=n.target)
            for n in plan.notifications
        ],
        priority=plan.priority,
        activation=plan.activation.value if plan.activation else 0,  # type: ignore[arg-type]
        validity=Duration(seconds=plan.validity_s) if plan.validity_s is not None else None,
        rate_zone_ids=plan.rate_zone_ids,
        on_depletion=plan.on_depletion.value,  # type: ignore[arg-type]
        prorated=plan.prorated,
        designated_account_ids=plan.designated_account_ids,
        labels=plan.labels,
        carrier=plan.carrier,
        description=plan.description,
        account_scope=plan.account_scope.value if plan.account_scope else 0,  # type: ignore[arg-type]
        recurrence=plan.recurrence.value if plan.recurrence else 0,  # type: ignore[arg-type]
        max_subscriptions=plan.max_subscriptions,
        resubscribe_on=plan.resubscribe_on.value if plan.resubscribe_on else 0,  # type: ignore[arg-type]
        system_managed=plan.system_managed,
        create_time=time_to_proto(plan.created_ms),
        update_time=time_to_proto(plan.updated_ms),
        etag=str(plan.etag),
    )


def _benefit_to_proto(benefit: Benefit) -> plans_pb2.Benefit:
    return plans_pb2.Benefit(
        benefit_id=benefit.benefit_id,
        services=[service.value for service in benefit.services],  # type: ignore[misc]
        quantity=benefit.quantity,
        rate_zone_ids=benefit.rate_zone_ids,
        recurrence=benefit.recurrence.value,  # type: ignore[arg-type]
        unit=benefit.unit.value if benefit.unit else 0,  # type: ignore[arg-type]
        roll_over_cycles=benefit.roll_over_cycles,
        use_rounding=use_rounding_to_proto(benefit.use_rounding),
        weights=[
            plans_pb2.BenefitWeight(
                rate_zone_ids=weight.rate_zone_ids,
                services=[service.value for service in weight.services],  # type: ignore[misc]
                quantity=weight.quantity,
                per_quantity=weight.per_quantity,
            )
            for weight in benefit.weights
        ],
        roll_over_order=benefit.roll_over_order.value if benefit.roll_over_order else 0,  # type: ignore[arg-type]
        roll_over_maximum=benefit.roll_over_maximum,
        time_bands=map(time_band_to_proto, benefit.time_bands),
    )


def _charge_to_proto(charge: PlanCharge, currency: str) -> plans_pb2.PlanCharge:
    return plans_pb2.PlanCharge(
        name=charge.name,
        trigger=charge.trigger.value,  # type: ignore[arg-type]
        amount=money_to_proto(currency, charge.amount_micros),
    )


def _counter_to_proto(counter: Counter) -> plans_pb2.Counter:
    return plans_pb2.Counter(
        name=counter.name,
        services=[service.value for service in counter.services],  # type: ignore[misc]
        limit=counter.limit,
    )
