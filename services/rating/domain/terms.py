"""The commercial terms that charging works by, as rating sees them: read from the other services, never written."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from enum import IntEnum
from typing import TypeVar

from services.common.clock import MINUTE_MS
from services.rating.domain.balances import RenewOn, RollOverOrder
from services.rating.domain.periods import ALWAYS, Clock, Window
from services.rating.domain.pricing import Action, Meter, Rounding, TierMode
from services.rating.domain.reasons import Service, Unit
from services.rating.domain.tariffs import Rate

PlanKey = tuple[str, int]
"""Id and version of a plan."""
CLOCKS_DIFFER_MS = MINUTE_MS
"""By how much the clock that says when something was used may be behind the one that says when an add-on was given."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """A plan version given to an endpoint or account.

    Attributes:
        id: `asg_...`.
        plan: id and version of the plan.
        priority: order of consumption of an add-on, lowest first.
        assigned_ms: when, milliseconds since 1970.
        expires_ms: when it ends or was replaced; 0 if not known yet or never.
    """

    id: str
    plan: PlanKey
    priority: int
    assigned_ms: int
    expires_ms: int

    @property
    def from_ms(self) -> int:
        """From when use draws on it, if it is an add-on: clocks differ."""
        return self.assigned_ms - CLOCKS_DIFFER_MS


@dataclass(frozen=True, slots=True)
class Joined:
    """Endpoints that were given a plan in a stretch of time in which no cycle begins.

    Attributes:
        count: how many.
        since_ms: not later than the first of them, in the same cycle, milliseconds since 1970.
        sum_ms: the sum of their times.
    """

    count: int
    since_ms: int
    sum_ms: int


@dataclass(frozen=True, slots=True)
class Members:
    """The endpoints of an enterprise that have a version of a base plan whose volumes they share.

    Attributes:
        since_ms: since when there have always been some.
    """

    plan: PlanKey
    since_ms: int
    joined: tuple[Joined, ...]

    @property
    def count(self) -> int:
        """How many they are."""
        return sum(joined.count for joined in self.joined)


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenPlans:
    """The plans of a payer.

    Attributes:
        former_bases: base plans that it had before, oldest first; use from then may still come.
        repeats: whether this is as of a time from which add-ons were there that were given again later.
    """

    base: Assignment | None
    addons: tuple[Assignment, ...]
    former_bases: tuple[Assignment, ...] = ()
    repeats: bool = False

    @property
    def changed_ms(self) -> int:
        """When it was last given a plan: what it has holds for use from then on, and from before it had any."""
        given = [addon.from_ms for addon in self.addons]
        return max([*given, *(base.expires_ms for base in self.former_bases)], default=0)

    @property
    def is_past(self) -> bool:
        """Whether this is as of a time before its base plan was replaced."""
        return self.base in self.former_bases

    @property
    def assignments(self) -> tuple[Assignment, ...]:
        """All of them."""
        return (*self.addons, *((self.base,) if self.base else ()), *self.former_bases)


@dataclass(frozen=True, slots=True)
class EndpointTerms(GivenPlans):
    """What charging needs of an endpoint.

    Attributes:
        account_id: the enterprise or sub-account that owns it.
        active: whether its state is ACTIVE.
        owner_active: whether the account that owns it is ACTIVE.
        version: grows with every change of what stands here.
        deleted: whether it is gone for good.
    """

    id: str
    account_id: str
    enterprise_id: str
    active: bool
    owner_active: bool
    barred: frozenset[int]
    version: int
    deleted: bool = False

    @property
    def plans(self) -> frozenset[PlanKey]:
        """Plans that it was given."""
        return frozenset(assignment.plan for assignment in self.assignments)


@dataclass(frozen=True, slots=True)
class AccountTerms(GivenPlans):
    """What charging needs of an account of the chain.

    Attributes:
        path: ids from the OPERATOR down to it, itself included.
        credit_limit_micros: most that it may owe; None means no limit.
        version: grows with every change of its assignments and members.
        limit_version: grows with every change of the account itself.
        members: its endpoints that share a base plan's volumes, by plan version.
        terminated: whether it has ended for good.
    """

    id: str
    path: tuple[str, ...]
    active: bool
    currency: str
    credit_limit_micros: int | None
    billing_cycle_day: int
    time_zone: str
    version: int
    limit_version: int
    members: tuple[Members, ...] = ()
    terminated: bool = False

    @property
    def cycle(self) -> Clock:
        """Its billing cycles."""
        return Clock(self.billing_cycle_day, self.time_zone)

    @property
    def plans(self) -> frozenset[PlanKey]:
        """Plans that it was given, and those that its endpoints share."""
        shared = (members.plan for members in self.members)
        return frozenset((*(assignment.plan for assignment in self.assignments), *shared))


AnyPayer = TypeVar("AnyPayer", bound=GivenPlans)


def as_of(payer: AnyPayer, time_ms: int) -> tuple[AnyPayer, Window]:
    """A payer with the plans that it had at a time, and how long it had those.

    Where none is known, before the first base plan, the present ones hold.
    """
    payer, (since, until) = _with_base_of(payer, time_ms)
    first_ms = min([base.assigned_ms for base in payer.former_bases] + [payer.base.assigned_ms]) if payer.base else 0
    if time_ms < first_ms:
        return payer, (since, min(until, first_ms))
    there = tuple(addon for addon in payer.addons if addon.from_ms <= time_ms)
    later = [addon for addon in payer.addons if addon.from_ms > time_ms]
    since = max([since, first_ms, *(addon.from_ms for addon in there)])
    if not later:
        return payer, (since, until)
    repeats = not {addon.plan for addon in there}.isdisjoint(addon.plan for addon in later)
    until = min([until, *(addon.from_ms for addon in later)])
    return replace(payer, addons=there, repeats=repeats), (since, until)


def _with_base_of(payer: AnyPayer, time_ms: int) -> tuple[AnyPayer, Window]:
    start_ms = ALWAYS[0]
    for former in payer.former_bases:
        if time_ms < former.assigned_ms:
            return payer, (start_ms, former.assigned_ms)
        if time_ms < former.expires_ms:
            return replace(payer, base=former), (former.assigned_ms, former.expires_ms)
        start_ms = former.expires_ms
    return payer, (start_ms, ALWAYS[1])


class Scope(IntEnum):
    """Over what a price counts; numbers as in the contract."""

    RECORD = 1
    SESSION = 2
    DAY = 3
    CYCLE = 4
    WEEK = 5
    MONTH = 6
    WINDOW = 7


@dataclass(frozen=True, slots=True)
class RoundingTerms:
    """How what is used is measured before it is counted or drawn: all of a record, of a session, or of a period.

    Attributes:
        maximum: most that counts; 0 is without end.
    """

    scope: Scope = Scope.RECORD
    minimum: int = 0
    increment: int = 1
    maximum: int = 0

    @property
    def is_plain(self) -> bool:
        """Whether what counts is what is used."""
        return self.minimum <= 1 and self.increment == 1 and not self.maximum


AS_USED = RoundingTerms()


@dataclass(frozen=True, slots=True)
class Weight:
    """Use draws `drawn` of a benefit for each `per`; no zones means everywhere, no services all."""

    zones: tuple[str, ...]
    services: frozenset[int]
    drawn: int
    per: int


class Every(IntEnum):
    """How often a recurring benefit is filled anew; numbers as in the contract of catalog."""

    CYCLE = 2
    DAY = 3
    WEEK = 4


@dataclass(frozen=True, slots=True)
class TimeBand:
    """A part of the week: days on which it begins (Monday is 1, a holiday 8), minutes of the day.

    An end that is not later than the start is on the next day.
    """

    weekdays: frozenset[int]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Benefit:
    """A volume or money that comes with a plan; zones empty means everywhere the plan may be used.

    Attributes:
        roll_over_cycles: for how many cycles a rest of a recurring one lives on.
        money: whether its quantity is micros of the plan's currency.
        rounding: how use is measured before it is drawn.
        weights: what use draws where that is not its own volume; the first that fits.
        roll_over_order: when a rest is drawn.
        every: how often a recurring one is filled anew: with each cycle, day or week of the account's.
        roll_over_maximum: most that rests hold together; 0 is without bound.
        bands: when it may be used, in the time zone of that account; empty means always.
    """

    id: str
    services: frozenset[int]
    quantity: int
    zones: tuple[str, ...]
    recurring: bool
    roll_over_cycles: int = 0
    money: bool = False
    rounding: RoundingTerms = AS_USED
    weights: tuple[Weight, ...] = ()
    roll_over_order: RollOverOrder = RollOverOrder.OLDEST_FIRST
    every: Every = Every.CYCLE
    roll_over_maximum: int = 0
    bands: tuple[TimeBand, ...] = ()

    @property
    def unit(self) -> Unit:
        """In what it is counted."""
        return Unit.MONEY if self.money else Service(min(self.services)).unit


@dataclass(frozen=True, slots=True)
class CounterTerms:
    """A count of what is used of some services in a billing cycle; `limit` is the most that may be, 0 without bound."""

    name: str
    services: frozenset[int]
    limit: int

    @property
    def unit(self) -> Unit:
        """In what it counts."""
        return Service(min(self.services)).unit


@dataclass(frozen=True, slots=True)
class PlanTerms:
    """A version of a plan.

    Attributes:
        prepaid: whether the step that it prices needs money first.
        access: service to the access types that its service profile permits.
        networks: networks of its roaming profile; None means no restriction of its own.
        on_usage: whether an add-on becomes active at its first use.
        validity_ms: how long an add-on is valid from activation, or a bundle from assignment; 0 means without end.
        renew_on: what begins a new subscription of a recurring add-on; CYCLE for one that does not recur.
        subscriptions_max: how many there are; 0 is without end.
        pooled: whether endpoints share it: those of the account that has the add-on, those that have the base plan.
        grows: whether what they share of a base plan grows with each of them.
        refillable: whether its buckets may be refilled.
        prorated: whether the first cycle's volume is scaled to the rest of the cycle.
        throttles: whether use goes on, slowed down, when nothing is left.
        shares: percent used of each benefit at which to say so.
        counters: what is counted of all use by who has the plan.
        unlimited: whether what no tariff prices is free.
        profiles: ids of its service and roaming profiles.
    """

    key: PlanKey
    addon: bool
    prepaid: bool
    access: Mapping[int, frozenset[int]]
    networks: frozenset[str] | None
    tariff_id: str
    currency: str
    benefits: tuple[Benefit, ...]
    zones: tuple[str, ...]
    on_usage: bool
    validity_ms: int
    renew_on: RenewOn = RenewOn.CYCLE
    subscriptions_max: int = 0
    pooled: bool = False
    grows: bool = False
    refillable: bool = False
    prorated: bool = False
    throttles: bool = False
    shares: tuple[int, ...] = ()
    counters: tuple[CounterTerms, ...] = ()
    unlimited: bool = False
    profiles: frozenset[str] = frozenset()

    @property
    def zone_ids(self) -> Iterator[str]:
        """Zones in which it, or a benefit of it, is used in some way."""
        yield from self.zones
        for benefit in self.benefits:
            yield from benefit.zones
            for weight in benefit.weights:
                yield from weight.zones

    def permits(self, service: int, access_type: int) -> bool:
        """Whether the service may be used over the access type."""
        return access_type in self.access.get(service, frozenset())


class CountedBy(IntEnum):
    """Which places are counted together; numbers as in the contract."""

    TOTAL = 1
    NETWORK = 2
    COUNTRY = 3


@dataclass(frozen=True, slots=True)
class TierTerms:
    """Part of a count and its price, as the contract has it."""

    up_to: int
    price: int
    per_quantity: int
    flat: int
    action: Action


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentTerms:
    """A part of a rate's price, as the contract has it; amounts in micros, `highest` None for no bound.

    Attributes:
        for_account: whether all endpoints of the account count together.
        each: how what a use, a session or an endpoint adds is measured before it is counted.
        covered: whether uses that benefits cover wholly are counted, too.
        window_s: how long a window is, if it counts over such.
        window_most: what a window holds until the next one begins; 0 is without bound.
    """

    id: str
    tiers: tuple[TierTerms, ...]
    meter: Meter = Meter.QUANTITY
    scope: Scope = Scope.RECORD
    for_account: bool = False
    counted_by: CountedBy = CountedBy.TOTAL
    counter: str = ""
    free: int = 0
    increment: int = 1
    minimum: int = 0
    mode: TierMode = TierMode.GRADUATED
    lowest: int = 0
    highest: int | None = None
    unit: int = 1
    rounding: Rounding = Rounding.UP
    each: RoundingTerms = AS_USED
    covered: bool = False
    window_s: int = 0
    window_most: int = 0


@dataclass(frozen=True, slots=True)
class CapTerms:
    """A bound of what the uses that a tariff prices cost together: of some services and rates, or of all."""

    id: str
    scope: Scope
    for_account: bool
    services: frozenset[int]
    amount: int
    action: Action
    window_s: int = 0
    rates: frozenset[str] = frozenset()

    def bounds(self, service: int, rate_id: str) -> bool:
        """Whether it adds what a use of the service costs by the rate."""
        return (not self.services or service in self.services) and (not self.rates or rate_id in self.rates)


@dataclass(frozen=True, slots=True, kw_only=True)
class RateTerms:
    """A rate of a tariff: where, when and for what it holds, and its price: simple arithmetic, or components."""

    id: str
    services: frozenset[int]
    zone_id: str = ""
    networks: frozenset[str] = frozenset()
    countries: frozenset[str] = frozenset()
    access_types: frozenset[int] = frozenset()
    bands: tuple[TimeBand, ...] = ()
    rate: Rate | None = None
    components: tuple[ComponentTerms, ...] = ()

    def prices(self, service: int, access_type: int) -> bool:
        """Whether it holds for the service over the access type."""
        return service in self.services and (not self.access_types or access_type in self.access_types)


@dataclass(frozen=True, slots=True, kw_only=True)
class TariffVersion:
    """A published version of a tariff, in force from `effective_ms` until the next one."""

    id: str
    version: int
    currency: str
    effective_ms: int
    rates: tuple[RateTerms, ...]
    time_zone: str = "UTC"
    caps: tuple[CapTerms, ...] = ()
    holidays: frozenset[date] = frozenset()


@dataclass(slots=True)
class CatalogTerms:
    """What is known of the catalogue; filled on demand, dropped on change.

    Attributes:
        plans: by id and version.
        tariffs: all published versions by tariff id, earliest first.
        zones: networks by zone id.
        coverage: networks by account id.
        networks: ids of all networks.
    """

    plans: dict[PlanKey, PlanTerms] = field(default_factory=dict)
    tariffs: dict[str, tuple[TariffVersion, ...]] = field(default_factory=dict)
    zones: dict[str, frozenset[str]] = field(default_factory=dict)
    coverage: dict[str, frozenset[str]] = field(default_factory=dict)
    networks: dict[str, str] = field(default_factory=dict)

    def plans_with(self, kind: str, name: str) -> set[PlanKey]:
        """The plans that refer to a tariff, a rate zone, or a profile."""
        if kind in {"service_profile", "roaming_profile"}:
            return {key for key, plan in self.plans.items() if name in plan.profiles}
        if kind == "tariff":
            return {key for key, plan in self.plans.items() if name == plan.tariff_id}
        if name not in self.zones:
            return set()
        priced = {
            tariff_id
            for tariff_id, versions in self.tariffs.items()
            if any(name == rate.zone_id for version in versions for rate in version.rates)
        }
        return {key for key, plan in self.plans.items() if plan.tariff_id in priced or name in plan.zone_ids}

    def without(self, plans: Collection[PlanKey], coverage: Collection[str] = ()) -> "CatalogTerms":
        """The same without some plans, and without the coverage of some accounts."""
        return CatalogTerms(
            plans={key: plan for key, plan in self.plans.items() if key not in plans},
            tariffs=dict(self.tariffs),
            zones=dict(self.zones),
            coverage={name: reached for name, reached in self.coverage.items() if name not in coverage},
            networks=self.networks,
        )

    def in_zones(self, zones: tuple[str, ...], network_id: str) -> bool:
        """Whether the network is in one of the zones; no zones means everywhere."""
        return not zones or any(network_id in self.zones.get(zone, frozenset()) for zone in zones)


@dataclass(frozen=True, slots=True)
class Use:
    """A kind of use, as programs are compiled for it."""

    service: Service
    network_id: str
    access_type: int
