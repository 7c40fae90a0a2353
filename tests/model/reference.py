"""Charging as docs/charging.md has it: who pays for a use at every level, and what is left."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from fractions import Fraction
from functools import cache
from itertools import pairwise
from math import ceil, floor
from zoneinfo import ZoneInfo

from services.common.clock import DAY_MS, MINUTE_MS
from services.rating.domain.balances import RenewOn, RollOverOrder
from services.rating.domain.cycles import boundaries
from services.rating.domain.terms import (
    AccountTerms,
    Assignment,
    Benefit,
    CatalogTerms,
    CounterTerms,
    EndpointTerms,
    Every,
    PlanTerms,
    RateTerms,
    RoundingTerms,
    Scope,
    TariffVersion,
)
from tests.model.prices import (
    Counting,
    CountKey,
    Counts,
    Period,
    Price,
    band_holds,
    cycle_of,
    dearest,
    falls,
    lacking,
    local_time,
    measured,
    price,
    rate_for,
    version_at,
)

Payer = EndpointTerms | AccountTerms
OCCURRENCES_MAX = 2**31 - 1
RESTS_KEPT_MS = 40 * DAY_MS
"""How long late use draws on what had rolled over and ended."""
WITHOUT_END = 1 << 52
"""What a bucket counts for that is subscribed anew as often as need be."""


@dataclass
class Pot:
    """A bucket: of an assignment's benefit, or what is left of a former cycle of one."""

    assignment: Assignment
    plan: PlanTerms
    benefit: Benefit
    remaining: int
    reserved: int = 0
    state: str = "ACTIVE"
    activated_ms: int = 0
    expires_ms: int = 0
    cycles: Sequence[int] = ()
    shared: bool = False
    occurrence: int = 1
    rest_of_ms: int = 0
    """When the cycle ended that it is left of; 0 if it is none."""
    own_end_ms: int = 0
    """When the present subscription would end whatever becomes of the assignment."""
    told_ms: int = 0
    """The end of the assignment as of the first use, for what is valid from that."""
    of_team: bool = False
    """Whether endpoints share it because they have its plan."""
    brought: int = 0
    """What a team has of it in the present cycle."""
    whole: int = 0
    """And in each cycle that follows."""
    former: list[tuple[int, int]] = field(default_factory=list)
    """Its last two ends, and what was left then: for uses from before them."""
    rests: list["Pot"] = field(default_factory=list)
    """What ever rolled over from it."""
    missing: int = 0
    """What those who left had brought and was used: it comes off what is brought next in this cycle."""

    @property
    def id(self) -> str:
        name = f"{self.assignment.id.removeprefix('asg_')}.{self.benefit.id}"
        return f"{name}~{self.rest_of_ms // 1000}" if self.rest_of_ms else name

    @property
    def money(self) -> bool:
        return self.benefit.money

    @property
    def replaced_ms(self) -> int:
        """When another base plan took the place of its own; 0 if none did."""
        return 0 if self.plan.addon or self.of_team else self.assignment.expires_ms

    def renews(self, on: RenewOn) -> bool:
        """Whether a new subscription may begin: at its end, or also by the first use that finds too little."""
        most = self.plan.subscriptions_max or OCCURRENCES_MAX
        recurs = self.plan.addon and self.plan.renew_on is not RenewOn.CYCLE and self.plan.renew_on >= on
        return recurs and not self.rest_of_ms and self.occurrence < most

    @property
    def free(self) -> int:
        """What nobody has reserved, and what subscriptions to come would add."""
        free = self.remaining - self.reserved
        if not self.renews(RenewOn.EXPIRY_OR_EXHAUSTION):
            return free
        most = self.plan.subscriptions_max or OCCURRENCES_MAX
        return min(WITHOUT_END, free + (most - self.occurrence) * self.benefit.quantity)

    def free_at(self, at_ms: int) -> int:
        """What is there for a use: of one that comes late, what was left when its time ended."""
        if ended := [rest for end, rest in self.former if at_ms < end]:
            return ended[0]
        return 0 if self.state == "EXPIRED" else self.free

    def note_end(self, end_ms: int, rest: int) -> None:
        if self.state != "PENDING":
            self.former = [*self.former, (end_ms, rest)][-2:]

    def order(self) -> tuple[object, ...]:
        """Add-ons, what is shared, base benefits; active before pending; priority, rests, earliest end, activation, id."""
        rank = 3 if self.shared else 4 if not self.plan.addon else 2 if self.state == "PENDING" else 1
        priority = self.assignment.priority if self.plan.addon else 0
        no_end = self.expires_ms == 0
        rests = self.benefit.roll_over_order
        turn = {RollOverOrder.OLDEST_FIRST: 1, RollOverOrder.NEWEST_FIRST: 2, RollOverOrder.PRESENT_FIRST: 4}[rests]
        newest_first = bool(self.rest_of_ms) and rests is RollOverOrder.NEWEST_FIRST
        end = -self.expires_ms if newest_first else self.expires_ms
        place = turn if self.rest_of_ms else 3
        return (rank, self.of_team, priority, place, no_end, end, self.activated_ms, self.id)

    def look(self, at_ms: int) -> list["Pot"] | None:
        """Expire, begin a new subscription or a new cycle, if the time has come: what rolls over, or None if it has not."""
        if not self.expires_ms or at_ms < self.expires_ms or self.state == "EXPIRED":
            return None
        if self.benefit.roll_over_cycles and self.cycles and not self.rest_of_ms:
            return self._roll_over(at_ms)
        self.note_end(self.expires_ms, self.remaining)
        self.remaining = self.reserved = 0
        if self.state != "PENDING" and self.renews(RenewOn.EXPIRY):
            self._subscribe_again(at_ms)
            return []
        following = [] if self.rest_of_ms else [boundary for boundary in self.cycles if boundary > at_ms]
        if passed := [boundary for boundary in self.cycles if self.expires_ms < boundary <= at_ms]:
            self.note_end(passed[-1], self.whole if self.of_team else self.benefit.quantity)
            self.expires_ms = passed[-1]
        if following:
            self._fill(following[0])
        else:
            self.state = "EXPIRED"
        return []

    def _fill(self, ends_ms: int) -> None:
        self.remaining, self.expires_ms = self.whole if self.of_team else self.benefit.quantity, ends_ms
        self.brought, self.missing = self.whole, 0
        self.state = "PENDING" if self.state == "PENDING" else "ACTIVE"  # only use activates

    def _subscribe_again(self, at_ms: int) -> None:
        """One subscription follows the other; of those that nobody used the number is left, and what the last of them held."""
        last, most, validity = self.assignment.expires_ms, self.plan.subscriptions_max, self.plan.validity_ms
        began_ms, present_ms = self.expires_ms, 0
        while validity and not (last and self.expires_ms >= last) and not (most and self.occurrence >= most):
            self.occurrence += 1
            ends_ms = self._within(self.expires_ms + validity)
            if at_ms < ends_ms:
                present_ms = ends_ms
                break
            self.expires_ms = ends_ms
        if self.expires_ms > began_ms:
            self.note_end(self.expires_ms, self.benefit.quantity)
        if present_ms:
            self._fill(present_ms)
        else:
            self.state = "EXPIRED"

    def _within(self, ends_ms: int) -> int:
        self.own_end_ms = ends_ms
        return min(filter(None, (ends_ms, self.assignment.expires_ms)), default=0)

    def _while_valid(self, cycles: Sequence[int]) -> Sequence[int]:
        """What is valid for some time from its first use has no cycles after that."""
        end = self.activated_ms + self.plan.validity_ms
        if not self.plan.validity_ms or self.state == "PENDING" or not any(boundary > end for boundary in cycles):
            return cycles
        return [*(boundary for boundary in cycles if boundary < end), end]

    def assign(self, anew: "Pot") -> None:
        """Take what the assignment says now; what was drawn stays."""
        self.assignment = anew.assignment
        self.cycles = self._while_valid(anew.cycles) if anew.state == "PENDING" else anew.cycles
        if anew.replaced_ms and self.state != "EXPIRED":
            self.expires_ms = min(self.expires_ms or anew.replaced_ms, anew.replaced_ms)
        if self.plan.addon and self.plan.renew_on is not RenewOn.CYCLE:
            if self.state != "EXPIRED":
                self.expires_ms = self._within(self.own_end_ms)
        elif self.plan.addon and not self.cycles:
            was_awaited = anew.state == "PENDING" != self.state and self.plan.validity_ms
            if not was_awaited:
                self.expires_ms = anew.expires_ms
            elif anew.expires_ms != self.told_ms:
                self.expires_ms = anew.expires_ms or self.activated_ms + self.plan.validity_ms
                self.told_ms = anew.expires_ms

    def follow(self, whole: int, present: int, ends_ms: int, now_ms: int) -> None:
        """Hold what the members bring now: what was used stays used, and what is reserved stays."""
        self.whole = whole
        self.look(now_ms)
        brings = present if self.expires_ms == ends_ms else whole
        more, self.brought = brings - self.brought - self.missing, brings
        self.missing = max(0, -more)
        if more > 0:
            self.remaining, self.state = self.remaining + more, "ACTIVE"
        self.pay_missing()

    def emptied(self, now_ms: int) -> bool:
        """Empty what nobody shares any more; whether something was used of it in this cycle."""
        if not self.of_team or self.rest_of_ms or (self.remaining == self.brought and not self.missing):
            return False
        self.follow(0, 0, self.expires_ms, now_ms)
        return self.missing > 0

    def pay_missing(self) -> None:
        """What is free pays for what was taken along."""
        gone = min(self.missing, self.remaining - self.reserved)
        self.remaining, self.missing = self.remaining - gone, self.missing - gone
        if gone and not self.remaining:
            self.state = "DEPLETED"

    def _roll_over(self, at_ms: int) -> list["Pot"]:
        """At each boundary passed, what is left lives on for some cycles."""
        bounds = [self.expires_ms, *(boundary for boundary in self.cycles if boundary > self.expires_ms)]
        rests = []
        for number, boundary in enumerate(bounds):
            if boundary > at_ms:
                break
            end = bounds[number + self.benefit.roll_over_cycles :][:1]
            quantity = self._room_for_rest(boundary) if end and end[0] > at_ms else 0
            if quantity:
                rest = Pot(self.assignment, self.plan, self.benefit, quantity, shared=self.shared)
                rest.of_team = self.of_team
                rest.activated_ms, rest.expires_ms, rest.rest_of_ms = self.activated_ms, end[0], boundary
                self.rests.append(rest)
                rests.append(rest)
                self.remaining -= quantity
            self.note_end(boundary, self.remaining)
            self.remaining = self.reserved = 0
            if boundary == bounds[-1]:
                self.state = "EXPIRED"
            else:
                self._fill(bounds[number + 1])
        return rests

    def _room_for_rest(self, boundary_ms: int) -> int:
        """How much rolls over: where rests may hold only so much the oldest lose first what is not reserved of them."""
        most = self.benefit.roll_over_maximum or self.remaining
        rolls = min(self.remaining, most)
        older = [rest for rest in self.rests if rest.expires_ms > boundary_ms and rest.state != "EXPIRED"]
        excess = rolls + sum(rest.remaining for rest in older) - most if self.benefit.roll_over_maximum else 0
        for rest in sorted(older, key=lambda each: each.expires_ms):
            less = max(0, min(excess, rest.remaining - rest.reserved))
            rest.remaining, excess = rest.remaining - less, excess - less
            if less and not rest.remaining:
                rest.state = "DEPLETED"
        return rolls - max(0, excess)

    def draw(self, units: int, at_ms: int) -> None:
        """Take units; the first activates, and one that finds too little subscribes anew. Late, take what was left."""
        for number, (end, rest) in enumerate(self.former):
            if at_ms < end:
                self.former[number] = (end, rest - units)
                return
        self.activate(at_ms)
        self.supply(units, at_ms)
        self.remaining -= units
        if self.remaining == 0:
            self.state = "DEPLETED"

    def activate(self, at_ms: int) -> None:
        """Begin the validity of what waited for its first use."""
        if self.state != "PENDING":
            return
        self.state, self.activated_ms, self.told_ms = "ACTIVE", at_ms, self.expires_ms
        end = at_ms + self.plan.validity_ms
        if self.plan.validity_ms and (self.expires_ms == 0 or end < self.expires_ms):
            self.expires_ms = end
        self.own_end_ms = end if self.plan.validity_ms else 0
        self.cycles = self._while_valid(self.cycles)

    def supply(self, units: int, at_ms: int) -> None:
        """Subscribe anew as often as that many units need."""
        while units > self.remaining - self.reserved and self.renews(RenewOn.EXPIRY_OR_EXHAUSTION):
            self.remaining += self.benefit.quantity
            self.occurrence += 1
            if self.state != "PENDING":  # only use activates
                self.expires_ms = self._within(max(self.own_end_ms, at_ms + self.plan.validity_ms))
                self.state = "ACTIVE"


def as_of(payer: Payer, at_ms: int) -> Payer:
    """A payer with the plans that it had at a time; from before its first base plan with those that it has."""
    had = (each for each in payer.former_bases if each.assigned_ms <= at_ms < each.expires_ms)
    bases = [*payer.former_bases, *([payer.base] if payer.base else [])]
    if payer.base and at_ms < min(each.assigned_ms for each in bases):
        return replace(payer, base=next(had, payer.base))
    there = [each for each in payer.addons if each.assigned_ms - MINUTE_MS <= at_ms]
    later = [each for each in payer.addons if each not in there]
    repeats = any(each.plan == other.plan for each in there for other in later)
    return replace(payer, base=next(had, payer.base), addons=tuple(there), repeats=repeats)


@dataclass
class Purse:
    """What a payer has."""

    pots: dict[str, Pot] = field(default_factory=dict)
    money: int = 0
    money_reserved: int = 0
    full: int = 0
    """The money when some was last put in."""
    owed: int = 0
    owed_reserved: int = 0
    blocked: set[int] = field(default_factory=set)
    given: Sequence[Assignment] = ()
    """The assignments that the buckets are of."""

    def look(self, at_ms: int, pots: Sequence[Pot] | None = None) -> None:
        """Bring buckets (all, or these) up to date; then rests of former cycles go that are used up or have ended."""
        changes = [
            rests
            for pot in (list(self.pots.values()) if pots is None else pots)
            if (rests := pot.look(at_ms)) is not None
        ]
        for rest in (rest for rests in changes for rest in rests):
            self.pots[rest.id] = rest
        if changes:
            rests = [pot for pot in self.pots.values() if pot.rest_of_ms and pot.state == "EXPIRED"]
            gone = [pot for pot in rests if pot.expires_ms <= at_ms - RESTS_KEPT_MS]
            for pot in gone:
                del self.pots[pot.id]


@dataclass(frozen=True)
class Use:
    """A use of the network."""

    endpoint: str
    service: int
    network: str
    access: int
    at_ms: int
    quantity: int
    cost: int | None = 0
    session: object = ""


@dataclass
class Run:
    """What a session, or one record, has used of what it draws from a benefit in blocks or at a weight, and has drawn.

    Attributes:
        kept: where a session keeps the two; None if nothing is kept.
    """

    rounding: RoundingTerms
    weight: Fraction
    kept: tuple[CountKey, Period] | None
    used: int = 0
    drawn: int = 0

    def cover(self, volume: int, units: int) -> tuple[int, int]:
        """What of a volume some units more can pay, and how many of them it takes: the last block as far as they go."""
        covered = min(volume, floor((self.drawn + units) / self.weight) - self.used)
        owed = ceil(measured(self.rounding, self.used + covered) * self.weight) - self.drawn
        taken = max(0, min(units, owed))
        self.used, self.drawn = self.used + covered, self.drawn + taken
        return covered, taken


@dataclass(frozen=True)
class Payment:
    """Who pays whom for a use at a step, by which plan, out of which buckets of money before their own."""

    payer: Payer
    payee: AccountTerms
    plan: PlanTerms | None
    wallets: Sequence[Pot]
    use: Use
    grant: bool
    asks: bool


@dataclass
class Cover:
    """What a step can cover of a use."""

    draws: list[tuple[Pot, int]] = field(default_factory=list)
    benefit: int = 0
    rated: int = 0
    uncovered: int = 0
    reason: str = ""
    price: Price = field(default_factory=Price)
    owed: int = 0
    """The price less what buckets of money pay."""
    dearest: int = 0
    """Of a grant: the price of the dearest volume up to it."""
    parts: Mapping[tuple[CountKey, Period], int] = field(default_factory=dict)
    """Of a grant: what it reserves for each part of the price that counts."""


@dataclass(frozen=True)
class Verdict:
    """What became of a use: charged (amount, rated, uncovered by step) or refused."""

    refused: str = ""
    step: int = 0
    amounts: tuple[int, ...] = ()
    uncovered: tuple[int, ...] = ()
    throttled: bool = False


def _quantity(plan: PlanTerms, pot: Pot) -> int:
    return next(benefit.quantity for benefit in plan.benefits if benefit.id == pot.benefit.id)


def _brought(pot: Pot, team: Sequence[tuple[PlanTerms, int]], began: int, ends: int) -> int:
    """What a team brings to a cycle; who joined in it, if it is prorated, what was left of it."""
    parts = Fraction(0)
    for plan, at_ms in team:
        in_part = plan.prorated and at_ms >= began
        parts += _quantity(plan, pot) * (Fraction(ends - at_ms, ends - began) if in_part else 1)
    return int(parts)


@cache
def midnights(after: date, time_zone: str, *, mondays: bool) -> Sequence[int]:
    """The midnights of five years after a day, or those of Mondays, in milliseconds since 1970."""
    days = [after + timedelta(days=number) for number in range(1, 1800)]
    starts = [datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(time_zone)) for day in days]
    return [round(start.timestamp()) * 1000 for start in starts if not mondays or start.weekday() == 0]


def max_of(
    found: Sequence[Sequence[tuple[CountKey, Period, int]]],
) -> Mapping[tuple[CountKey, Period], int]:
    """The largest amount of each part."""
    parts: dict[tuple[CountKey, Period], int] = {}
    for key, scope, amount in (each for one in found for each in one):
        parts[key, scope] = max(amount, parts.get((key, scope), 0))
    return parts


def most(low: int, high: int, fits: Callable[[int], bool]) -> int:
    """The most that fits of a stretch in which less never costs more; less than `low` if nothing does."""
    if not fits(low):
        return low - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def stretches(ends: Sequence[int]) -> list[tuple[int, int]]:
    """From the end of one stretch to the end of the next."""
    return list(zip([1, *(end + 1 for end in ends)], ends, strict=False))


def largest(ends: Sequence[int], fits: Callable[[int], bool]) -> tuple[int, int]:
    """The largest volume that fits, and one that does not if it is not all."""
    if fits(ends[-1]):
        return ends[-1], ends[-1]
    found = (rated for first, end in reversed(stretches(ends)) if (rated := most(first, end, fits)) >= first)
    return next(found, 0), ends[-1]


def all_below(ends: Sequence[int], fits: Callable[[int], bool]) -> tuple[int, int]:
    """The largest volume that fits with all smaller ones, and the end of the stretch in which one does not."""
    for first, end in stretches(ends):
        rated = most(first, end, fits)
        if rated < end:
            return rated, end
    return ends[-1], ends[-1]


class Model:
    """An enterprise's endpoints and the accounts above it.

    Args:
        endpoints: by id.
        chain: from the enterprise upwards.
        catalog: the commercial terms.
    """

    def __init__(
        self, endpoints: dict[str, EndpointTerms], chain: Sequence[AccountTerms], catalog: CatalogTerms
    ) -> None:
        self.endpoints = dict(endpoints)
        self.chain = list(chain)
        self.catalog = catalog
        self.purses: dict[str, Purse] = {}
        self._pool = Purse()
        self.counts = Counts()
        self.now_ms = 0
        self.told: list[tuple[str, str, int]] = []
        """What people hear of money and credit that are low or used up: what, whose, and how much that is."""

    # --- who has what ---------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """What came back to pools pays first for what was taken along."""
        for pot in self._pool.pots.values():
            pot.pay_missing()

    def purse(self, payer: Payer) -> Purse:
        """A payer's purse, with the buckets of its plans as they are now."""
        payer = self.endpoints.get(payer.id) or next(each for each in self.chain if each.id == payer.id)
        given = [each for each in (*self._plans(payer), *payer.former_bases) if not self._is_shared(payer, each)]
        return self._brought_up(self.purses.setdefault(payer.id, Purse()), payer, given)

    def pool(self) -> Purse:
        """What the endpoints of the enterprise share."""
        enterprise = self.chain[0]
        shared = [each for each in self._plans(enterprise) if self._is_shared(enterprise, each)]
        team = [each.base for each in self.endpoints.values() if each.base and self._is_shared(each, each.base)]
        if self._pool.given != [*shared, *team]:
            self._pool.given = [*shared, *team]
            pots = [*self._pots(enterprise, shared, shared=True), *self._pots_of_teams(team)]
            self._give(self._pool, {pot.id: pot for pot in pots})
        return self._pool

    def forget_pool(self, known: AbstractSet[str]) -> None:
        """What is not known of what endpoints share was only asked for, by dry runs and refusals.

        It begins with those who are there when it is used.
        """
        if any(name not in known for name in self._pool.pots):
            self._pool.pots = {name: pot for name, pot in self._pool.pots.items() if name in known}
            self._pool.given = []

    def share(self, use: Use) -> Purse | None:
        """What the endpoints of the enterprise share, if a use may draw on any of it."""
        payers: list[Payer] = [as_of(each, use.at_ms) for each in (self.endpoints[use.endpoint], self.chain[0])]
        given = [
            self.catalog.plans[one.plan] for each in payers for one in self._plans(each) if self._is_shared(each, one)
        ]
        usable = any(self._permits(plan, benefit, use) for plan in given for benefit in plan.benefits)
        return self.pool() if usable else None

    def _plans(self, payer: Payer) -> list[Assignment]:
        return [*payer.addons, *((payer.base,) if payer.base else ())]

    def _is_shared(self, payer: Payer, assignment: Assignment) -> bool:
        plan = self.catalog.plans[assignment.plan]
        return plan.pooled and plan.addon == isinstance(payer, AccountTerms)

    def _brought_up(self, purse: Purse, payer: Payer, given: Sequence[Assignment]) -> Purse:
        if purse.given != given:
            purse.given = given
            self._give(purse, {pot.id: pot for pot in self._pots(payer, given, shared=False)})
        return purse

    def _give(self, purse: Purse, wanted: dict[str, Pot]) -> None:
        if any(name not in purse.pots and not pot.replaced_ms for name, pot in wanted.items()):
            purse.blocked.clear()
        for name, pot in wanted.items():
            present = purse.pots.get(name)
            if present is not None:
                present.assign(pot)
                if pot.of_team and (pot.plan.grows or not present.brought):
                    present.follow(pot.whole, pot.brought, pot.expires_ms, self.now_ms)
                wanted[name] = present
        owners = {pot.assignment.id for pot in wanted.values()}
        rests = [pot for pot in purse.pots.values() if pot.rest_of_ms and pot.assignment.id in owners]
        empty = [pot for name, pot in purse.pots.items() if name not in wanted and pot.emptied(self.now_ms)]
        purse.pots = {**wanted, **{pot.id: pot for pot in (*rests, *empty)}}
        ends = {pot.assignment.id: pot.replaced_ms for pot in wanted.values() if pot.replaced_ms}
        for pot in purse.pots.values():
            if pot.assignment.id in ends:
                pot.expires_ms = min(pot.expires_ms, ends[pot.assignment.id])
                pot.look(self.now_ms)

    def _pots(self, payer: Payer, given: Sequence[Assignment], *, shared: bool) -> Iterator[Pot]:
        billed = self.chain[0] if isinstance(payer, EndpointTerms) else payer
        for assignment in given:
            plan = self.catalog.plans[assignment.plan]
            for benefit in plan.benefits:
                yield self._pot(assignment, plan, benefit, billed, shared=shared)

    def _pots_of_teams(self, bases: Sequence[Assignment]) -> Iterator[Pot]:
        """One pot for all who have a plan, as its newest version among them says."""
        enterprise = self.chain[0]
        for plan_id in sorted({base.plan[0] for base in bases}):
            team = [(self.catalog.plans[base.plan], base.assigned_ms) for base in bases if base.plan[0] == plan_id]
            newest = max((plan for plan, _ in team), key=lambda plan: plan.key)
            name = f"asg_{enterprise.id.removeprefix('acc_')}-{plan_id.removeprefix('pln_')}"
            stands = Assignment(name, newest.key, 0, min(at_ms for _, at_ms in team), 0)
            for benefit in newest.benefits:
                pot = self._pot(stands, newest, benefit, enterprise, shared=True, of_team=True)
                pot.of_team, pot.brought, pot.whole = True, pot.remaining, benefit.quantity
                if newest.grows:
                    pot.whole = 0
                    self._bring(pot, team)
                yield pot

    def _bring(self, pot: Pot, team: Sequence[tuple[PlanTerms, int]]) -> None:
        """What a team has of a pot in the present cycle and in those that follow, and had at the ends of the last two."""
        enterprise = self.chain[0]
        pot.whole = pot.remaining = pot.brought = sum(_quantity(plan, pot) for plan, _ in team)
        if pot.benefit.recurring:
            around = boundaries(self.now_ms - 110 * DAY_MS, enterprise.billing_cycle_day, enterprise.time_zone, 6)
            pot.expires_ms = min(boundary for boundary in around if boundary > self.now_ms)
            begins = [boundary for boundary in around if boundary <= self.now_ms][-3:]
            pot.remaining = pot.brought = _brought(pot, team, begins[-1], pot.expires_ms)
            for began, ends in pairwise(begins):
                if there := [(plan, at_ms) for plan, at_ms in team if at_ms < ends]:
                    pot.former.append((ends, _brought(pot, there, began, ends)))

    def _pot(
        self,
        assignment: Assignment,
        plan: PlanTerms,
        benefit: Benefit,
        billed: AccountTerms,
        *,
        shared: bool,
        of_team: bool = False,
    ) -> Pot:
        pending = plan.addon and plan.on_usage
        quantity, cycles, ends, own_end = benefit.quantity, list[int](), assignment.expires_ms, 0
        if plan.addon and plan.renew_on is not RenewOn.CYCLE and not pending:
            own_end = assignment.assigned_ms + plan.validity_ms if plan.validity_ms else 0
            ends = min(filter(None, (ends, own_end)), default=0)
        if benefit.recurring:
            cycles = self._cycles_of(benefit, assignment.assigned_ms - (200 * DAY_MS if of_team else 0), billed)
            ends = min(boundary for boundary in cycles if boundary > assignment.assigned_ms)
            if plan.prorated and benefit.every is Every.CYCLE:
                before = boundaries(assignment.assigned_ms - 40 * DAY_MS, billed.billing_cycle_day, billed.time_zone, 3)
                began = max(boundary for boundary in before if boundary <= assignment.assigned_ms)
                quantity = quantity * (ends - assignment.assigned_ms) // (ends - began)
            if end := assignment.expires_ms:
                cycles = [*(boundary for boundary in cycles if boundary < end), end]
                ends = min(ends, end)
        return Pot(
            assignment,
            plan,
            benefit,
            quantity,
            state="PENDING" if pending else "ACTIVE",
            activated_ms=assignment.assigned_ms,
            expires_ms=ends,
            cycles=cycles,
            shared=shared,
            own_end_ms=own_end,
        )

    def _cycles_of(self, benefit: Benefit, since_ms: int, billed: AccountTerms) -> list[int]:
        """When a benefit is filled anew: on the billing day, each day, or on Mondays, for five years."""
        if benefit.every is Every.CYCLE:
            return boundaries(since_ms, billed.billing_cycle_day, billed.time_zone, 60)
        first = local_time(since_ms, billed.time_zone).date()
        return list(midnights(first, billed.time_zone, mondays=benefit.every is Every.WEEK))

    def _steps(self, use: Use) -> list[tuple[Payer, AccountTerms]]:
        present: list[Payer] = [self.endpoints[use.endpoint], *self.chain[:-1]]
        payers = [as_of(payer, use.at_ms) for payer in present]
        return list(zip(payers, self.chain, strict=True))

    # --- may it be, and what does it cost -------------------------------------------------------------------------

    def denied(self, use: Use) -> tuple[str, int] | None:
        """Why a use that asks first is refused whatever the balances."""
        endpoint, zero = self.endpoints[use.endpoint], 0
        found: list[tuple[str, int]] = []
        if not endpoint.active:
            found.append(("ENDPOINT_NOT_ACTIVE", zero))
        if not endpoint.owner_active:
            found.append(("ACCOUNT_NOT_ACTIVE", zero))
        last = len(self.chain) - 1
        found += [("ACCOUNT_NOT_ACTIVE", min(i + 1, last)) for i, a in enumerate(self.chain) if not a.active]
        if use.service in endpoint.barred:
            found.append(("SERVICE_BARRED", zero))
        if use.network not in self.catalog.coverage.get(self.chain[0].id, frozenset()):
            found.append(("NETWORK_NOT_ALLOWED", zero))
        for number, (payer, _) in enumerate(self._steps(use)):
            if payer.base is None:
                found.append(("NO_BASE_PLAN", number))
                continue
            plan = self.catalog.plans[payer.base.plan]
            if use.access not in plan.access.get(use.service, frozenset()):
                found.append(("SERVICE_BARRED", number))
            if plan.networks is not None and use.network not in plan.networks:
                found.append(("NETWORK_NOT_ALLOWED", number))
        return found[0] if found else None

    def refusal(self, use: Use, reason: str, step: int) -> tuple[str, int]:
        """Why what is not covered is refused: a service that was used without being covered is blocked."""
        blocked = use.service in self.purse(self.endpoints[use.endpoint]).blocked
        return ("ENDPOINT_BLOCKED", 0) if blocked else (reason, step)

    def _in(self, zones: Sequence[str], network: str) -> bool:
        return not zones or any(network in self.catalog.zones.get(zone, ()) for zone in zones)

    def _usable(self, pot: Pot, use: Use) -> bool:
        if not pot.of_team:
            payers = [payer for payer, _ in self._steps(use)]
            given = [each.id for payer in payers for each in (*payer.addons, *([payer.base] if payer.base else []))]
            return pot.assignment.id in given and self._permits(pot.plan, pot.benefit, use)
        base = as_of(self.endpoints[use.endpoint], use.at_ms).base
        own = self.catalog.plans[base.plan] if base else None
        return (
            own is not None
            and own.key[0] == pot.plan.key[0]
            and any(benefit.id == pot.benefit.id and self._permits(own, benefit, use) for benefit in own.benefits)
        )

    def _without_rate(self, plan: PlanTerms | None, use: Use) -> str:
        """Why nothing covers what benefits leave where there is no rate."""
        if plan is None:
            return "NO_BASE_PLAN"
        if any(self._permits(plan, benefit, use) for benefit in plan.benefits if not benefit.money):
            return "BALANCE_DEPLETED"
        return "NO_VALID_ADDON" if plan.prepaid and not plan.tariff_id else "NO_RATE"

    def _permits(self, plan: PlanTerms, benefit: Benefit, use: Use) -> bool:
        permitted = use.access in plan.access.get(use.service, frozenset())
        here = self._in(plan.zones, use.network) and self._in(benefit.zones, use.network)
        now = not benefit.bands or any(
            band_holds(band, local_time(use.at_ms, self.chain[0].time_zone)) for band in benefit.bands
        )
        return permitted and here and now and use.service in benefit.services

    def _headroom(self, payer: Payer, plan: PlanTerms | None) -> tuple[int | None, str]:
        """What a payer can still pay (None is no bound), and the reason when that is not enough."""
        purse = self.purse(payer)
        if plan is not None and plan.prepaid:
            return purse.money - purse.money_reserved, "BALANCE_DEPLETED"
        if isinstance(payer, AccountTerms) and payer.credit_limit_micros is not None:
            return payer.credit_limit_micros - purse.owed - purse.owed_reserved, "CREDIT_LIMIT"
        return None, "BALANCE_DEPLETED"

    def cover(self, payer: Payer, payee: AccountTerms, use: Use, *, grant: bool = False, asks: bool = False) -> Cover:
        """What a step can cover of what the counters of the payer's plans let pass; they count all that is used.

        What asks leaves to grants what they hold.
        """
        allowed, counted = use.quantity, list[tuple[CountKey, Period, int, int]]()
        account = payer if isinstance(payer, AccountTerms) else payee
        cycle = cycle_of(use.at_ms, account.billing_cycle_day, account.time_zone)
        for plan_id, counter in self._counters(payer):
            if use.service in counter.services:
                key = (payer.id, "use", plan_id, counter.unit, counter.name)
                taken = self.counts.get(key, cycle, with_held=grant or asks)
                allowed = min(allowed, max(0, counter.limit - taken)) if counter.limit else allowed
                counted.append((key, cycle, self.counts.get(key, cycle) + use.quantity, use.quantity))
        found = Cover()
        if allowed or not use.quantity:
            found = self._cover_allowed(payer, payee, replace(use, quantity=allowed), grant=grant, asks=asks)
        if allowed < use.quantity:
            found.uncovered += use.quantity - allowed
            found.reason = found.reason or "USAGE_LIMIT"
        found.price.counts += counted
        return found

    def _counters(self, payer: Payer) -> list[tuple[str, CounterTerms]]:
        plan = self.plan_of(payer)
        return [(plan.key[0], counter) for counter in plan.counters] if plan else []

    def _in_order(self, pots: list[Pot], use: Use, *, repeats: bool) -> list[Pot]:
        """What is there, as it is drawn; where an add-on was given again later only what is older than the use."""
        younger = (
            [pot.id for pot in pots if pot.plan.addon and use.at_ms < pot.activated_ms - MINUTE_MS] if repeats else []
        )
        there = [pot for pot in pots if pot.id not in younger and pot.free_at(use.at_ms) > 0]
        return sorted(there, key=Pot.order)

    def _cover_allowed(self, payer: Payer, payee: AccountTerms, use: Use, *, grant: bool, asks: bool) -> Cover:
        """What a step can cover: benefits first, then the tariff as far as it can be paid.

        Of a grant any smaller volume may be used, so all of them must be payable.
        """
        plan = self.catalog.plans[payer.base.plan] if payer.base else None
        found, left = Cover(), use.quantity
        pots: list[Pot] = []
        shared = self.share(use) if isinstance(payer, EndpointTerms) else None
        for purse in (self.purse(payer), *((shared,) if shared else ())):
            purse.look(use.at_ms, [pot for pot in purse.pots.values() if self._usable(pot, use)])
            pots += [pot for pot in purse.pots.values() if self._usable(pot, use)]
        repeats = payer.repeats or (shared is not None and as_of(payee, use.at_ms).repeats)
        pots = self._in_order(pots, use, repeats=repeats)
        runs = self._runs(payer, use)
        for name in sorted(runs):
            left -= runs[name].cover(left, 0)[0]
        for pot in pots:
            if left and not pot.money:
                run, free = runs.get(self._ref(pot.plan, pot.benefit, team=pot.of_team)), pot.free_at(use.at_ms)
                covered, taken = run.cover(left, free) if run else (min(left, free),) * 2
                found.draws += [(pot, taken)] if taken else []
                left -= covered
        found.benefit, found.uncovered = use.quantity - left, left
        has_volume = any(not pot.money for pot in pots)
        if plan is not None and plan.unlimited and not plan.tariff_id:
            found.rated, found.uncovered = left, 0
        else:
            payment = Payment(payer, payee, plan, [pot for pot in pots if pot.money], use, grant, asks)
            if left or (not use.quantity and not has_volume):
                self._rate(found, left, payment)
            is_covered = found.benefit or (not use.quantity and has_volume)
            if is_covered and not found.rated and not (left and grant):
                self._fees(found, payment)
        for run in runs.values():
            if run.kept and not grant:
                (key, scope), now = run.kept, (run.used, run.drawn)
                found.price.counts += [((*key, n), scope, count, 0) for n, count in enumerate(now)]
        return found

    def _ref(self, plan: PlanTerms, benefit: Benefit, *, team: bool) -> str:
        version = "*" if team else plan.key[1]
        return f"{plan.key[0].removeprefix('pln_')}:{version}:{benefit.id}"

    def _runs(self, payer: Payer, use: Use) -> dict[str, Run]:
        """By benefit, where it is not drawn unit by unit; a session measures each service and weight by itself."""
        given = [(one, False) for one in self._plans(payer) if not self._is_shared(payer, one)]
        if isinstance(payer, EndpointTerms):
            given += [(one, False) for one in self._plans(self.chain[0]) if self._is_shared(self.chain[0], one)]
            given += [(one, True) for one in self._plans(payer) if self._is_shared(payer, one)]
        runs: dict[str, Run] = {}
        for assignment, team in given:
            plan = self.catalog.plans[assignment.plan]
            for benefit in plan.benefits:
                if benefit.money or not self._permits(plan, benefit, use):
                    continue
                name, rounding = self._ref(plan, benefit, team=team), benefit.rounding
                weights = [
                    Fraction(each.drawn, each.per)
                    for each in benefit.weights
                    if self._in(each.zones, use.network) and use.service in (each.services or {use.service})
                ]
                weight = (*weights, Fraction(1))[0]
                key = (use.endpoint, payer.id, "drawn", name, use.service, rounding, weight)
                scope = (("session", use.session), 0)
                kept = (key, scope) if rounding.scope is Scope.SESSION and use.session else None
                run = runs[name] = Run(rounding, weight, kept)
                if kept:
                    run.used, run.drawn = (self.counts.get((*key, n), scope) for n in (0, 1))
        return runs

    def _priced_by(
        self, plan: PlanTerms | None, use: Use, *, only_fees: bool
    ) -> tuple[TariffVersion | None, RateTerms | None]:
        """The tariff and the rate of a use, or what of the rate is due for covered use."""
        tariff = version_at(self.catalog, plan.tariff_id, use.at_ms) if plan else None
        terms = (use.service, use.network, use.access, use.at_ms)
        rate = rate_for(tariff, self.catalog, *terms) if tariff else None
        if rate is None or not only_fees:
            return tariff, rate
        fees = tuple(part for part in rate.components if part.covered)
        return tariff, replace(rate, components=fees) if fees else None

    def _fees(self, found: Cover, payment: Payment) -> None:
        """What is due though benefits cover all that is covered; a grant that cannot pay it is none."""
        uncovered, reason = found.uncovered, found.reason
        self._rate(found, 0, payment, only_fees=True)
        found.uncovered, found.reason = uncovered, reason or found.reason
        if payment.grant and found.reason:
            found.draws, found.benefit, found.uncovered = [], 0, found.benefit

    def _rate(self, found: Cover, left: int, payment: Payment, *, only_fees: bool = False) -> None:
        payer, payee, plan, use = payment.payer, payment.payee, payment.plan, payment.use
        wallets, grant, asks = payment.wallets, payment.grant, payment.asks
        tariff, rate = self._priced_by(plan, use, only_fees=only_fees)
        if tariff is None or rate is None:
            found.reason = self._without_rate(plan, use) if left else ""
            return
        account = payer if isinstance(payer, AccountTerms) else payee
        counting = Counting(
            tariff, payee.id, account.id, use.endpoint, account.billing_cycle_day, account.time_zone,
            use.network, self.catalog.networks[use.network], use.session, use.at_ms, use.service,
        )  # fmt: skip
        headroom, reason = self._headroom(payer, plan)
        credit = sum(pot.free_at(use.at_ms) for pot in wallets)

        def priced(quantity: int) -> Price:
            """The price; of a grant the dearest, whichever of the other grants is used before it."""
            found = price(counting, rate, use.service, quantity, use.cost, self.counts, grant=grant, asks=asks)
            if grant and not (found.blocked or found.costless):
                found.amount = max(found.amount, dearest(counting, rate, use.service, quantity, self.counts, found))
            return found

        behind = lacking(counting, rate, 0, use.cost, self.counts, grant=True) if grant else 0
        room = None if headroom is None else max(0, headroom - behind) + credit

        def fits(quantity: int) -> bool:
            found = priced(quantity)
            dues = lacking(counting, rate, quantity, use.cost, self.counts, grant=False) if asks else 0
            payable = room is None or found.amount + dues <= room or (found.amount <= 0 and not dues)
            return payable and not found.blocked and not found.costless

        def why_not(quantity: int) -> str:
            found = priced(quantity)
            return "NO_RATE" if found.costless else "USAGE_LIMIT" if found.blocked else reason

        ends = falls(counting, rate, left, self.counts, grant=grant) or [0]
        rated, failed = (all_below if grant else largest)(ends, fits) if left else (0, 0)
        if grant:
            tops = [end for end in (*ends, rated) if 0 < end <= rated] or [0] * (rated == left and fits(0))
            found.dearest = max((priced(top).amount for top in tops), default=0)
            found.parts = max_of([priced(top).parts for top in tops])
        passes = rated == left and fits(left)
        if not passes:
            found.reason = why_not(failed)
        found.rated, found.uncovered = rated, left - rated
        found.price = priced(rated) if rated or passes else Price()
        found.owed = max(found.price.amount, found.dearest) if grant else found.price.amount
        for pot in wallets:
            take = min(found.owed, pot.free_at(use.at_ms))
            if take > 0:
                found.draws.append((pot, take))
                found.owed -= take

    def plan_of(self, payer: Payer) -> PlanTerms | None:
        """A payer's base plan."""
        return self.catalog.plans[payer.base.plan] if payer.base else None

    def covers(self, use: Use) -> list[tuple[Payer, Cover]]:
        """What each step can cover of a grant, up to the first that cannot cover all."""
        found: list[tuple[Payer, Cover]] = []
        for payer, payee in self._steps(use):
            found.append((payer, self.cover(payer, payee, use, grant=True)))
            if found[-1][1].uncovered:
                break
        return found

    # --- charging -------------------------------------------------------------------------------------------------

    def charge(self, use: Use, *, asks: bool) -> Verdict:
        """Charge a use at every step, or, if it asks first and is not covered, at none."""
        endpoint = self.endpoints[use.endpoint]
        steps, covers = self._steps(use), list[Cover]()
        for payer, _ in steps:
            self.purse(payer)
        self.share(use)
        if asks and (denial := self.denied(use)):
            return Verdict(*denial)
        for number, (payer, payee) in enumerate(steps):
            covered = self.cover(payer, payee, use, asks=asks)
            if covered.reason and asks:
                return Verdict(*self.refusal(use, covered.reason, number))
            covers.append(covered)
        if asks:
            self.purse(endpoint).blocked.discard(use.service)
        for (payer, _), covered in zip(steps, covers, strict=True):
            self._pay(payer, covered, use)
        reasons = [covered.reason for covered in covers if covered.reason]
        if reasons and reasons[0] in {"BALANCE_DEPLETED", "NO_VALID_ADDON", "CREDIT_LIMIT"}:
            self.purse(endpoint).blocked.add(use.service)
        return Verdict(
            amounts=tuple(covered.owed for covered in covers),
            uncovered=tuple(covered.uncovered for covered in covers),
            throttled=any(covered.price.throttled for covered in covers),
        )

    def _activate(self, assignment: Assignment, payer: Payer, at_ms: int) -> None:
        """The first use of an assignment begins the validity of all that it brings."""
        for pot in (*self.purse(payer).pots.values(), *self._pool.pots.values()):
            if pot.assignment.id == assignment.id:
                pot.activate(at_ms)

    def _pay(self, payer: Payer, covered: Cover, use: Use) -> None:
        for pot, units in covered.draws:
            if pot.state == "PENDING":
                self._activate(pot.assignment, payer, use.at_ms)
            pot.draw(units, use.at_ms)
        for key, scope, count, _ in covered.price.counts:
            self.counts.set(key, scope, count, use.at_ms)
        plan, purse = (self.catalog.plans[payer.base.plan] if payer.base else None), self.purse(payer)
        if plan is not None and plan.prepaid:
            self._tell(payer, ("balance.threshold_reached", "balance.depleted"), purse.money, covered.owed, purse.full)
            purse.money -= covered.owed
        elif isinstance(payer, AccountTerms) and payer.credit_limit_micros is not None:
            limit, said = payer.credit_limit_micros, ("account.credit_threshold_reached", "account.credit_exhausted")
            self._tell(payer, said, limit - purse.owed, covered.owed, limit)
            purse.owed += covered.owed

    def _tell(self, payer: Payer, said: tuple[str, str], left: int, taken: int, whole: int) -> None:
        """Say that no more than a fifth of something is left, or nothing, if there was more before."""
        if whole and left > Fraction(whole, 5) >= left - taken:
            self.told.append((said[0], payer.id, 80))
        if left > 0 >= left - taken:
            self.told.append((said[1], payer.id, whole))

    def top_up(self, payer_id: str, micros: int, at_ms: int) -> int:
        """Add money; the services of an endpoint are no longer blocked. Who is told the balance sees what has ended."""
        payer = self.endpoints.get(payer_id) or next(each for each in self.chain if each.id == payer_id)
        purse = self.purse(payer)
        purse.money += micros
        purse.full = purse.money
        purse.blocked.clear()
        purse.look(at_ms)
        if payer is self.chain[0]:
            self.pool().look(at_ms)
        return purse.money
