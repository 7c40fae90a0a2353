"""Tariffs: versioned lists of rates; a network resolves to exactly one rate of a version (model, e-08)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum

from services.catalog.domain.components import PriceComponent, SpendingCap
from services.catalog.domain.items import Item
from services.catalog.domain.networks import countries_overlap
from services.catalog.domain.prices import is_exact
from services.catalog.domain.services import AccessType, Service
from services.catalog.domain.timebands import TimeBand, bands_meet
from services.catalog.domain.zones import ZoneReach
from services.common.errors import FailedPreconditionError, FieldViolation, invalid


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
    """

    currency: str = ""
    version: int = 1
    state: TariffState = TariffState.DRAFT
    effective_ms: int | None = None
    rates: tuple[Rate, ...] = ()
    description: str = ""
    time_zone: str = "UTC"
    spending_caps: tuple[SpendingCap, ...] = ()

    @property
    def zone_ids(self) -> frozenset[str]:
        """The zones that it references."""
        return frozenset(rate.rate_zone_id for rate in self.rates if rate.rate_zone_id)


def with_names(tariff: Tariff) -> Tariff:
    """Give names to the parts that have none; INVALID_ARGUMENT RATE_ID_TWICE and the like where two share one."""
    rate_ids = named([rate.rate_id for rate in tariff.rates], "r", "tariff.rates", "rate_id")
    cap_ids = named([cap.cap_id for cap in tariff.spending_caps], "s", "tariff.spending_caps", "cap_id")
    rates = []
    for index, (rate, rate_id) in enumerate(zip(tariff.rates, rate_ids, strict=True)):
        field = f"tariff.rates[{index}].components"
        component_ids = named([part.component_id for part in rate.components], "c", field, "component_id")
        components = zip(rate.components, component_ids, strict=True)
        parts = tuple(replace(part, component_id=component_id) for part, component_id in components)
        rates.append(replace(rate, rate_id=rate_id, components=parts))
    caps = zip(tariff.spending_caps, cap_ids, strict=True)
    named_caps = tuple(replace(cap, cap_id=cap_id) for cap, cap_id in caps)
    return replace(tariff, rates=tuple(rates), spending_caps=named_caps)


def require_counters_agree(tariff: Tariff) -> None:
    """Raise INVALID_ARGUMENT COUNTER_MISMATCH where components count together but not the same."""
    known: dict[str, PriceComponent] = {}
    for rate_index, rate in enumerate(tariff.rates):
        for index, component in enumerate(rate.components):
            if component.counter and known.setdefault(component.counter, component).counts != component.counts:
                raise invalid(
                    f"tariff.rates[{rate_index}].components[{index}].counter",
                    f"{component.counter!r} is counted with another scope, meter, counted_per or counted_by elsewhere",
                    "COUNTER_MISMATCH",
                )


def named(ids: list[str], letter: str, field: str, part: str) -> list[str]:
    """Fill empty ids with `letter` and a free number; INVALID_ARGUMENT where one stands twice.

    Args:
        ids: as the caller gave them.
        letter: what given names begin with.
        field: path of the list in the request.
        part: name of the id's field.
    """
    taken: set[str] = set()
    for index, given in enumerate(ids):
        if given and given in taken:
            raise invalid(f"{field}[{index}].{part}", f"{given!r} stands twice", f"{part.upper()}_TWICE")
        taken.add(given)
    free = (f"{letter}{number}" for number in range(1, 2 * len(ids) + 2))
    unused = (candidate for candidate in free if candidate not in taken)
    return [given or next(unused) for given in ids]


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
    """What the rates of one service, access type and kind of place hold already."""

    def __init__(self) -> None:
        self._networks: dict[str, list[Rate]] = {}
        self._countries: list[tuple[str, Rate]] = []

    def claim(self, rate: Rate, reach: ZoneReach) -> tuple[Rate, str] | None:
        """Note where a rate holds; return another rate that holds there at the same time, and the place."""
        for network_id in reach.network_ids:
            holding = self._networks.setdefault(network_id, [])
            for other in holding:
                if _at_one_time(rate, other):
                    return other, network_id
            holding.append(rate)
        for code in reach.country_codes:
            for known, other in self._countries:
                if other is not rate and countries_overlap(code, known) and _at_one_time(rate, other):
                    return other, code
        self._countries.extend((code, rate) for code in reach.country_codes)
        return None


def _at_one_time(one: Rate, other: Rate) -> bool:
    """Whether both would price a use at some time; one with time bands goes before one without."""
    return bool(one.time_bands) == bool(other.time_bands) and bands_meet(one.time_bands, other.time_bands)


def _places(rate: Rate, zones: Mapping[str, ZoneReach]) -> Iterable[tuple[str, ZoneReach]]:
    """Where a rate holds, by the kinds of places of which one goes before another."""
    if rate.network_ids:
        yield "network", ZoneReach(frozenset(rate.network_ids))
    if rate.country_codes:
        yield "country", ZoneReach(frozenset(), rate.country_codes)
    if rate.rate_zone_id:
        yield "zone", zones[rate.rate_zone_id]
    elif not rate.network_ids and not rate.country_codes:
        yield "default", ZoneReach(frozenset({"default"}))


def find_overlap(rates: tuple[Rate, ...], zones: Mapping[str, ZoneReach]) -> Overlap | None:
    """Find two equally specific rates of a tariff for one network, service, access type and time.

    Countries are compared as such, not only by the networks that they have today: otherwise a later import would
    make two rates meet.

    Args:
        rates: the rates.
        zones: reach of each zone that they reference.
    """
    claims: dict[tuple[Service, AccessType, str], _Claims] = {}
    for rate in rates:
        for kind, reach in _places(rate, zones):
            for service, access_type in rate.combinations():
                met = claims.setdefault((service, access_type, kind), _Claims()).claim(rate, reach)
                if met is not None:
                    other, place = met
                    return Overlap(rate.rate_id, other.rate_id, service, access_type, place)
    return None


def require_no_overlap(tariff: Tariff, zones: Mapping[str, ZoneReach]) -> None:
    """Raise FAILED_PRECONDITION TARIFF_ZONES_OVERLAP if two rates price the same network, service and access type."""
    overlap = find_overlap(tariff.rates, zones)
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
        effective_ms = max(now_ms, earliest) if previous else 0
    if effective_ms < earliest:
        raise invalid(
            "effective_time",
            f"lies before that of version {previous.version if previous else 0}, which this one follows",
            "EFFECTIVE_TIME_TOO_EARLY",
        )
    return replace(draft, state=TariffState.PUBLISHED, effective_ms=effective_ms)
