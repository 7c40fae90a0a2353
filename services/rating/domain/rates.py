"""Which rate of a tariff prices a use, how long, and what its price is made of."""

from dataclasses import dataclass

from services.rating.domain.measuring import UseRounding, counter_name
from services.rating.domain.periods import ALWAYS, DAILY, WEEKLY, Clock, Period, Window, place_of
from services.rating.domain.pricing import NO_BOUND, Action, Cap, Component, Pricing, tiers
from services.rating.domain.tariffs import EXACT_MAX, Rate
from services.rating.domain.terms import (
    AccountTerms,
    CatalogTerms,
    ComponentTerms,
    CountedBy,
    RateTerms,
    Scope,
    TariffVersion,
    TierTerms,
    Use,
)
from services.rating.domain.timebands import bands_at


@dataclass(frozen=True, slots=True)
class Payer:
    """Whose use counts together.

    Attributes:
        account: the account that pays; where an endpoint pays, its enterprise.
        payee: the account that is paid.
    """

    account: AccountTerms
    payee: str


def tariff_at(catalog: CatalogTerms, tariff_id: str, at_ms: int) -> tuple[TariffVersion | None, Window]:
    """The version in force at a moment, and how long it is."""
    chosen, (since, until) = None, ALWAYS
    for version in catalog.tariffs.get(tariff_id, ()):
        if version.effective_ms > at_ms:
            until = version.effective_ms
            break
        chosen, since = version, version.effective_ms
    return chosen, (since, until)


def rate_at(tariff: TariffVersion, catalog: CatalogTerms, use: Use, at_ms: int) -> tuple[RateTerms | None, Window]:
    """The most specific rate for a use at a moment, and how long that holds.

    One that names the network goes before one that names its country, before one for a zone, before a default rate;
    among those, one with time bands before one without. Publishing made sure that there is at most one.
    """
    best, rank, (since, until) = None, 0, ALWAYS
    for rate in tariff.rates:
        place = _place_rank(rate, catalog, use) if rate.prices(use.service, use.access_type) else 0
        if not place:
            continue
        holds, window = bands_at(rate.bands, tariff.time_zone, at_ms, tariff.holidays)
        since, until = max(since, window[0]), min(until, window[1])
        if holds and 2 * place + bool(rate.bands) > rank:
            best, rank = rate, 2 * place + bool(rate.bands)
    return best, (since, until)


def _place_rank(rate: RateTerms, catalog: CatalogTerms, use: Use) -> int:
    """How specific a rate is for a network: 4 names it, 3 its country, 2 a zone, 1 nothing; 0 if it does not hold."""
    if use.network_id in rate.networks:
        return 4
    country = catalog.networks.get(use.network_id, "")
    if country in rate.countries or country.partition("-")[0] in rate.countries:
        return 3
    if rate.zone_id:
        return 2 if use.network_id in catalog.zones.get(rate.zone_id, frozenset()) else 0
    return 0 if rate.networks or rate.countries else 1


def price_of(
    tariff: TariffVersion,
    rate: RateTerms | None,
    catalog: CatalogTerms,
    use: Use,
    payer: Payer,
    clocks: list[Clock],
) -> tuple[Rate | None, Pricing | None]:
    """What a rate's price is made of: simple arithmetic, or parts that count.

    Args:
        tariff: the version.
        rate: the rate.
        catalog: tells the network's country.
        use: what is priced.
        payer: whose use counts together.
        clocks: of the program; those that the price needs are added.
    """
    if rate is None:
        return None, None
    caps = [cap for cap in tariff.caps if cap.bounds(use.service, rate.id)]
    if rate.rate is not None and not caps:
        return rate.rate, None
    makes = _Maker(tariff, catalog, use, payer, clocks)
    components = tuple(makes.component(rate, part) for part in rate.components or (_of_simple(rate.rate),))
    made = tuple(
        Cap(
            cap.id,
            makes.name(f"cap:{cap.id}", CountedBy.TOTAL, cap.scope),
            payer.account.id if cap.for_account else "",
            makes.period(cap.scope, cap.window_s),
            cap.amount,
            cap.action,
        )
        for cap in caps
    )
    return None, Pricing(components, made)


def _of_simple(price: Rate | None) -> ComponentTerms:
    """A simple price as the component that it is short for; no price is free."""
    price = price or Rate(1, 0, 0, 1)
    blocks = TierTerms(0, price.numerator, price.denominator * price.increment, 0, Action.CHARGE)
    return ComponentTerms(id="c1", increment=price.increment, minimum=price.minimum, tiers=(blocks,))


class _Maker:
    """Makes the parts of one use's price."""

    def __init__(
        self, tariff: TariffVersion, catalog: CatalogTerms, use: Use, payer: Payer, clocks: list[Clock]
    ) -> None:
        self._tariff = tariff
        self._catalog = catalog
        self._use = use
        self._payer = payer
        self._clocks = clocks

    def period(self, scope: Scope, window_s: int) -> int:
        """Where a count over a scope begins anew."""
        if scope is Scope.RECORD:
            return Period.RECORD
        if scope is Scope.SESSION:
            return Period.SESSION
        if scope is Scope.CYCLE:
            clock = self._payer.account.cycle
        elif scope is Scope.WINDOW:
            clock = Clock(DAILY, "UTC", window_s)
        else:
            day = {Scope.DAY: DAILY, Scope.WEEK: WEEKLY, Scope.MONTH: 1}[scope]
            clock = Clock(day, self._tariff.time_zone)
        return place_of(clock, self._clocks)

    def name(self, counter: str, counted_by: CountedBy, scope: Scope) -> str:
        """Name of a count in its holder; the versions of a tariff count on.

        What windows count is not taken for what periods of the calendar do, where a part changes from one to the other.
        """
        counter = f"window:{counter}" if scope is Scope.WINDOW else counter
        place = {
            CountedBy.TOTAL: "",
            CountedBy.NETWORK: self._use.network_id,
            CountedBy.COUNTRY: self._catalog.networks.get(self._use.network_id, ""),
        }[counted_by]
        return counter_name(self._tariff.id, self._payer.payee, counter, place)

    def component(self, rate: RateTerms, part: ComponentTerms) -> Component:
        """Make a component."""
        priced, denominator = tiers(
            [(tier.up_to, tier.price, tier.per_quantity, tier.flat, tier.action) for tier in part.tiers],
            part.increment,
        )
        counts = part.scope is not Scope.RECORD
        counter = f"shared:{part.counter}" if part.counter else f"{rate.id}.{part.id}"
        return Component(
            id=f"{rate.id}.{part.id}",
            counter=self.name(counter, part.counted_by, part.scope) if counts else "",
            owner=self._payer.account.id if part.for_account and counts else "",
            period=self.period(part.scope, part.window_s),
            meter=part.meter,
            free=part.free,
            increment=part.increment,
            minimum=part.minimum,
            mode=part.mode,
            tiers=priced,
            denominator=denominator,
            lowest=part.lowest,
            highest=NO_BOUND if part.highest is None else part.highest,
            unit=part.unit,
            rounding=part.rounding,
            each=self._each(part, counter, f"{rate.id}.{part.id}"),
            covered=part.covered,
            window_most=part.window_most,
        )

    def _each(self, part: ComponentTerms, counter: str, own: str) -> UseRounding | None:
        """How what it counts is measured.

        A session measures each part and service by itself; what is measured over a longer period is added up as it is
        counted: with the parts that share the counter, at each place.
        """
        how = part.each
        if how.is_plain:
            return None
        kept = ""
        if how.scope is Scope.SESSION:
            kept = self.name(f"each:{own}:{self._use.service:d}", CountedBy.TOTAL, how.scope)
        elif how.scope is not Scope.RECORD:
            kept = self.name(f"each:{how.scope.name}:{counter}", part.counted_by, how.scope)
        period = self.period(how.scope, 0) if kept else Period.RECORD
        return UseRounding(kept, how.increment, how.minimum, how.maximum or EXACT_MAX, period)
