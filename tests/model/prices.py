"""Prices as docs/tariffs.md has them, in exact fractions."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from math import ceil, floor
from zoneinfo import ZoneInfo

from services.rating.domain.pricing import Action, Meter, Rounding, TierMode
from services.rating.domain.tariffs import Rate
from services.rating.domain.terms import (
    CapTerms,
    CatalogTerms,
    ComponentTerms,
    CountedBy,
    RateTerms,
    RoundingTerms,
    Scope,
    TariffVersion,
    TierTerms,
    TimeBand,
)

Period = tuple[object, int | Fraction]
"""Where a count begins anew: what kind of period, and which, as a number of days."""
CountKey = tuple[object, ...]
"""What is counted: whose, where, by which part of which tariff, and in which period or session."""


def local_time(at_ms: int, time_zone: str) -> datetime:
    return datetime.fromtimestamp(at_ms // 1000, UTC).astimezone(ZoneInfo(time_zone))


def version_at(catalog: CatalogTerms, tariff_id: str, at_ms: int) -> TariffVersion | None:
    """The version in force: the last one that is effective."""
    found = [version for version in catalog.tariffs.get(tariff_id, ()) if version.effective_ms <= at_ms]
    return found[-1] if found else None


def band_holds(band: TimeBand, local: datetime, holidays: Collection[date] = ()) -> bool:
    """Whether a moment lies in a band; one that wraps belongs to the day on which it begins."""
    minute = local.hour * 60 + local.minute
    today, yesterday = (
        8 if day in holidays else day.isoweekday() for day in (local.date(), local.date() - timedelta(days=1))
    )
    days = band.weekdays or frozenset(range(1, 9))
    if band.start < band.end:
        return today in days and band.start <= minute < band.end
    return (today in days and minute >= band.start) or (yesterday in days and minute < band.end)


def cycle_of(at_ms: int, billing_day: int, time_zone: str) -> Period:
    """The billing cycle that a moment lies in, and its order among others."""
    day = local_time(at_ms, time_zone).date()
    while day.day != billing_day:
        day -= timedelta(days=1)
    return Scope.CYCLE, day.toordinal()


def rate_for(
    tariff: TariffVersion, catalog: CatalogTerms, service: int, network: str, access: int, at_ms: int
) -> RateTerms | None:
    """The most specific rate: network, country, zone, default; with time bands before without."""
    local, country = local_time(at_ms, tariff.time_zone), catalog.networks[network]
    found: list[tuple[int, bool, RateTerms]] = []
    for rate in tariff.rates:
        if service not in rate.services or (rate.access_types and access not in rate.access_types):
            continue
        if rate.bands and not any(band_holds(band, local, tariff.holidays) for band in rate.bands):
            continue
        places = [
            (4, network in rate.networks),
            (3, country in rate.countries or country.split("-")[0] in rate.countries),
            (2, bool(rate.zone_id) and network in catalog.zones.get(rate.zone_id, ())),
            (1, not (rate.networks or rate.countries or rate.zone_id)),
        ]
        found += [(kind, bool(rate.bands), rate) for kind, here in places if here][:1]
    return max(found, key=lambda each: each[:2])[2] if found else None


def components_of(rate: RateTerms) -> tuple[ComponentTerms, ...]:
    """A rate's parts; a simple price is one part over the record."""
    if rate.components:
        return rate.components
    price = rate.rate or Rate(1, 0, 0, 1)
    tier = TierTerms(0, price.numerator, price.denominator * price.increment, 0, Action.CHARGE)
    return (ComponentTerms(id="c1", tiers=(tier,), increment=price.increment, minimum=price.minimum),)


def cumulative(part: ComponentTerms, count: int) -> tuple[int, Action]:
    """The price of a count in micros, window by window where they hold only so much; what becomes of use at that height."""
    full = 0
    while part.window_most and count > part.window_most:
        full, count = full + 1, count - part.window_most
    price, action = of_scope(part, count)
    return price + (full * of_scope(part, part.window_most)[0] if full else 0), action


def of_scope(part: ComponentTerms, count: int) -> tuple[int, Action]:
    """The price of a count over its scope in micros, and what becomes of use at that height."""
    costs_at_least = part.minimum > 0 or part.lowest > 0
    if count <= part.free and not (count == part.free == 0 and costs_at_least):
        return 0, Action.CHARGE
    volume = max(count - part.free, part.minimum)
    volume = ceil(Fraction(volume, part.increment)) * part.increment
    price, begin, last = Fraction(0), 0, part.tiers[0]
    for tier in part.tiers:
        if begin >= volume:
            break
        end = volume if tier.up_to == 0 else min(volume, tier.up_to)
        price += tier.flat + Fraction((end - begin) * tier.price, tier.per_quantity)
        begin, last = end, tier
    if part.mode is TierMode.VOLUME:
        price = (last.flat if volume else 0) + Fraction(volume * last.price, last.per_quantity)
    price = max(price, Fraction(part.lowest))
    if part.highest is not None:
        price = min(price, Fraction(part.highest))
    units = price / part.unit
    whole = {
        Rounding.UP: ceil(units), Rounding.DOWN: floor(units), Rounding.HALF_UP: floor(units + Fraction(1, 2)),
        Rounding.HALF_EVEN: round(units),
    }  # fmt: skip
    return whole[part.rounding] * part.unit, last.action


@dataclass(frozen=True)
class Counting:
    """Who and what a use is, as counts see it."""

    tariff: TariffVersion
    payee: str
    account: str
    endpoint: str
    billing_day: int
    billing_zone: str
    network: str
    country: str
    session: object
    at_ms: int
    service: int

    def scope_of(self, scope: Scope) -> Period | None:
        """The period (or session) in which a use is counted, and its order among others; None if in none."""
        if scope is Scope.RECORD or (scope is Scope.SESSION and not self.session):
            return None
        if scope is Scope.SESSION:
            return ("session", self.session), 0
        if scope is Scope.CYCLE:
            return cycle_of(self.at_ms, self.billing_day, self.billing_zone)
        day = local_time(self.at_ms, self.tariff.time_zone).date()
        if scope is Scope.WEEK:
            return scope, day.toordinal() - day.weekday()
        return scope, day.toordinal() - (day.day - 1 if scope is Scope.MONTH else 0)

    def period(self, part: ComponentTerms | CapTerms, key: CountKey, counts: "Counts") -> Period | None:
        """The same for a part of a price; of windows the one that began last by the time of the use, if that reaches it.

        Or the next one, if it begins sooner than it is long. Else one begins with the use: when what it uses was granted
        to its session.
        """
        if part.scope is not Scope.WINDOW:
            return self.scope_of(part.scope)
        now, length = Fraction(self.at_ms // 1000, 86400), Fraction(part.window_s, 86400)
        began = [begin for kind, begin in counts.values.get(key, ()) if kind is Scope.WINDOW]
        reaching = [begin for begin in began if begin <= now < begin + length]
        following = [begin for begin in began if now < begin < now + length]
        granted = [begin for begin in counts.granted.get(key, ()) if begin <= now < begin + length]
        return Scope.WINDOW, max(reaching, default=min(following or granted, default=now))

    def owner(self, *, for_account: bool) -> str:
        return self.account if for_account else self.endpoint

    def key(self, rate: RateTerms, part: ComponentTerms) -> CountKey:
        name = ("shared", part.counter) if part.counter else (rate.id, part.id)
        where = {CountedBy.TOTAL: "", CountedBy.NETWORK: self.network, CountedBy.COUNTRY: self.country}[part.counted_by]
        owner = self.owner(for_account=part.for_account)
        return (owner, self.tariff.id, self.payee, *name, where)

    def cap_key(self, cap: CapTerms) -> CountKey:
        return (self.owner(for_account=cap.for_account), self.tariff.id, self.payee, "cap", cap.id)


def held_in(scope: Period) -> Period:
    """Where grants hold what they may add: of windows in whichever it will be used."""
    return (scope[0], -1) if scope[0] is Scope.WINDOW else scope


@dataclass
class Counts:
    """All counts; of days and cycles the periods of the last 40 days, 40 at most and two at least.

    Attributes:
        held: what open grants may add to them; and, by key and part, what they have reserved for that.
        granted: when what the session that is charged has given back for it was granted, as a number of days.
        most: what windows hold that hold only so much.
    """

    values: dict[CountKey, dict[Period, int]] = field(default_factory=dict)
    held: dict[tuple[CountKey, Period], int] = field(default_factory=dict)
    granted: dict[CountKey, list[Fraction]] = field(default_factory=dict)
    most: dict[CountKey, int] = field(default_factory=dict)

    def reserved(self, key: CountKey, part: str, scope: Period) -> int:
        return self.held_of((*key, "reserved", part), scope)

    def held_of(self, key: CountKey, scope: Period | None) -> int:
        return self.held.get((key, held_in(scope)), 0) if scope else 0

    def get(self, key: CountKey, scope: Period, *, with_held: bool = False) -> int:
        return self.values.get(key, {}).get(scope, 0) + (self.held_of(key, scope) if with_held else 0)

    def price_before(self, part: ComponentTerms, key: CountKey, scope: Period | None, count: int) -> int:
        """What was priced so far: nothing, if no use was counted, not even one without volume."""
        is_counted = count > 0 or (scope is not None and scope in self.values.get(key, {}))
        return cumulative(part, count)[0] if is_counted else 0

    def hold(self, key: CountKey, scope: Period, more: int) -> None:
        """Note what a grant may add; of a day or cycle other than the last that was noted, nothing is known any more."""
        scope = held_in(scope)
        if isinstance(scope[0], Scope):
            for other in [each for each in self.held if each[0] == key and each[1] != scope]:
                del self.held[other]
        self.held[key, scope] = self.held.get((key, scope), 0) + more

    def give_back(self, key: CountKey, scope: Period, more: int) -> None:
        """Note that a grant adds nothing any more."""
        scope = held_in(scope)
        if (key, scope) in self.held:
            self.held[key, scope] -= more
            if self.held[key, scope] == 0:
                del self.held[key, scope]

    def set(self, key: CountKey, scope: Period, count: int, at_ms: int) -> None:
        """Note a count; of windows that are full the last one is left, which the use at this time began."""
        periods = self.values.setdefault(key, {})
        most = self.most.get(key, 0)
        if most and count > most:
            periods.pop(scope, None)
            scope = scope[0], max(scope[1], Fraction(at_ms // 1000, 86400))
            while count > most:
                count -= most
        periods[scope] = count
        dated = sorted((each for each in periods if isinstance(each[0], Scope)), key=lambda each: each[1])
        recent = [each for each in dated if dated[-1][1] - each[1] <= 40][-40:]
        for old in dated[: -max(2, len(recent))]:
            del periods[old]


@dataclass
class Price:
    """What a use costs at a step."""

    amount: int = 0
    throttled: bool = False
    blocked: bool = False
    counts: list[tuple[CountKey, Period, int, int]] = field(default_factory=list)
    """What is counted, where, to what, and how much that is more than before."""
    parts: list[tuple[CountKey, Period, int]] = field(default_factory=list)
    """Of a grant: what it reserves for each part that counts."""
    costless: bool = False
    """Whether it goes by what the visited network asks, and that is not known."""


def measured(rounding: RoundingTerms, used: int) -> int:
    """What counts of all that a record, a session or an endpoint has used: whole blocks, up to a most."""
    blocks = ceil(Fraction(max(used, rounding.minimum), rounding.increment)) * rounding.increment if used else 0
    return min(blocks, rounding.maximum) if rounding.maximum else blocks


def used_before(
    counting: Counting, rate: RateTerms, part: ComponentTerms, counts: Counts
) -> tuple[CountKey, Period | None, int]:
    """What the session has used of the service, or the endpoint of what is counted, and where that is kept.

    Nothing, and nowhere, if each use is by itself.
    """
    own = replace(part, for_account=False)
    each: CountKey = ("each", part.each.scope)
    if part.each.scope is Scope.SESSION:
        own, each = replace(own, counter="", counted_by=CountedBy.TOTAL), ("each", counting.service)
    key, scope = (*counting.key(rate, own), *each), counting.scope_of(part.each.scope)
    return key, scope, counts.get(key, scope) if scope else 0


def metered(part: ComponentTerms, quantity: int, cost: int | None) -> int:
    """What a use is, as a part counts it."""
    return {Meter.QUANTITY: quantity, Meter.RECORDS: 1, Meter.COST: cost or 0}[part.meter]


def added(part: ComponentTerms, quantity: int, cost: int | None, used: int = 0, *, grant: bool = False) -> int:
    """By how much a use raises what a part counts, if its session, or its endpoint, has used some already.

    Of a grant the most that it may be, as others of the endpoint may use some before it: from where a block begins.
    """
    more = metered(part, quantity, cost)
    if grant and used and part.each.scope > Scope.SESSION:
        blocks = ceil(Fraction(more, part.each.increment)) * part.each.increment
        return min(blocks, part.each.maximum - measured(part.each, used)) if part.each.maximum else blocks
    return measured(part.each, used + more) - measured(part.each, used)


def lacking(
    counting: Counting, rate: RateTerms, quantity: int, cost: int | None, counts: Counts, *, grant: bool
) -> int:
    """What open grants lack, beside what they have reserved, if a use comes before them; a grant comes behind them."""
    lacks = 0
    for part in components_of(rate):
        key = counting.key(rate, part)
        scope = counting.period(part, key, counts)
        held = counts.held_of(key, scope)
        if scope is None or not held:
            continue
        stands = counts.get(key, scope)
        *_, used = used_before(counting, rate, part, counts)
        first = stands if grant else stands + added(part, quantity, cost, used)
        due = counts.price_before(part, key, scope, first) if grant else cumulative(part, first)[0]
        ends = [part.free, *(part.free + tier.up_to for tier in part.tiers if tier.up_to)]
        near = {height for end in ends for height in (end, end + 1) if first < height < first + held}
        most = max(due, *(cumulative(part, height)[0] for height in {first, first + held, *near}))
        lacks += max(0, most - due - counts.reserved(key, f"{rate.id}.{part.id}", scope))
    return lacks


def price(
    counting: Counting,
    rate: RateTerms,
    service: int,
    quantity: int,
    cost: int | None,
    counts: Counts,
    *,
    grant: bool,
    asks: bool = False,
) -> Price:
    """The price of a use at the counts as they stand, or, for a grant, as they will if all other grants are used.

    One that asks first does not pass where grants would not pass behind it.
    """
    found = Price()
    for part in components_of(rate):
        if part.meter is Meter.COST and cost is None:
            return Price(costless=True)
        key = counting.key(rate, part)
        counts.most[key] = part.window_most
        scope = counting.period(part, key, counts)
        before = counts.get(key, scope, with_held=grant) if scope else 0
        used_key, used_in, used = used_before(counting, rate, part, counts)
        after = before + added(part, quantity, cost, used, grant=grant)
        total, action = cumulative(part, after)
        found.amount += total - counts.price_before(part, key, scope, before)
        found.throttled |= action is Action.THROTTLE
        found.blocked |= action is Action.BLOCK
        held = counts.held_of(key, scope) if asks else 0
        found.blocked |= bool(held) and cumulative(part, after + held)[1] is Action.BLOCK
        if scope:
            found.counts.append((key, scope, after, after - before))
        if used_in and not part.each.is_plain and not grant:
            more = metered(part, quantity, cost)
            found.counts.append((used_key, used_in, used + more, more))
    dearer = lacking(counting, rate, quantity, cost, counts, grant=False) if asks and counting.tariff.caps else 0
    for cap in counting.tariff.caps:
        if not cap.bounds(service, rate.id):
            continue
        key = counting.cap_key(cap)
        scope = counting.period(cap, key, counts)
        before = counts.get(key, scope, with_held=grant) if scope else 0
        after = before + found.amount
        found.amount = min(after, cap.amount) - min(before, cap.amount)
        found.throttled |= after > cap.amount and cap.action is Action.THROTTLE
        held = counts.held_of(key, scope) + dearer if asks else 0
        found.blocked |= after + held > cap.amount and cap.action is Action.BLOCK
        if scope:
            found.counts.append((key, scope, after, after - before))
    return found


def dearest(counting: Counting, rate: RateTerms, service: int, quantity: int, counts: Counts, into: Price) -> int:
    """The most that a grant may cost, however much of the other grants is used before it: it begins or ends where a
    tier or the free units end, or is used first or last. What is for each part that counts goes `into` a price.
    """
    amount, into.parts = 0, []
    for part in components_of(rate):
        key = counting.key(rate, part)
        scope = counting.period(part, key, counts)
        first, last = (counts.get(key, scope, with_held=held) if scope else 0 for held in (False, True))
        more = added(part, quantity, quantity, used_before(counting, rate, part, counts)[-1], grant=True)
        ends = [part.free, *(part.free + tier.up_to for tier in part.tiers if tier.up_to)]
        if every := part.window_most:
            ends = [number * every + end for end in (*ends, every) for number in range((last + more) // every + 1)]
        near = {height for end in ends for height in (end, end - more, end + 1 - more) if first < height < last}
        most = max(
            cumulative(part, at + more)[0] - counts.price_before(part, key, scope, at) for at in {first, last, *near}
        )
        amount += most
        if scope and most > 0:
            into.parts.append(((*key, "reserved", f"{rate.id}.{part.id}"), scope, most))
    for cap in counting.tariff.caps:
        if cap.bounds(service, rate.id):
            key = counting.cap_key(cap)
            scope = counting.period(cap, key, counts)
            before = counts.get(key, scope) if scope else 0
            amount = min(before + amount, cap.amount) - min(before, cap.amount)
    return amount


def most_added(each: RoundingTerms, more: int, used: int, *, grant: bool) -> int:
    """The largest volume that adds `more` to a count at most; 0 if none does, or if all do."""
    before = measured(each, used)
    if each.maximum and before + more >= each.maximum:
        return 0
    if grant and used and each.scope > Scope.SESSION:
        return more // each.increment * each.increment
    reach = (more + before) // each.increment * each.increment
    return reach - used if reach >= each.minimum else 0


def falls(counting: Counting, rate: RateTerms, quantity: int, counts: Counts, *, grant: bool) -> list[int]:
    """Volumes up to `quantity` between which a larger one never costs less: a tier that prices all is not left."""
    ends = {quantity}
    for part in components_of(rate):
        key = counting.key(rate, part)
        scope = counting.period(part, key, counts)
        if part.mode is TierMode.VOLUME and part.meter is Meter.QUANTITY:
            for held in (False, True):
                before = counts.get(key, scope, with_held=held) if scope else 0
                *_, used = used_before(counting, rate, part, counts)
                for more in (part.free + tier.up_to - before for tier in part.tiers if tier.up_to):
                    ends.add(most_added(part.each, more, used, grant=grant))
    return sorted(end for end in ends if 0 < end <= quantity)
