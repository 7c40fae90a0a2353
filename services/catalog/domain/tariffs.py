"""Tariffs: versioned lists of rates; a network resolves to exactly one rate of a version (model, e-08)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import IntEnum
from functools import reduce
from operator import or_

from services.catalog.domain.components import PriceComponent, SpendingCap
from services.catalog.domain.items import Item
from services.catalog.domain.prices import is_exact
from services.catalog.domain.services import AccessType, Service
from services.catalog.domain.timebands import ALL_MINUTES, TimeBand
from services.catalog.domain.zones import ZoneReach
from services.common.errors import FailedPreconditionError, FieldViolation, invalid

CLOCKS_DIFFER_MS = 10_000
"""By how much the clock by which a version was published may be ahead of the one by which the next one is."""


class TariffState(IntEnum):
    """Where a version is in its life; numbers as in the contract."""

    DRAFT = 1
    PUBLISHED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """The price of services in a place, at a time.

    Attributes:
        rate_id: unique in the tariff.
        rate_zone_id: a zone where it holds; with no place at all it is the default rate, for networks that no other
            rate covers.
        services: the services priced, sorted.
        access_types: the access types priced, sorted; empty means all.
        price_micros: price of `per_quantity` units, micros of the tariff's currency.
        per_quantity: units that the price is for, bytes or messages.
        increment: charged volume is rounded up to a multiple of this many units.
        minimum: least volume charged, units.
        network_ids: networks where it holds, sorted.
        country_codes: countries where it holds, sorted.
        time_bands: when it holds; empty means always.
        components: the price in parts, in place of the four numbers above.
    """

    rate_id: str = ""
    rate_zone_id: str = ""
    services: tuple[Service, ...] = ()
    access_types: tuple[AccessType, ...] = ()
    price_micros: int = 0
    per_quantity: int = 1
    increment: int = 1
    minimum: int = 0
    network_ids: tuple[str, ...] = ()
    country_codes: tuple[str, ...] = ()
    time_bands: tuple[TimeBand, ...] = ()
    components: tuple[PriceComponent, ...] = ()

    @property
    def places(self) -> tuple[object, ...]:
        """Where it holds."""
        return (self.rate_zone_id, self.network_ids, self.country_codes)

    def combinations(self) -> Iterable[tuple[Service, AccessType]]:
        """The pairs of service and access type that it prices."""
        return ((service, access) for service in self.services for access in self.access_types or tuple(AccessType))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff(Item):
    """A version of a tariff.

    Attributes:
        currency: ISO 4217 code of all prices.
        version: from 1.
        state: DRAFT can change, PUBLISHED never.
        effective_ms: usage from this time on is priced by it, milliseconds since 1970; None for a draft.
        rates: in the order in which they were stated.
        description: free text.
        time_zone: IANA name of the zone of its time bands and days.
        spending_caps: bounds of what it charges; the first is applied first.
        holidays: days that its time bands call 8, in its time zone; sorted.
    """

    currency: str = ""
    version: int = 1
    state: TariffState = TariffState.DRAFT
    effective_ms: int | None = None
    rates: tuple[Rate, ...] = ()
    description: str = ""
    time_zone: str = "UTC"
    spending_caps: tuple[SpendingCap, ...] = ()
    holidays: tuple[date, ...] = ()

    @property
    def zone_ids(self) -> frozenset[str]:
        """The zones that it references."""
        return frozenset(rate.rate_zone_id for rate in self.rates if rate.rate_zone_id)


def require_counters_agree(tariff: Tariff) -> None:
    """Raise INVALID_ARGUMENT where components count together but not the same.

    COUNTER_MISMATCH where they share a counter and have another scope, window, meter or owner; UNITS_MIXED where bytes
    and messages would be added up.
    """
    known: dict[str, tuple[object, ...]] = {}
    for rate_index, rate in enumerate(tariff.rates):
        field = f"tariff.rates[{rate_index}]"
        units = {service.unit for service in rate.services}
        if len(units) > 1 and any(part.adds_up for part in rate.components):
            raise invalid(
                f"{field}.services", "are counted in bytes and in messages; make a rate for each", "UNITS_MIXED"
            )
        for index, component in enumerate(rate.components):
            counts = (*component.counts, units if component.adds_up else None)
            if component.counter and known.setdefault(component.counter, counts) != counts:
                raise invalid(
                    f"{field}.components[{index}].counter",
                    f"{component.counter!r} is counted with another scope, window, meter, unit, counted_per or "
                    "counted_by elsewhere",
                    "COUNTER_MISMATCH",
                )


def require_caps_of_rates(tariff: Tariff) -> None:
    """Raise INVALID_ARGUMENT RATE_UNKNOWN where a cap is of a rate that the tariff has not."""
    known = {rate.rate_id for rate in tariff.rates}
    for index, cap in enumerate(tariff.spending_caps):
        for place, rate_id in enumerate(cap.rate_ids):
            if rate_id not in known:
                raise invalid(
                    f"tariff.spending_caps[{index}].rate_ids[{place}]",
                    f"{rate_id!r} is not the rate_id of one of the tariff's rates",
                    "RATE_UNKNOWN",
                )


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two rates that both price the same thing."""

    rate_id: str
    other_rate_id: str
    service: Service
    access_type: AccessType
    place: str
    """A network id, a country code, or `default`."""


class _Claims:
    """At which minutes of the week, and of a holiday, places have a rate already, as bits.

    What is asked about goes by service, access type, kind of place, and whether rates have time bands.
    """

    def __init__(self) -> None:
        self._held: dict[tuple[object, str], int] = {}

    def has(self, what: object, place: str, minutes: int) -> bool:
        """Whether a place has a rate at some of these minutes; a country has those of its subdivisions."""
        country, _, subdivision = place.partition("-")
        around = self._held.get((what, country if subdivision else f"{country}-"), 0)
        return bool((self._held.get((what, place), 0) | around) & minutes)

    def claim(self, what: object, place: str, minutes: int) -> None:
        """Note that a place has a rate at these minutes."""
        country, _, subdivision = place.partition("-")
        for name in (place, f"{country}-") if subdivision else (place,):
            self._held[what, name] = self._held.get((what, name), 0) | minutes


def _minutes(rate: Rate, *, holidays: bool) -> int:
    """The minutes of the week, and of a holiday, at which it holds, as bits."""
    spans = [span for band in rate.time_bands for span in band.spans(holidays=holidays)] or [(0, ALL_MINUTES)]
    return reduce(or_, (((1 << (end - start)) - 1) << start for start, end in spans))


def _places(rate: Rate, zones: Mapping[str, ZoneReach]) -> Iterable[tuple[str, Sequence[str]]]:
    """Where a rate holds (network ids and country codes), by the kinds of places of which one goes before another."""
    if rate.network_ids:
        yield "network", rate.network_ids
    if rate.country_codes:
        yield "country", rate.country_codes
    if rate.rate_zone_id:
        reach = zones[rate.rate_zone_id]
        yield "zone", (*sorted(reach.network_ids), *reach.country_codes)
    elif not rate.network_ids and not rate.country_codes:
        yield "default", ("default",)


def find_overlap(rates: Sequence[Rate], zones: Mapping[str, ZoneReach], *, holidays: bool = False) -> Overlap | None:
    """Find two equally specific rates of a tariff for one network, service, access type and time.

    Countries are compared as such, not only by the networks that they have today: otherwise a later import would
    make two rates meet. Takes time with the number of places that the rates name, not with its square.

    Args:
        rates: the rates.
        zones: reach of each zone that they reference.
        holidays: whether the tariff has any.
    """
    claims = _Claims()
    for index, rate in enumerate(rates):
        minutes, has_bands = _minutes(rate, holidays=holidays), bool(rate.time_bands)
        for kind, places in _places(rate, zones):
            for service, access_type in rate.combinations():
                what = (service, access_type, kind, has_bands)
                for place in places:
                    if claims.has(what, place, minutes):
                        if index == 1:
                            return Overlap(rate.rate_id, rates[0].rate_id, service, access_type, place)
                        pairs = (find_overlap((other, rate), zones, holidays=holidays) for other in rates[:index])
                        return next(filter(None, pairs))
                for place in places:  # only now: it may name a country and a part of it
                    claims.claim(what, place, minutes)
    return None


def require_no_overlap(tariff: Tariff, zones: Mapping[str, ZoneReach]) -> None:
    """Raise FAILED_PRECONDITION TARIFF_ZONES_OVERLAP if two rates price the same network, service and access type."""
    overlap = find_overlap(tariff.rates, zones, holidays=bool(tariff.holidays))
    if overlap is not None:
        what = f"{overlap.service.name} over {overlap.access_type.name[1]}G"
        raise FailedPreconditionError(
            "TARIFF_ZONES_OVERLAP",
            f"Rates {overlap.other_rate_id!r} and {overlap.rate_id!r} of tariff {tariff.id} version {tariff.version} "
            f"both price {what} at {overlap.place}. A network has one rate: part their zones or services.",
            metadata={
                "tariff_id": tariff.id,
                "rate_id": overlap.rate_id,
                "other_rate_id": overlap.other_rate_id,
                "place": overlap.place,
                "service": overlap.service.name,
            },
        )


def require_exact_prices(tariff: Tariff) -> None:
    """Raise FAILED_PRECONDITION PRICE_OUT_OF_RANGE if a rate's arithmetic could leave the exact range."""
    for index, rate in enumerate(tariff.rates):
        simple = is_exact(rate.price_micros, rate.increment, rate.per_quantity)
        wrong = [n for n, component in enumerate(rate.components) if not component.is_exact]
        if not simple or wrong:
            field = f"tariff.rates[{index}].{f'components[{wrong[0]}].tiers' if wrong else 'price'}"
            raise FailedPreconditionError(
                "PRICE_OUT_OF_RANGE",
                f"Rate {rate.rate_id!r} cannot be charged exactly: with n/d the reduced fraction of price in micros "
                "times increment over per_quantity, n and n * d must be below 2^53 (for tiers, the sum of n over their "
                "common d). Choose a per_quantity that divides more evenly, or a smaller increment.",
                metadata={"rate_id": rate.rate_id},
                violations=[FieldViolation(field, "leaves the exact range", "PRICE_OUT_OF_RANGE")],
            )


def published(draft: Tariff, previous: Tariff | None, effective_ms: int | None, now_ms: int) -> Tariff:
    """Freeze a draft.

    Args:
        draft: the draft version.
        previous: the published version that it follows; None for the first.
        effective_ms: from when it prices usage; None means always for a first version, now for a later one.
        now_ms: the time of the call.

    Raises:
        FailedPreconditionError: TARIFF_EMPTY.
        InvalidArgumentError: EFFECTIVE_TIME_TOO_EARLY, before the version that it follows.
    """
    if not draft.rates:
        raise FailedPreconditionError("TARIFF_EMPTY", "The draft has no rates. Add at least one, then publish.")
    earliest = previous.effective_ms or 0 if previous else 0
    if effective_ms is None:
        is_soon = earliest <= now_ms + CLOCKS_DIFFER_MS
        effective_ms = (max(now_ms, earliest) if is_soon else now_ms) if previous else 0
    if effective_ms < earliest:
        raise invalid(
            "effective_time",
            f"lies before that of version {previous.version if previous else 0}, which this one follows: "
            "state that or a later time",
            "EFFECTIVE_TIME_TOO_EARLY",
        )
    return replace(draft, state=TariffState.PUBLISHED, effective_ms=effective_ms)
