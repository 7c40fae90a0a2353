"""What a plan's benefits may say."""

from services.catalog.domain.components import PriceScope, UseRounding
from services.catalog.domain.plans import Benefit, Plan, ProductKind, Recurrence
from services.catalog.domain.services import Unit
from services.catalog.domain.timebands import HOLIDAY
from services.common.errors import invalid

POOLS = frozenset({ProductKind.SUBSCRIPTION_STATIC_POOL, ProductKind.SUBSCRIPTION_DYNAMIC_POOL})
POOL_BENEFIT_ID_MAX = 31
"""Of which ids of balances are made that have room for no more."""


def require_sound_benefits(plan: Plan) -> None:
    """Raise INVALID_ARGUMENT where a benefit contradicts itself or the kind of its plan."""
    for index, benefit in enumerate(plan.benefits):
        field = f"plan.benefits[{index}]"
        if benefit.unit not in {None, Unit.MONEY, min(benefit.services).unit}:
            raise invalid(
                f"{field}.unit",
                f"must be MONEY or {min(benefit.services).unit.name}, in which its services are counted",
                "UNIT_OF_SERVICES",
            )
        _require_sound_draws(benefit, field)
        _require_sound_roll_over(benefit, field)
        is_fast = benefit.recurrence in {Recurrence.DAILY, Recurrence.WEEKLY}
        if is_fast and plan.product_kind is ProductKind.SUBSCRIPTION_DYNAMIC_POOL:
            raise invalid(
                f"{field}.recurrence", "must be ONE_TIME or RECURRING in a dynamic pool", "RECURRENCE_NOT_PERMITTED"
            )
        if plan.product_kind in POOLS and len(benefit.benefit_id) > POOL_BENEFIT_ID_MAX:
            raise invalid(
                f"{field}.benefit_id",
                f"may have up to {POOL_BENEFIT_ID_MAX} characters in a plan that endpoints share",
                "BENEFIT_ID_TOO_LONG",
            )
        if benefit.roll_over_cycles and plan.product_kind is ProductKind.SUBSCRIPTION_DYNAMIC_POOL:
            raise invalid(
                f"{field}.roll_over_cycles",
                "must be 0: what members bring to a dynamic pool ends with the cycle",
                "ROLL_OVER_OF_DYNAMIC_POOL",
            )


def _require_sound_roll_over(benefit: Benefit, field: str) -> None:
    if benefit.roll_over_cycles and benefit.recurrence is Recurrence.ONE_TIME:
        raise invalid(f"{field}.roll_over_cycles", "belongs to a RECURRING benefit", "NOT_RECURRING")
    for name in ("roll_over_order", "roll_over_maximum"):
        if getattr(benefit, name) and not benefit.roll_over_cycles:
            raise invalid(f"{field}.{name}", "belongs to a benefit with roll_over_cycles", "NO_ROLL_OVER")


def _require_sound_draws(benefit: Benefit, field: str) -> None:
    if benefit.unit is Unit.MONEY:
        for name, reason in (("use_rounding", "ROUNDING_OF_MONEY"), ("weights", "WEIGHT_OF_MONEY")):
            if getattr(benefit, name):
                raise invalid(f"{field}.{name}", "is for volumes: money pays prices, which have their own", reason)
    rounding = benefit.use_rounding or UseRounding()
    if rounding.scope not in {PriceScope.RECORD, PriceScope.SESSION}:
        raise invalid(f"{field}.use_rounding.scope", "must be RECORD or SESSION", "ROUNDING_SCOPE")
    if rounding.maximum:
        raise invalid(f"{field}.use_rounding.maximum", "is for prices: what is used is drawn", "ROUNDING_MAXIMUM")
    for index, band in enumerate(benefit.time_bands):
        if HOLIDAY in band.weekdays:
            raise invalid(
                f"{field}.time_bands[{index}].weekdays", "has 8: only tariffs have holidays", "WEEKDAY_OF_TARIFFS"
            )
    for index, weight in enumerate(benefit.weights):
        if unknown := set(weight.services) - set(benefit.services):
            raise invalid(
                f"{field}.weights[{index}].services",
                f"{min(unknown).name} is not one of the benefit's",
                "SERVICE_NOT_OF_BENEFIT",
            )
