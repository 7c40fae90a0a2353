"""The core and the reference model live through the same random histories; every answer and all state agree."""

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from services.common.clock import HOUR_MS
from services.common.errors import FailedPreconditionError
from services.common.money import Money
from services.rating.domain.balances import Bucket, RenewOn, RollOverOrder, pool_id
from services.rating.domain.decisions import SessionAction, SessionOp
from services.rating.domain.events import Answer, UsageEvent
from services.rating.domain.pricing import Action, Meter, Rounding, TierMode
from services.rating.domain.reasons import BalanceState, Outcome
from services.rating.domain.terms import (
    AS_USED,
    AccountTerms,
    Assignment,
    Benefit,
    CapTerms,
    CatalogTerms,
    ComponentTerms,
    CountedBy,
    CounterTerms,
    EndpointTerms,
    Every,
    PlanTerms,
    RateTerms,
    RoundingTerms,
    Scope,
    TariffVersion,
    TierTerms,
    TimeBand,
    Weight,
)
from services.rating.usecases.sessions import Grant, Session, SessionCall, Units, session_id
from tests.integration.rating.test_balances import events
from tests.integration.rating.world import NOW_MS, OPERATOR_CALLER, StillTerms, World, event, world
from tests.model.reference import Model, Pot, Purse, Use, Verdict
from tests.model.sessions import Granted, Line, Sessions
from tests.unit.rating.terms import ALL, ENTERPRISE, EU, RESELLER, ZA, account, endpoint, plan

REF_USED_MS = 1200 * HOUR_MS
"""How long a reference of events means one session: what a session has counted is kept for 100 days."""
ENDPOINTS = ("ep_1", "ep_2")
SERVICES = (1, 1, 1, 2)
NETWORKS = {EU: "BE", ZA: "ZA"}
OPERATOR = "acc_o"
TODAY = datetime.fromtimestamp(NOW_MS // 1000, UTC).date()
SMALL = st.sampled_from([1, 7, 100, 1000, 4096])
ZONES = st.sampled_from([(), ("zon_eu",)])
QUANTITIES = st.sampled_from([0, 1, 99, 1000, 5000])
NOBODYS_CALL = SessionOp("", "", SessionAction.UPDATE, -1, b"", "", "", 0, 0, 0, 0, ())


# --- what is sold ------------------------------------------------------------------------------------------------


@st.composite
def roundings(draw: st.DrawFn, scopes: Sequence[Scope], *, bounded: bool = False) -> RoundingTerms:
    """How records, sessions or endpoints are measured: half of them as they are."""
    least, increment = draw(st.sampled_from([0, 0, 300])), draw(SMALL)
    most = draw(st.sampled_from([0, 0, 1, 5])) * increment if bounded else 0
    rounded = RoundingTerms(draw(st.sampled_from(scopes)), min(least, most or least), increment, most)
    return draw(st.sampled_from([AS_USED, rounded]))


SHORTER = {
    Scope.RECORD: [],
    Scope.SESSION: [Scope.RECORD],
    Scope.DAY: [Scope.RECORD, Scope.SESSION],
    Scope.WEEK: [Scope.RECORD, Scope.SESSION, Scope.DAY],
    Scope.MONTH: [Scope.RECORD, Scope.SESSION, Scope.DAY, Scope.WEEK],
    Scope.CYCLE: [Scope.RECORD, Scope.SESSION, Scope.DAY, Scope.WEEK],
    Scope.WINDOW: [Scope.RECORD, Scope.SESSION],
}
"""Over what may be measured what is counted over a scope."""


WINDOWS = st.sampled_from([3600, 86400, 86400, 7 * 86400])
WEIGHTS = st.builds(Weight, ZONES, st.sampled_from([frozenset(), frozenset({1})]), st.integers(1, 4), st.integers(1, 3))


@st.composite
def components(draw: st.DrawFn, number: int) -> ComponentTerms:
    increment = draw(SMALL)
    ends = sorted({step * increment for step in draw(st.lists(st.integers(1, 30), max_size=2))})
    actions = st.sampled_from([Action.CHARGE] * 6 + [Action.THROTTLE])
    last = st.sampled_from([Action.CHARGE] * 6 + [Action.THROTTLE, Action.BLOCK])  # what passes below, passes
    tiers = tuple(
        TierTerms(
            end,
            draw(st.integers(0, 5000)),
            draw(SMALL),
            draw(st.sampled_from([0, 0, 900])),
            draw(actions if end else last),
        )
        for end in (*ends, 0)
    )
    lowest = draw(st.sampled_from([0, 0, 2000]))
    meter, scope = draw(st.sampled_from(Meter)), draw(st.sampled_from(Scope))
    for_account = draw(st.booleans())
    scopes = [*SHORTER[scope], *([scope] if for_account and scope in [Scope.DAY, Scope.MONTH, Scope.CYCLE] else [])]
    if meter is Meter.RECORDS:
        scopes = [each for each in scopes if each is not Scope.RECORD]
    each = draw(roundings(scopes, bounded=True)) if scopes and meter is not Meter.COST else AS_USED
    least, mode = draw(st.sampled_from([0, 0, 500])), draw(st.sampled_from(TierMode))
    may_fill = scope is Scope.WINDOW and mode is TierMode.GRADUATED and tiers[-1].action is not Action.BLOCK
    holds = -(-draw(st.sampled_from([600, 6000, 0])) // increment) * increment if may_fill else 0
    return ComponentTerms(
        id=f"c{number}",
        tiers=tiers,
        meter=meter,
        scope=scope,
        window_s=draw(WINDOWS) if scope is Scope.WINDOW else 0,
        window_most=holds if holds >= least else 0,
        each=each,
        covered=meter is Meter.RECORDS and draw(st.booleans()),
        for_account=for_account,
        counted_by=draw(st.sampled_from(CountedBy)),
        free=draw(st.sampled_from([0, 0, 1500])),
        increment=increment,
        minimum=least,
        mode=mode,
        lowest=lowest,
        highest=draw(st.sampled_from([None, None, lowest + 30_000])),
        unit=draw(st.sampled_from([1, 1, 100])),
        rounding=draw(st.sampled_from(Rounding)),
    )


@st.composite
def bands(draw: st.DrawFn, days: int = 7) -> tuple[TimeBand, ...]:
    weekdays, minutes = st.sets(st.integers(1, days)).map(frozenset), (st.integers(0, 1439), st.integers(1, 1440))
    return tuple(draw(st.lists(st.builds(TimeBand, weekdays, *minutes), max_size=1)))


@st.composite
def rates(draw: st.DrawFn, number: int) -> RateTerms:
    places: list[dict[str, Any]] = [
        {},
        {"zone_id": "zon_eu"},
        {"networks": frozenset({EU})},
        {"countries": frozenset({"ZA"})},
    ]
    return RateTerms(
        id=f"r{number}",
        services=frozenset(SERVICES),
        bands=draw(bands(days=8)),
        components=tuple(draw(components(part)) for part in range(draw(st.integers(1, 2)))),
        **draw(st.sampled_from(places)),
    )


def specificity(rate: RateTerms) -> tuple[object, ...]:
    return (rate.zone_id, rate.networks, rate.countries, bool(rate.bands))


@st.composite
def tariffs(draw: st.DrawFn, name: str) -> TariffVersion:
    chosen = {specificity(each): each for each in (draw(rates(number)) for number in range(draw(st.integers(1, 3))))}
    chosen.setdefault(("", frozenset(), frozenset(), False), RateTerms(id="r9", services=ALL))
    caps = st.builds(
        CapTerms,
        st.just("s1"),
        st.sampled_from(sorted(set(Scope) - {Scope.RECORD})),
        st.booleans(),
        st.sampled_from([frozenset(), frozenset({1})]),
        st.integers(0, 60_000),
        st.sampled_from([Action.FREE, Action.THROTTLE, Action.BLOCK]),
        WINDOWS,
        st.sampled_from([frozenset(), frozenset({"r0"})]),
    )
    return TariffVersion(
        id=name,
        version=1,
        currency="EUR",
        effective_ms=0,
        rates=tuple(chosen.values()),
        time_zone=draw(st.sampled_from(["UTC", "Europe/Brussels", "America/New_York"])),
        caps=tuple(draw(st.lists(caps, max_size=1))),
        holidays=frozenset(TODAY + timedelta(days=day) for day in draw(st.sets(st.integers(-5, 40), max_size=3))),
    )


@st.composite
def benefits(draw: st.DrawFn, *, recurs: bool = True, rolls: bool = True, every: bool = True) -> tuple[Benefit, ...]:
    quantity = draw(st.sampled_from([1, 1500, 1500, 9000]))
    services = draw(st.sampled_from([frozenset({1}), frozenset({1}), frozenset({2})]))
    recurring = recurs and draw(st.booleans())
    rolls_over = recurring and rolls and draw(st.booleans())
    money = draw(st.sampled_from([False, False, True]))
    rounding = draw(roundings([Scope.RECORD, Scope.SESSION]))
    return (
        Benefit(
            "b1",
            services,
            quantity,
            draw(ZONES),
            recurring=recurring,
            roll_over_cycles=draw(st.integers(1, 2)) if rolls_over else 0,
            roll_over_order=draw(st.sampled_from(RollOverOrder)),
            roll_over_maximum=draw(st.sampled_from([0, 0, 700, 2000])) if rolls_over else 0,
            bands=draw(bands()) if draw(st.booleans()) else (),
            every=draw(st.sampled_from([Every.CYCLE, Every.CYCLE, Every.DAY, Every.WEEK])) if every else Every.CYCLE,
            money=money,
            rounding=AS_USED if money else rounding,
            weights=() if money else tuple(draw(st.lists(WEIGHTS, max_size=1))),
        ),
    )


@st.composite
def counters(draw: st.DrawFn) -> tuple[CounterTerms, ...]:
    services, limits = (
        st.sampled_from([frozenset({1}), frozenset({2}), frozenset({1, 4})]),
        st.sampled_from([0, 1500, 12_000]),
    )
    return tuple(
        CounterTerms(f"c{n}", draw(services), draw(limits)) for n in range(draw(st.sampled_from([0, 0, 1, 2])))
    )


@st.composite
def addons(draw: st.DrawFn, name: str) -> PlanTerms:
    renews = draw(st.sampled_from([RenewOn.CYCLE, RenewOn.CYCLE, RenewOn.EXPIRY, RenewOn.EXPIRY_OR_EXHAUSTION]))
    on_usage, subscribes = draw(st.booleans()), renews is not RenewOn.CYCLE
    some = benefits(recurs=not subscribes, rolls=not on_usage)
    more = [replace(each, id="b2") for each in draw(some)] if draw(st.booleans()) else []
    return plan(
        name,
        addon=True,
        benefits=(*draw(some), *more),
        zones=draw(ZONES),
        on_usage=on_usage,
        validity_ms=30 * HOUR_MS if subscribes else draw(st.sampled_from([0, 30 * HOUR_MS])),
        renew_on=renews,
        subscriptions_max=draw(st.sampled_from([0, 2, 5])) if subscribes else 0,
        pooled=draw(st.booleans()),
    )


@st.composite
def teams(draw: st.DrawFn, name: str, like: PlanTerms) -> PlanTerms:
    """Base plans whose volumes those who have them share."""
    grows = draw(st.booleans())
    shares = {"benefits": draw(benefits(rolls=not grows, every=not grows)), "pooled": True, "grows": grows}
    return replace(like, key=(name, 1), prorated=draw(st.booleans()), **shares)  # type: ignore[arg-type]


# --- what happens ------------------------------------------------------------------------------------------------


def uses() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "endpoint_id": st.sampled_from(ENDPOINTS),
            "service": st.sampled_from(SERVICES),
            "network_id": st.sampled_from(sorted(NETWORKS)),
            "back_ms": st.sampled_from([0, 0, 0, 1, 30, 80]).map(lambda hours: hours * HOUR_MS),
            "cost_micros": st.sampled_from([0, 700]),
            "session_ref": st.sampled_from(["", "", "s1", "s2"]),
            "how": st.sampled_from(
                [(mode, quantity) for mode in (1, 2) for quantity in (1, 99, 1000, 1000, 5000)] + [(2, 0)]
            ),
        }
    )


STATES = {
    BalanceState.PENDING: "PENDING",
    BalanceState.ACTIVE: "ACTIVE",
    BalanceState.DEPLETED: "DEPLETED",
    BalanceState.EXPIRED: "EXPIRED",
}


class Histories(RuleBasedStateMachine):
    """The core on real stores beside the model."""

    stores: tuple[str, str] = ("", "")
    number = 0

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.events: list[tuple[UsageEvent, Answer]] = []
        self.given = 0
        self.pool_known: set[str] = set()
        Histories.number += 1

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    @initialize(data=st.data(), prepaid=st.tuples(st.booleans(), st.booleans(), st.booleans()))
    def build(self, data: st.DataObject, prepaid: tuple[bool, bool, bool]) -> None:
        names = ("pln_p", "pln_e", "pln_r")
        sold = [
            plan(
                name, prepaid=asks, tariff_id=data.draw(st.sampled_from(["", f"tar_{name}", f"tar_{name}"])),
                benefits=data.draw(benefits()) if data.draw(st.booleans()) else (), prorated=data.draw(st.booleans()), counters=data.draw(counters()), unlimited=data.draw(st.booleans()),
            )
            for name, asks in zip(names, prepaid, strict=True)
        ]  # fmt: skip
        self.bases = [sold[0], *(data.draw(teams(f"pln_t{number}", sold[0])) for number in range(2))]
        self.addons = [data.draw(addons(f"pln_a{number}")) for number in range(3)]
        shared = self.addons[0] = replace(self.addons[0], pooled=True)
        catalog = CatalogTerms(
            plans={each.key: each for each in (*self.bases, *sold, *self.addons)},
            tariffs={f"tar_{name}": (data.draw(tariffs(f"tar_{name}")),) for name in names},
            zones={"zon_eu": frozenset({EU})},
            coverage={ENTERPRISE: frozenset(NETWORKS)},
            networks=dict(NETWORKS),
        )
        limits = st.sampled_from([None, 0, 5000, 200_000])
        base = [Assignment(f"asg_{name}", (name, 1), 0, NOW_MS - HOUR_MS, 0) for name in names]
        chain = [
            account(
                ENTERPRISE, (OPERATOR, RESELLER, ENTERPRISE), base[1],
                *(self._assignment(data, chosen) for chosen in data.draw(st.sampled_from([[], [shared], [shared], self.addons]))),
                limit=data.draw(limits),
            ),
            account(RESELLER, (OPERATOR, RESELLER), base[2], limit=data.draw(limits)),
            account(OPERATOR, (OPERATOR,)),
        ]  # fmt: skip
        chain = [replace(each, billing_cycle_day=9, time_zone="Europe/Brussels") for each in chain]
        endpoints = [replace(endpoint(self._base(data), *self._some(data)), id=name) for name in ENDPOINTS]
        self.terms = StillTerms(endpoints, chain, catalog)
        self.model = Model(self.terms.endpoints, chain, catalog)
        self.sessions, self.latest = Sessions(self.model), dict[str, tuple[str, int, str]]()
        valkey_url, folder = self.stores
        database = f"sqlite+aiosqlite:///{folder}/{Histories.number}.sqlite"
        self.core: World = self.run(self.stack.enter_async_context(world(self.terms, valkey_url, database)))
        self.valkey_is_emptied()  # of the history before

    def _base(self, data: st.DataObject, at_ms: int = NOW_MS - HOUR_MS) -> Assignment:
        self.given += 1
        chosen = data.draw(st.sampled_from(self.bases))
        return Assignment(f"asg_{self.given}", chosen.key, 0, at_ms, 0)

    def _some(self, data: st.DataObject) -> list[Assignment]:
        return [self._assignment(data) for _ in range(data.draw(st.integers(0, 3)))]

    def _assignment(self, data: st.DataObject, chosen: PlanTerms | None = None) -> Assignment:
        self.given += 1
        expires = data.draw(st.sampled_from([0, NOW_MS + 20 * HOUR_MS]))
        chosen = chosen or data.draw(st.sampled_from(self.addons))
        return Assignment(
            f"asg_{self.given}", chosen.key, data.draw(st.integers(0, 2)), NOW_MS - HOUR_MS + self.given, expires
        )

    @rule(batch=st.lists(uses(), min_size=1, max_size=4))
    def use(self, batch: list[dict[str, Any]]) -> None:
        made, said = [], []
        for number, each in enumerate(batch, len(self.events)):
            name, ref, at_ms = each["endpoint_id"], each["session_ref"], self.core.clock.now_ms() - each["back_ms"]
            ref = f"{ref}-{at_ms // REF_USED_MS}" if ref else ""
            mode, quantity = each["how"]
            fields = {key: value for key, value in each.items() if key not in {"back_ms", "how", "session_ref"}}
            made.append(event(quantity, f"e{number}", usage_time_ms=at_ms, mode=mode, session_ref=ref, **fields))
            session = ("ref", name, ref) if ref else ""
            terms = (name, each["service"], each["network_id"], 3, at_ms, quantity, each["cost_micros"])
            said.append(Use(*terms, session))
        charging = self.core.charging
        if len(made) == 1:
            answers = [self.run(charging.charge_one(OPERATOR_CALLER, made[0]))]
        else:
            answers = self.run(charging.charge(OPERATOR_CALLER, made))
        self.model.now_ms = self.core.clock.now_ms()
        for one, answer, use in zip(made, answers, said, strict=True):
            verdict = self.model.charge(use, asks=one.mode == 1)
            note(f"{use} mode {one.mode}: {verdict}")
            assert told(answer) == expected(verdict)
            self.events.append((one, answer))

    @rule(
        name=st.sampled_from(ENDPOINTS),
        network=st.sampled_from(sorted(NETWORKS)),
        lines=st.lists(
            st.tuples(st.sampled_from([1, 2]), QUANTITIES, QUANTITIES),
            min_size=1,
            max_size=2,
            unique_by=lambda line: line[0],
        ),
        does=st.sampled_from(["go on", "go on", "go on", "release", "let go", "begin anew"]),
    )
    def session(self, name: str, network: str, lines: list[tuple[int, int, int]], does: str) -> None:
        """Reserves and reports; of each endpoint one session at a time gets calls, the others fall silent."""
        if name not in self.latest or does == "begin anew":
            self.given += 1
            self.latest[name] = (f"s{self.given}", -1, network)
        ref, last, was_on = self.latest[name]
        sequence, action = last + 1, SessionAction.UPDATE
        if does in {"release", "let go"}:
            action, lines = SessionAction.RELEASE, lines if does == "release" else []
        if sequence == 0:
            action = SessionAction.CREATE
        key, now_ms = session_id(name, ref), self.core.clock.now_ms()
        units = [Units(service, used, requested) for service, used, requested in lines]
        digest = f"{self.given}.{sequence}".rjust(8).encode()[-8:]
        asked = SessionCall(key, ref, action, sequence, name, network, 3, units, 0, digest)
        said = [
            Line(Use(name, service, was_on, 3, now_ms, used, None, ("session", key)), requested, network)
            for service, used, requested in lines
        ]
        try:
            answer: Session | str = self.run(self.core.sessions.call(OPERATOR_CALLER, asked))
        except FailedPreconditionError as error:
            answer = error.reason
        self.model.now_ms = now_ms
        model = self.sessions.call(key, sequence, said, releases=action is SessionAction.RELEASE)
        note(f"session {ref} {sequence} {action.name} {lines}: {model}, the core: {answer}")
        if isinstance(answer, str) or isinstance(model, str):
            assert answer == model
            return
        assert [granted_by_core(each) for each in answer.grants] == [granted_by_model(each) for each in model]
        self.latest[name] = (ref, sequence, network)
        known = self.sessions.known[key]
        known.valid_until_ms, known.ends_ms = answer.valid_until_ms, answer.ends_ms

    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        if self.events:
            made, answer = data.draw(st.sampled_from(self.events))
            again = self.run(self.core.charging.charge(OPERATOR_CALLER, [made]))[0]
            assert again.replayed
            assert replace_replayed(again) == replace_replayed(answer)

    @rule(name=st.sampled_from([*ENDPOINTS, ENTERPRISE, RESELLER]), micros=st.sampled_from([1, 3000, 100_000]))
    def top_up(self, name: str, micros: int) -> None:
        self.given += 1
        owner = (name, "") if name.startswith("ep_") else ("", name)
        balance = self.run(
            self.core.balances.top_up(OPERATOR_CALLER, *owner, Money("EUR", micros), f"request-{self.given}")
        )
        self.model.now_ms = self.core.clock.now_ms()
        assert balance.remaining == self.model.top_up(name, micros, self.core.clock.now_ms())

    @rule(one=uses(), micros=st.sampled_from([300, 3000]))
    def money_is_spent(self, one: dict[str, Any], micros: int) -> None:
        """At every step there is a little money, and reported use takes what it can of it."""
        for name in (one["endpoint_id"], ENTERPRISE, RESELLER):
            self.top_up(name, micros)
        self.use([{**one, "back_ms": 0, "how": (2, 5000)}])

    @rule(name=st.sampled_from(ENDPOINTS), data=st.data(), kept=st.integers(0, 2))
    def change_plans(self, name: str, data: st.DataObject, kept: int) -> None:
        changed = self.terms.endpoints[name]
        changed = replace(changed, addons=(*changed.addons[:kept], self._assignment(data)))
        self.terms.change(changed)
        self.model.endpoints[name] = self.terms.endpoints[name]

    @rule(name=st.sampled_from(ENDPOINTS), data=st.data())
    def change_base_plan(self, name: str, data: st.DataObject) -> None:
        """An endpoint joins those who share a plan, or leaves them; what is told late is of the plan that it had."""
        before, now_ms = self.terms.endpoints[name], self.core.clock.now_ms()
        assert before.base is not None
        former = (*before.former_bases, replace(before.base, expires_ms=now_ms))
        self.terms.change(replace(before, base=self._base(data, now_ms), former_bases=former))
        self.model.forget_pool(self.pool_known)
        self.model.endpoints[name] = self.terms.endpoints[name]

    @rule(name=st.sampled_from(ENDPOINTS), data=st.data())
    def move_an_end(self, name: str, data: st.DataObject) -> None:
        """An assignment without cycles ends earlier or later than was said, or not at all any more."""
        changed, plans = self.terms.endpoints[name], self.terms.catalog.plans
        places = [
            place
            for place, each in enumerate(changed.addons)
            if not any(benefit.recurring for benefit in plans[each.plan].benefits)
        ]
        if not places:
            return
        place = data.draw(st.sampled_from(places))
        ends = data.draw(
            st.sampled_from([0, *(self.core.clock.now_ms() + hours * HOUR_MS for hours in (2, 20, 24 * 20))])
        )
        addons = list(changed.addons)
        addons[place] = replace(addons[place], expires_ms=ends)
        self.terms.change(replace(changed, addons=tuple(addons)))
        self.model.endpoints[name] = self.terms.endpoints[name]

    @rule(hours=st.sampled_from([1, 10, 25, 24 * 9, 24 * 31, 24 * 35]))
    def time_passes(self, hours: int) -> None:
        self._advance(hours * HOUR_MS)

    @rule(first=uses(), late=uses())
    def an_end_passes(self, first: dict[str, Any], late: dict[str, Any]) -> None:
        """Just after the next end of a bucket there is a use, and then one is told from before it."""
        now_ms = self.core.clock.now_ms()
        purses = (*self.model.purses.values(), self.model.pool())
        ends = [pot.expires_ms for purse in purses for pot in purse.pots.values() if pot.expires_ms > now_ms]
        if ends:
            self._advance(min(ends) - now_ms + 1000)
            self.use([{**first, "back_ms": 0}])
            self.use([{**late, "back_ms": 2000}])

    def _advance(self, by_ms: int) -> None:
        self.run(self.core.fold())
        self.core.clock.advance(by_ms)
        self.run(self.core.cell.submit_surely([NOBODYS_CALL], {}))  # whoever comes next sees to what has lapsed
        self.sessions.lapse(self.core.clock.now_ms())
        of_ref = {session_id(name, ref): name for name, (ref, *_) in self.latest.items()}
        for key, name in of_ref.items():
            if not self.sessions.known[key].is_open:
                del self.latest[name]  # those that are closed are forgotten after a day

    @rule()
    def valkey_is_emptied(self) -> None:
        self.run(self.core.client.flushall())  # type: ignore[arg-type]

    @rule()
    def fold(self) -> None:
        self.run(self.core.fold())

    @invariant()
    def state_agrees(self) -> None:
        if not hasattr(self, "core"):
            return
        payers: list[EndpointTerms | AccountTerms] = [*self.model.endpoints.values(), *self.model.chain[:-1]]
        names = [payer.id for payer in payers if self._configured(payer.id)]
        for payer in payers:
            if payer.id in names:
                self.model.purse(payer)
        of_pool = pool_id(ENTERPRISE)
        if self._configured(of_pool):
            names.append(of_pool)
        pool = self.run(self.core.cell.engine.holders([of_pool])).get(of_pool)
        if pool:  # Valkey may have been emptied
            self.pool_known = {bucket.id for bucket in pool.buckets}
        holders = self.run(self.core.cell.engine.holders(names))
        self.model.now_ms = self.core.clock.now_ms()
        for name, holder in holders.items():
            purse = self.model.pool() if name == of_pool else self.model.purses[name]
            assert holder.money == purse.money, name
            assert holder.credit_used == purse.owed, name
            assert (holder.money_reserved, holder.credit_reserved) == (purse.money_reserved, purse.owed_reserved), name
            assert {int(service) for service in holder.blocked} == purse.blocked, name
            self._begin_where_the_core_began(purse, holder.buckets)
            found = {b.id: self._shown(b, STATES[b.state]) for b in holder.buckets}
            wanted = {p.id: self._shown(p, p.state) for p in purse.pots.values()}
            # what nobody shares is remembered for a cycle; when it goes then does not matter
            for pot in purse.pots.values():
                is_over = self._is_due(pot, pot.state) or not (pot.missing or pot.remaining)
                if pot.of_team and not pot.brought and is_over:
                    found.pop(pot.id, None)
                    del wanted[pot.id]
            assert found == wanted, (name, found, wanted)
            assert holder.money >= 0
            assert all(0 <= bucket.reserved <= bucket.remaining for bucket in holder.buckets)

    def _begin_where_the_core_began(self, purse: Purse, buckets: Sequence[Bucket]) -> None:
        """What grows with its members begins with the present cycle when the core first hears of it: look at it."""
        now_ms = self.core.clock.now_ms()
        present = {bucket.id for bucket in buckets if bucket.expires_ms > now_ms}
        for pot in purse.pots.values():
            if pot.of_team and pot.id in present and pot.expires_ms <= now_ms:
                pot.look(now_ms)

    def _shown(self, bucket: Bucket | Pot, state: str) -> tuple[object, ...]:
        """What is compared; of what has ended and was not looked at since, neither which of its ends that was nor the rest:
        the core begins with a cycle that is not long over."""
        is_due = self._is_due(bucket, state)
        ends_ms, remaining = (1, 0) if is_due else (bucket.expires_ms, bucket.remaining)
        return remaining, bucket.reserved, state, ends_ms, bucket.occurrence

    def _is_due(self, bucket: Bucket | Pot, state: str) -> bool:
        return state != "EXPIRED" and 0 < bucket.expires_ms <= self.core.clock.now_ms()

    def _configured(self, name: str) -> bool:
        """Whether the core has looked at a payer since its plans changed last: it does so at its next use."""
        versions = {e.id: e.version for e in self.terms.endpoints.values()} | {
            a.id: a.version for a in self.terms.accounts
        }
        versions[pool_id(ENTERPRISE)] = versions[ENTERPRISE]
        holder = self.run(self.core.cell.engine.holders([name])).get(name)
        return holder is not None and holder.version == versions[name]

    def teardown(self) -> None:
        if hasattr(self, "core"):
            self.run(self._check_books())
            self.run(self._check_events())
        self.run(self.stack.aclose())
        self.runner.close()

    async def _check_books(self) -> None:
        """The ledger's entries of each balance add up to what is left of it."""
        await self.core.fold()
        sums = {name: remaining for name, (_, remaining) in (await self.core.ledger.all_balances()).items()}
        for name in (*self.model.endpoints, *(each.id for each in self.model.chain), pool_id(ENTERPRISE)):
            for holder in (await self.core.cell.engine.holders([name])).values():
                if name != pool_id(ENTERPRISE):
                    assert sums.get(f"bal_{name.partition('_')[2]}.money", 0) == holder.money
                for bucket in holder.buckets:
                    assert sums.get(f"bal_{bucket.id}", 0) == bucket.remaining, bucket.id

    async def _check_events(self) -> None:
        """People heard once of money and credit each time that they became low or were used up."""
        heard = [
            (kind, payload["holder_id"], value)
            for kind, thing, payload in await events(self.core)
            if thing.endswith(".money") or kind.startswith("account.")
            for name, value in payload.items()
            if name in {"threshold_percent", "granted", "credit_limit_micros"}
        ]
        note(f"heard {heard}, said {self.model.told}")
        assert sorted(heard) == sorted(self.model.told)


def granted_by_core(grant: Grant) -> tuple[object, ...]:
    reason = grant.reason.name if grant.reason else ""
    return (grant.service, grant.granted, reason, grant.limiting_step, tuple(grant.amounts), grant.uncovered)


def granted_by_model(grant: Granted) -> tuple[object, ...]:
    amounts, uncovered = (grant.charged.amounts, max(grant.charged.uncovered)) if grant.charged else ((), 0)
    return (grant.service, grant.granted, grant.reason, grant.step, amounts, uncovered)


def told(answer: Answer) -> tuple[object, ...]:
    if answer.outcome is Outcome.REFUSED:
        return ("REFUSED", answer.reason.name, answer.refused_step)
    assert answer.outcome is Outcome.CHARGED, answer
    return ("CHARGED", tuple(answer.amounts), answer.uncovered, answer.throttled)


def expected(verdict: Verdict) -> tuple[object, ...]:
    if verdict.refused:
        return ("REFUSED", verdict.refused, verdict.step)
    return ("CHARGED", verdict.amounts, max(verdict.uncovered), verdict.throttled)


def replace_replayed(answer: Answer) -> tuple[object, ...]:
    return (*told(answer), answer.usage_record_id)


@pytest.mark.hypothesis
@pytest.mark.timeout(600)  # a minute; on a machine that is busy much longer
@pytest.mark.requirement("R275", "R276")
def test_the_core_and_the_model_agree_through_random_histories(valkey_url, tmp_path):
    Histories.stores = (valkey_url, str(tmp_path))
    chosen = settings(
        max_examples=settings().max_examples // 4,
        stateful_step_count=30,
        suppress_health_check=list(HealthCheck),
        deadline=None,
    )
    run_state_machine_as_test(Histories, settings=chosen)
