"""Parts of a rate's price, spending caps and time bands."""

from google.protobuf.duration_pb2 import Duration
from google.type.money_pb2 import Money

from meterline.catalog.v1 import plans_pb2, tariffs_pb2
from services.catalog.convert.values import money_to_proto, price_from_proto, services_from_proto
from services.catalog.domain.components import (
    CountedBy,
    CountedPer,
    LimitAction,
    PriceComponent,
    PriceMeter,
    PriceScope,
    RoundingMode,
    SpendingCap,
    Tier,
    TierMode,
    UseRounding,
    require_sound,
)
from services.catalog.domain.prices import PRICE_MICROS_MAX
from services.catalog.domain.timebands import TimeBand
from services.common.errors import invalid
from services.common.timezones import time_zones

_WINDOW_MIN_S = 60
_WINDOW_MAX_S = 40 * 86400
"""Rating keeps what windows counted for 40 days."""


def component_from_proto(message: tariffs_pb2.PriceComponent, currency: str, field: str) -> PriceComponent:
    """Read a component; INVALID_ARGUMENT where it contradicts itself."""

    def money(name: str) -> int:
        return price_from_proto(getattr(message, name), currency, f"{field}.{name}", PRICE_MICROS_MAX)

    component = PriceComponent(
        component_id=message.component_id,
        meter=PriceMeter(message.meter or PriceMeter.QUANTITY),
        scope=PriceScope(message.scope or PriceScope.RECORD),
        counted_per=CountedPer(message.counted_per or CountedPer.ENDPOINT),
        counted_by=CountedBy(message.counted_by or CountedBy.TOTAL),
        counter=message.counter,
        free_quantity=message.free_quantity,
        increment=message.increment or 1,
        minimum=message.minimum,
        tier_mode=TierMode(message.tier_mode or TierMode.GRADUATED),
        tiers=tuple(_tier(tier, currency, f"{field}.tiers[{index}]") for index, tier in enumerate(message.tiers)),
        minimum_price_micros=money("minimum_price"),
        maximum_price_micros=money("maximum_price") if message.HasField("maximum_price") else None,
        rounding_micros=money("rounding_unit") if message.HasField("rounding_unit") else 1,
        rounding_mode=RoundingMode(message.rounding_mode or RoundingMode.UP),
        use_rounding=use_rounding_from_proto(message),
        charge_covered_use=message.charge_covered_use,
        window_s=_window_from_proto(message, field),
        window_quantity=message.window_quantity,
    )
    require_sound(component, field)
    return component


def _tier(message: tariffs_pb2.Tier, currency: str, field: str) -> Tier:
    return Tier(
        up_to=message.up_to,
        price_micros=price_from_proto(message.price, currency, f"{field}.price", PRICE_MICROS_MAX),
        per_quantity=message.per_quantity or 1,
        flat_micros=price_from_proto(message.flat_price, currency, f"{field}.flat_price", PRICE_MICROS_MAX),
        action=LimitAction(message.action or LimitAction.CHARGE),
    )


def component_to_proto(component: PriceComponent, currency: str) -> tariffs_pb2.PriceComponent:
    """Write a component."""

    def money(micros: int | None) -> Money | None:
        return money_to_proto(currency, micros) if micros is not None else None

    return tariffs_pb2.PriceComponent(
        component_id=component.component_id,
        meter=component.meter.value,  # type: ignore[arg-type]
        scope=component.scope.value,  # type: ignore[arg-type]
        counted_per=component.counted_per.value,  # type: ignore[arg-type]
        counted_by=component.counted_by.value,  # type: ignore[arg-type]
        counter=component.counter,
        free_quantity=component.free_quantity,
        increment=component.increment,
        minimum=component.minimum,
        tier_mode=component.tier_mode.value,  # type: ignore[arg-type]
        tiers=[
            tariffs_pb2.Tier(
                up_to=tier.up_to,
                price=money(tier.price_micros),
                per_quantity=tier.per_quantity,
                flat_price=money(tier.flat_micros),
                action=tier.action.value,  # type: ignore[arg-type]
            )
            for tier in component.tiers
        ],
        minimum_price=money(component.minimum_price_micros),
        maximum_price=money(component.maximum_price_micros),
        rounding_unit=money(component.rounding_micros),
        rounding_mode=component.rounding_mode.value,  # type: ignore[arg-type]
        use_rounding=use_rounding_to_proto(component.use_rounding),
        charge_covered_use=component.charge_covered_use,
        window=_window_to_proto(component.window_s),
        window_quantity=component.window_quantity,
    )


def _window_from_proto(message: tariffs_pb2.PriceComponent | tariffs_pb2.SpendingCap, field: str) -> int:
    is_window = message.scope == tariffs_pb2.PRICE_SCOPE_WINDOW
    if is_window != message.HasField("window"):
        said = "is required where scope is WINDOW" if is_window else "is only for scope WINDOW"
        raise invalid(f"{field}.window", said, "WINDOW_MISFIT")
    if is_window and (message.window.nanos or not _WINDOW_MIN_S <= message.window.seconds <= _WINDOW_MAX_S):
        raise invalid(f"{field}.window", "must be whole seconds, 60 to 3456000 (40 days)")
    return message.window.seconds


def _window_to_proto(window_s: int) -> Duration | None:
    return Duration(seconds=window_s) if window_s else None


def use_rounding_from_proto(message: tariffs_pb2.PriceComponent | plans_pb2.Benefit) -> UseRounding | None:
    """Read how use is measured; None if nothing is said of it."""
    if not message.HasField("use_rounding"):
        return None
    stated = message.use_rounding
    return UseRounding(
        scope=PriceScope(stated.scope or PriceScope.RECORD),
        minimum=stated.minimum,
        increment=stated.increment or 1,
        maximum=stated.maximum,
    )


def use_rounding_to_proto(rounding: UseRounding | None) -> tariffs_pb2.UseRounding | None:
    """Write how use is measured."""
    if rounding is None:
        return None
    return tariffs_pb2.UseRounding(
        scope=rounding.scope.value,  # type: ignore[arg-type]
        minimum=rounding.minimum,
        increment=rounding.increment,
        maximum=rounding.maximum,
    )


def cap_from_proto(message: tariffs_pb2.SpendingCap, currency: str, field: str) -> SpendingCap:
    """Read a spending cap."""
    if message.scope in {tariffs_pb2.PRICE_SCOPE_UNSPECIFIED, tariffs_pb2.PRICE_SCOPE_RECORD}:
        raise invalid(f"{field}.scope", "must be SESSION, DAY, WEEK, MONTH, CYCLE or WINDOW", "FIELD_REQUIRED")
    if not message.HasField("amount"):
        raise invalid(f"{field}.amount", "is required", "FIELD_REQUIRED")
    if message.action == tariffs_pb2.LIMIT_ACTION_CHARGE:
        raise invalid(f"{field}.action", "must be FREE, THROTTLE or BLOCK", "ACTION_NOT_PERMITTED")
    return SpendingCap(
        cap_id=message.cap_id,
        scope=PriceScope(message.scope),
        counted_per=CountedPer(message.counted_per or CountedPer.ENDPOINT),
        services=services_from_proto(message.services, f"{field}.services"),
        amount_micros=price_from_proto(message.amount, currency, f"{field}.amount", PRICE_MICROS_MAX),
        action=LimitAction(message.action or LimitAction.FREE),
        window_s=_window_from_proto(message, field),
        rate_ids=tuple(message.rate_ids),
    )


def cap_to_proto(cap: SpendingCap, currency: str) -> tariffs_pb2.SpendingCap:
    """Write a spending cap."""
    return tariffs_pb2.SpendingCap(
        cap_id=cap.cap_id,
        scope=cap.scope.value,  # type: ignore[arg-type]
        counted_per=cap.counted_per.value,  # type: ignore[arg-type]
        services=[service.value for service in cap.services],  # type: ignore[misc]
        amount=money_to_proto(currency, cap.amount_micros),
        action=cap.action.value,  # type: ignore[arg-type]
        window=_window_to_proto(cap.window_s),
        rate_ids=cap.rate_ids,
    )


def time_band_from_proto(message: tariffs_pb2.TimeBand) -> TimeBand:
    """Read a time band."""
    return TimeBand(weekdays=tuple(sorted(message.weekdays)), start=_minute(message.start), end=_minute(message.end))


def time_band_to_proto(band: TimeBand) -> tariffs_pb2.TimeBand:
    """Write a time band."""
    return tariffs_pb2.TimeBand(weekdays=band.weekdays, start=_clock(band.start), end=_clock(band.end))


def _minute(clock: str) -> int:
    hours, minutes = clock.split(":")
    return int(hours) * 60 + int(minutes)


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def time_zone_from_proto(name: str, field: str) -> str:
    """Read the name of a time zone; empty is UTC."""
    if name and name not in time_zones():
        raise invalid(field, f"{name!r} is not a time zone of the IANA database", "TIME_ZONE_UNKNOWN")
    return name or "UTC"
