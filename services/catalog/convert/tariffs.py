"""Rate zones and tariffs."""

from datetime import date

from meterline.catalog.v1 import tariffs_pb2
from services.catalog.convert.components import (
    cap_from_proto,
    cap_to_proto,
    component_from_proto,
    component_to_proto,
    time_band_from_proto,
    time_band_to_proto,
    time_zone_from_proto,
)
from services.catalog.convert.values import (
    access_types_from_proto,
    currency_from_proto,
    money_to_proto,
    price_from_proto,
    services_from_proto,
    time_to_proto,
)
from services.catalog.domain.prices import PRICE_MICROS_MAX
from services.catalog.domain.tariffs import Rate, Tariff
from services.catalog.domain.zones import RateZone
from services.common.errors import invalid


def rate_zone_from_proto(message: tariffs_pb2.RateZone) -> RateZone:
    """Read what a caller says of a rate zone; a network named twice counts once."""
    return RateZone(
        name=message.name,
        network_ids=tuple(sorted(set(message.network_ids))),
        country_codes=tuple(sorted(message.country_codes)),
    )


def rate_zone_to_proto(zone: RateZone) -> tariffs_pb2.RateZone:
    """Write a rate zone."""
    return tariffs_pb2.RateZone(
        id=zone.id,
        account_id=zone.account_id,
        name=zone.name,
        network_ids=zone.network_ids,
        country_codes=zone.country_codes,
        create_time=time_to_proto(zone.created_ms),
        update_time=time_to_proto(zone.updated_ms),
        etag=str(zone.etag),
    )


def _rate_from_proto(message: tariffs_pb2.Rate, currency: str, field: str) -> Rate:
    priced = message.HasField("price")
    if message.components and (priced or message.per_quantity or message.increment or message.minimum):
        raise invalid(f"{field}.components", "stand in place of price, per_quantity, increment, minimum", "PRICE_TWICE")
    if not (priced or message.components):
        raise invalid(f"{field}.price", "is required unless there are components", "FIELD_REQUIRED")
    return Rate(
        rate_id=message.rate_id,
        rate_zone_id=message.rate_zone_id,
        services=services_from_proto(message.services, f"{field}.services"),
        access_types=access_types_from_proto(message.access_types, f"{field}.access_types"),
        price_micros=price_from_proto(message.price, currency, f"{field}.price", PRICE_MICROS_MAX),
        per_quantity=message.per_quantity or 1,
        increment=message.increment or 1,
        minimum=message.minimum,
        network_ids=tuple(sorted(message.network_ids)),
        country_codes=tuple(sorted(message.country_codes)),
        time_bands=tuple(map(time_band_from_proto, message.time_bands)),
        components=tuple(
            component_from_proto(component, currency, f"{field}.components[{index}]")
            for index, component in enumerate(message.components)
        ),
    )


def _rate_to_proto(rate: Rate, currency: str) -> tariffs_pb2.Rate:
    simple = {
        "price": money_to_proto(currency, rate.price_micros),
        "per_quantity": rate.per_quantity,
        "increment": rate.increment,
        "minimum": rate.minimum,
    }
    return tariffs_pb2.Rate(
        rate_id=rate.rate_id,
        rate_zone_id=rate.rate_zone_id,
        services=[service.value for service in rate.services],  # type: ignore[misc]
        access_types=[kind.value for kind in rate.access_types],  # type: ignore[misc]
        network_ids=rate.network_ids,
        country_codes=rate.country_codes,
        time_bands=map(time_band_to_proto, rate.time_bands),
        components=[component_to_proto(component, currency) for component in rate.components],
        **({} if rate.components else simple),
    )


def tariff_from_proto(message: tariffs_pb2.Tariff) -> Tariff:
    """Read what a caller says of a tariff."""
    return Tariff(
        name=message.name,
        currency=currency_from_proto(message.currency, "tariff.currency"),
        rates=tuple(
            _rate_from_proto(rate, message.currency, f"tariff.rates[{index}]")
            for index, rate in enumerate(message.rates)
        ),
        description=message.description,
        time_zone=time_zone_from_proto(message.time_zone, "tariff.time_zone"),
        spending_caps=tuple(
            cap_from_proto(cap, message.currency, f"tariff.spending_caps[{index}]")
            for index, cap in enumerate(message.spending_caps)
        ),
        holidays=tuple(sorted(_date(day, f"tariff.holidays[{n}]") for n, day in enumerate(message.holidays))),
    )


def _date(text: str, field: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise invalid(field, f"{text!r} is no day of the calendar", "DATE_INVALID") from error


def tariff_to_proto(tariff: Tariff) -> tariffs_pb2.Tariff:
    """Write a version of a tariff."""
    return tariffs_pb2.Tariff(
        id=tariff.id,
        account_id=tariff.account_id,
        name=tariff.name,
        currency=tariff.currency,
        version=tariff.version,
        state=tariff.state.value,  # type: ignore[arg-type]
        effective_time=time_to_proto(tariff.effective_ms) if tariff.effective_ms is not None else None,
        rates=[_rate_to_proto(rate, tariff.currency) for rate in tariff.rates],
        description=tariff.description,
        time_zone=tariff.time_zone,
        spending_caps=[cap_to_proto(cap, tariff.currency) for cap in tariff.spending_caps],
        holidays=[day.isoformat() for day in tariff.holidays],
        create_time=time_to_proto(tariff.created_ms),
        update_time=time_to_proto(tariff.updated_ms),
        etag=str(tariff.etag),
    )
