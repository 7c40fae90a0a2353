"""Prices that count: the Function agrees with exact fractions, splitting changes nothing, money is never overspent."""

import asyncio
import itertools
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.rating.domain.decisions import Actor, ChargeOp, ConfigureOp, Status, TopUpOp
from services.rating.domain.measuring import UseRounding
from services.rating.domain.periods import Clock, Period
from services.rating.domain.pricing import (
    NO_BOUND,
    Action,
    Cap,
    Component,
    Meter,
    Pricing,
    Rounding,
    TierMode,
    quote,
    tiers,
)
from services.rating.domain.programs import NO_HOLDER, Program, Step, StepMode, program
from services.rating.domain.reasons import Reason
from services.rating.domain.tariffs import EXACT_MAX
from services.rating.engine.driver import Engine
from services.runtime.valkey import connect

DAY_MS = 86_400_000
NOW_MS = 1_760_000_000_000
NOBODY = Actor("test", "acc_t", "acc_t/", "acc_t")
_numbers = itertools.count()

PRICES = st.one_of(st.integers(0, 10**9), st.integers(0, 50))
UNITS = st.sampled_from([1, 1, 10, 128, 1000, 1024, 2**20, 7])


@st.composite
def components(draw: st.DrawFn, number: int, *, actions: bool = True) -> Component:
    increment = draw(UNITS)
    sizes = draw(st.lists(st.integers(1, 400), max_size=3))
    ends = [*(size * increment for size in itertools.accumulate(sizes)), 0]
    action = (
        st.sampled_from([Action.CHARGE] * 8 + [Action.THROTTLE, Action.BLOCK]) if actions else st.just(Action.CHARGE)
    )
    stated = [(end, draw(PRICES), draw(UNITS), draw(PRICES), draw(action)) for end in ends]
    priced, denominator = tiers(stated, increment)
    period = draw(st.sampled_from([Period.RECORD, Period.SESSION, 1]))
    lowest = draw(st.sampled_from([0, 0, 5000]))
    rounding = draw(st.sampled_from(Rounding))
    meter = draw(st.sampled_from(Meter))
    each = None
    if period != Period.RECORD and meter is not Meter.COST and draw(st.booleans()):
        over = draw(st.sampled_from([Period.RECORD, Period.SESSION, 1] if period == 1 else [Period.RECORD]))
        blocks = draw(UNITS)
        most = draw(st.sampled_from([EXACT_MAX, blocks, 3 * blocks]))
        each = UseRounding(
            "" if over == Period.RECORD else f"each{number}", blocks, draw(st.sampled_from([0, 700])), most, over
        )
    return Component(
        id=f"r1.c{number}",
        counter="" if period == Period.RECORD else f"count{number}",
        owner="",
        period=period,
        meter=meter,
        free=draw(st.sampled_from([0, 0, 100, 5000])),
        increment=increment,
        minimum=draw(st.sampled_from([0, 0, 3000])),
        mode=draw(st.sampled_from(TierMode)),
        tiers=priced,
        denominator=denominator,
        lowest=lowest,
        highest=draw(st.sampled_from([NO_BOUND, NO_BOUND, lowest + 20_000])),
        unit=draw(st.sampled_from([1, 10_000])),
        rounding=rounding,
        each=each,
    )


@st.composite
def pricings(draw: st.DrawFn) -> Pricing:
    parts = tuple(draw(components(number)) for number in range(draw(st.integers(1, 3))))
    actions = st.sampled_from([Action.FREE, Action.THROTTLE, Action.BLOCK])
    caps = draw(
        st.lists(st.builds(Cap, st.just("s1"), st.just("cap1"), st.just(""), st.just(1), PRICES, actions), max_size=1)
    )
    return Pricing(parts, tuple(caps))


USES = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.sampled_from(["", "a", "b"]),
        st.one_of(st.integers(1, 60_000), st.just(0)),
        st.integers(0, 10_000),
    ),
    min_size=1,
    max_size=12,
)


def of(pricing: Pricing, mode: StepMode) -> Program:
    holder = "" if mode is StepMode.PREPAID else NO_HOLDER
    step = Step(
        holder, mode, (), None, Reason.NO_RATE, holder, "acc_o", ("p", 1), "EUR", ("t", 1), "r1", "", pricing=pricing
    )
    return program(1, (step,), (Reason.NONE, 0), (0, 1 << 62), (Clock(0, "UTC"),))


class Core:
    """An engine of one cell for one example after another."""

    def __init__(self, url: str) -> None:
        self.client = connect(url)
        self.engine = Engine(self.client, 1000 + next(_numbers))
        self.sequence = 0

    async def open(self) -> None:
        await self.engine.install()
        await self.engine.open(1, 0)

    async def decide(self, ops: list[object], endpoint: str) -> list[list[Any]]:
        decided = await self.engine.decide(ops, {endpoint: 1}, 1, self.sequence, NOW_MS, 10**8)  # type: ignore[arg-type]
        self.sequence = decided.sequence
        return list(decided.outcomes)


def charge(endpoint: str, made: Program, use: tuple[int, str, int, int]) -> ChargeOp:
    day, session, quantity, cost = use
    digest = next(_numbers).to_bytes(16, "big")
    return ChargeOp(digest, bytes(8), endpoint, made, quantity, NOW_MS - day * DAY_MS, 2, b"", cost, session)


def counters_of(pricing: Pricing) -> list[tuple[str, int]]:
    named = [(part.counter, part.period) for part in pricing.components if part.counter]
    eaches = [part.each for part in pricing.components if part.each and part.each.counter]
    named += [(each.counter, each.period) for each in eaches]
    return named + [(cap.counter, cap.period) for cap in pricing.caps]


def key_of(counter: str, pricing: Pricing, day: int, session: str) -> tuple[str, object]:
    period = next(period for name, period in counters_of(pricing) if name == counter)
    return (counter, session if period == Period.SESSION else day)


def test_the_function_agrees_with_exact_fractions(valkey_url):
    with asyncio.Runner() as runner:
        core = Core(valkey_url)
        runner.run(core.open())

        @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
        @given(pricings(), USES)
        def holds(pricing: Pricing, uses: list[tuple[int, str, int, int]]) -> None:
            endpoint = f"ep_{next(_numbers)}"
            made = of(pricing, StepMode.UNLIMITED)
            ops = [ConfigureOp(endpoint, 1, 0, -1, []), *(charge(endpoint, made, use) for use in uses)]
            outcomes = runner.run(core.decide(ops, endpoint))[1:]
            kept: dict[tuple[str, object], int] = {}
            for use, outcome in zip(uses, outcomes, strict=True):
                day, session, quantity, cost = use
                counters = {name for name, _ in counters_of(pricing)}
                counts = {
                    name: kept[key] for name in counters for key in [key_of(name, pricing, day, session)] if key in kept
                }
                expected = quote(pricing, quantity, cost, counts)
                assert outcome[0] == Status.CHARGED
                _, rated, uncovered, amount, _, *told = outcome[2][0]
                assert rated + uncovered == quantity
                assert (uncovered > 0) == (expected.blocked and quantity > 0)
                if expected.blocked:
                    if not rated:
                        assert amount == 0
                        continue
                    expected = quote(pricing, rated, cost, counts)
                assert not expected.blocked
                assert amount == expected.amount
                assert (len(outcome) > 3) == expected.throttled
                flat = told[0] if told else []
                stood = {flat[i]: (flat[i + 1], flat[i + 1] + flat[i + 2]) for i in range(0, len(flat), 3)}
                assert stood == {name: (counts.get(name, 0), count) for name, count in expected.counts.items()}
                for name, count in expected.counts.items():
                    key = key_of(name, pricing, day, session)
                    if key[1] != "":
                        kept[key] = count

        holds()


MONOTONE = st.builds(
    lambda part: replace(part, mode=TierMode.GRADUATED, meter=Meter.QUANTITY), components(1, actions=False)
)


def test_money_buys_the_largest_part_and_is_never_overspent(valkey_url):
    with asyncio.Runner() as runner:
        core = Core(valkey_url)
        runner.run(core.open())

        @settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
        @given(MONOTONE, st.integers(1, 10**6), st.lists(st.integers(1, 10**5), min_size=1, max_size=6))
        def holds(part: Component, money: int, quantities: list[int]) -> None:
            endpoint = f"ep_{next(_numbers)}"
            pricing = Pricing((part,), ())
            made = of(pricing, StepMode.PREPAID)
            digest = next(_numbers).to_bytes(16, "big")
            ops: list[object] = [ConfigureOp(endpoint, 1, 0, -1, [])]
            ops.append(TopUpOp(digest, bytes(8), endpoint, money, "t", NOBODY))
            ops += [charge(endpoint, made, (0, "a", quantity, 0)) for quantity in quantities]
            outcomes = runner.run(core.decide(ops, endpoint))[2:]
            left, counts = money, dict[str, int]()
            for quantity, outcome in zip(quantities, outcomes, strict=True):
                _, rated, uncovered, amount, *_ = outcome[2][0]
                found = quote(pricing, rated, 0, counts)
                assert rated + uncovered == quantity
                assert amount == (found.amount if rated else 0)
                if uncovered:
                    assert quote(pricing, rated + 1, 0, counts).amount > left
                left, counts = left - amount, dict(found.counts) if rated else counts
                assert left >= 0
            holder = runner.run(core.engine.holders([endpoint]))[endpoint]
            assert holder.money == left

        holds()


@settings(max_examples=200, deadline=None)
@given(components(1, actions=False), st.lists(st.integers(0, 60_000), min_size=1, max_size=30))
def test_splitting_a_volume_never_changes_what_it_costs(part, quantities):
    each = replace(part.each, counter="each1") if part.each else None
    part = replace(part, period=1, counter="count1", meter=Meter.QUANTITY, each=each)
    pricing, counts, total = Pricing((part,), ()), dict[str, int](), 0
    for quantity in quantities:
        found = quote(pricing, quantity, 0, counts)
        total, counts = total + found.amount, dict(found.counts)
    assert total == quote(pricing, sum(quantities), 0, {}).amount <= EXACT_MAX
