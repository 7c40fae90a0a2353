"""Tariffs: versioned lists of rates; a network resolves to exactly one rate of a version (model, e-08)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum

from services.catalog.domain.items import Item
from services.catalog.domain.networks import countries_overlap
from services.catalog.domain.prices import is_exact
from services.catalog.domain.services import AccessType, Service
from services.catalog.domain.zones import ZoneReach
from services.common.errors import FailedPreconditionError, FieldViolation, invalid


class TariffState(IntEnum):
    """Where a version is in its life; numbers as in the contract."""

    DRAFT = 1
    PUBLISHED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """The price of services in a zone.

    Attributes:
        rate_id: unique in the tariff.
        rate_zone_id: the zone; empty is the default rate, for networks that no other rate covers.
        services: the services priced, sorted.
        access_types: the access types priced, sorted; empty means all.
        price_micros: price of `per_quantity` units, micros of the tariff's currency.
        per_quantity: units that the price is for, bytes or messages.
        increment: charged volume is rounded up to a multiple of this many units.
        minimum: least volume charged, units.
    """

    rate_id: str = ""
    rate_zone_id: str = ""
    services: tuple[Service, ...] = ()
    access_types: tuple[AccessType, ...] = ()
    price_micros: int = 0
    per_quantity: int = 1
    increment: int = 1
    minimum: int = 0

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
    """

    currency: str = ""
    version: int = 1
    state: TariffState = TariffState.DRAFT
    effective_ms: int | None = None
    rates: tuple[Rate, ...] = ()
    description: str = ""

    @property
    def zone_ids(self) -> frozenset[str]:
        """The zones that it references."""
        return frozenset(rate.rate_zone_id for rate in self.rates if rate.rate_zone_id)


def with_rate_ids(rates: tuple[Rate, ...]) -> tuple[Rate, ...]:
    """Give names to the rates that have none; INVALID_ARGUMENT RATE_ID_TWICE where two share one."""
    return tuple(
        replace(rate, rate_id=rate_id)
        for rate, rate_id in zip(rates, named([r.rate_id for r in rates], "r", "tariff.rates", "rate_id"), strict=True)
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


def find_overlap(rates: tuple[Rate, ...], zones: Mapping[str, ZoneReach]) -> Overlap | None:
    """Find two rates of a tariff for one network, service and access type.

    Countries are compared as such, not only by the networks that they have today: otherwise a later import would
    make two rates meet. It stops at the first overlap, so it looks at each network once per combination.

    Args:
        rates: the rates.
        zones: reach of each zone that they reference.
    """
    claimed: dict[tuple[Service, AccessType], dict[str, str]] = {}
    countries: dict[tuple[Service, AccessType], list[tuple[str, str]]] = {}
    for rate in rates:
        reach = zones[rate.rate_zone_id] if rate.rate_zone_id else ZoneReach(frozenset({"default"}))
        for combination in rate.combinations():
            owners = claimed.setdefault(combination, {})
            if met := owners.keys() & reach.network_ids:
                place = min(met)
                return Overlap(rate.rate_id, owners[place], *combination, place)
            known = countries.setdefault(combination, [])
            for code in reach.country_codes:
                for other, owner in known:
                    if countries_overlap(code, other) and owner != rate.rate_id:
                        return Overlap(rate.rate_id, owner, *combination, code)
            owners.update(dict.fromkeys(reach.network_ids, rate.rate_id))
            known.extend((code, rate.rate_id) for code in reach.country_codes)
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
        if not is_exact(rate.price_micros, rate.increment, rate.per_quantity):
            field = f"tariff.rates[{index}].price"
            raise FailedPreconditionError(
                "PRICE_OUT_OF_RANGE",
                f"Rate {rate.rate_id!r} cannot be charged exactly: with n/d the reduced fraction of price in micros "
                f"times increment over per_quantity, n and n * d must be below 2^53. Choose a per_quantity that "
                "divides more evenly, or a smaller increment.",
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
