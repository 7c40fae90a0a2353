"""Bundles drawn in whole steps or at a weight, and counts of records that each are rounded up."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from services.common.clock import DAY_MS
from services.common.money import Money
from services.common.pages import PageRequest
from services.rating.domain.decisions import SessionAction
from services.rating.domain.pricing import Action, Meter, TierMode
from services.rating.domain.reasons import Outcome, Reason
from services.rating.domain.records import read_usage_record_id
from services.rating.domain.tariffs import rate
from services.rating.domain.terms import (
    AS_USED,
    Benefit,
    ComponentTerms,
    RateTerms,
    RoundingTerms,
    Scope,
    TariffVersion,
    TierTerms,
    Weight,
)
from services.rating.usecases.books import Books, Selection, Sum
from services.rating.usecases.sessions import Session
from tests.integration.rating.test_charging import session_call
from tests.integration.rating.test_grants import CENT, EUR, a_mb, counts, priced
from tests.integration.rating.test_refunds import refund
from tests.integration.rating.world import NOW_MS, OPERATOR_CALLER, StillTerms, World, world
from tests.unit.rating.terms import ENDPOINT, EU, MB, ZA, catalog, chain, endpoint, given, plan, tariff

CREATE, UPDATE, RELEASE = SessionAction.CREATE, SessionAction.UPDATE, SessionAction.RELEASE
OFFLINE = 2
KB = 1000
EACH_RECORD = RoundingTerms(increment=100 * KB)
EACH_SESSION = replace(EACH_RECORD, scope=Scope.SESSION)
DATA = frozenset({1})


@asynccontextmanager
async def bundle(
    stores: tuple[str, str],
    quantity: int = MB,
    rounding: RoundingTerms = AS_USED,
    *weights: Weight,
    services: frozenset[int] = DATA,
    bundles: int = 1,
) -> AsyncIterator[World]:
    """An endpoint with bundles that are drawn in some way, and nothing after them."""
    benefit = Benefit("b1", services, quantity, (), recurring=False, rounding=rounding, weights=weights)
    base, free = plan("pln_x", prepaid=True), plan("pln_free", tariff_id="tar_free")
    sold = plan("pln_a", addon=True, benefits=(benefit,))
    terms = catalog([base, free, sold], [tariff("tar_free", 0)])
    addons = [given(f"a{number}", sold.key) for number in range(bundles)]
    still = StillTerms(
        [endpoint(given("x", base.key), *addons)], chain(given("e", free.key), given("r", free.key)), terms
    )
    async with world(still, *stores) as core:
        yield core


async def left(core: World) -> list[int]:
    return [remaining for _, remaining in await core.remaining()]


async def call(core: World, action: SessionAction, sequence: int, used: int = 0, requested: int = 0) -> Session:
    return await core.sessions.call(OPERATOR_CALLER, session_call("s", action, sequence, used, requested))


async def sums_of(core: World) -> list[Sum]:
    return await core.books.sums((), "", Selection(), frozenset(), {})


async def test_each_record_draws_whole_steps(stores):
    async with bundle(stores, MB, EACH_RECORD) as core:
        for number, (used, rest) in enumerate([(1, 900 * KB), (100 * KB, 800 * KB), (100 * KB + 1, 600 * KB)]):
            answer = await core.use(used, f"e{number}", session_ref="s1")
            assert (answer.outcome, await left(core)) == (Outcome.CHARGED, [rest])
        assert (await core.use(0, "nothing", mode=OFFLINE)).outcome is Outcome.CHARGED
        assert await left(core) == [600 * KB]


async def test_a_session_draws_a_step_once_however_its_use_is_split(stores):
    async with bundle(stores, MB, EACH_SESSION) as core:
        for number in range(10):
            await core.use(15 * KB, f"e{number}", session_ref="s1")
        assert await left(core) == [800 * KB]
        await core.use(KB, "other", session_ref="s2")
        await core.use(KB, "alone")
        await core.use(KB, "alone-again")
        assert await left(core) == [500 * KB]


async def test_a_charging_session_is_granted_what_the_bundle_pays_with_the_rest_of_its_step(stores):
    async with bundle(stores, MB, EACH_SESSION) as core:
        opened = await call(core, CREATE, 0, 0, 950 * KB)
        assert opened.grants[0].granted == 950 * KB
        (bucket,) = (await core.cell.engine.holders([ENDPOINT]))[ENDPOINT].buckets
        assert bucket.reserved == MB
        more = await call(core, UPDATE, 1, 950 * KB, 80 * KB)
        assert (more.grants[0].granted, more.grants[0].final, more.grants[0].reason) == (
            50 * KB, True, Reason.NO_VALID_ADDON,
        )  # fmt: skip
        assert await left(core) == [0]
        closed = await call(core, RELEASE, 2, 50 * KB)
        assert (closed.grants[0].uncovered, await left(core)) == (0, [0])


async def test_the_last_step_covers_as_much_as_is_left_of_the_bundle(stores):
    async with bundle(stores, 150 * KB, EACH_RECORD) as core:
        await core.use(60 * KB, "first")
        refused = await core.use(51 * KB, "too-much")
        assert (refused.outcome, refused.reason) == (Outcome.REFUSED, Reason.NO_VALID_ADDON)
        assert (await core.use(10 * KB, "last")).outcome is Outcome.CHARGED
        assert await left(core) == [0]


async def test_a_step_begun_by_one_bundle_is_gone_on_with_by_the_next_of_the_same_kind(stores):
    async with bundle(stores, 150 * KB, EACH_SESSION, bundles=2) as core:
        await core.use(130 * KB, "both", session_ref="s1")
        assert await left(core) == [0, 150 * KB]
        await core.use(20 * KB, "covered", session_ref="s1")
        assert await left(core) == [0, 150 * KB]
        await core.use(KB, "still-covered", session_ref="s1")
        assert await left(core) == [0, 100 * KB]


async def test_where_a_weight_holds_a_bundle_is_drawn_by_it(stores):
    abroad = Weight((), DATA, 3, 1)
    at_home = Weight(("zon_eu",), frozenset(), 1, 2)
    async with bundle(stores, 100, AS_USED, at_home, abroad) as core:
        await core.use(5, "home")
        assert await left(core) == [97]
        await core.use(5, "abroad", network_id=ZA)
        assert await left(core) == [82]
        assert (await core.use(28, "too-much", network_id=ZA)).reason is Reason.NO_VALID_ADDON
        assert (await core.use(27, "rest", network_id=ZA)).outcome is Outcome.CHARGED
        assert await left(core) == [1]
        refused = await core.use(1, "not-one-left", network_id=ZA)
        assert (refused.outcome, await left(core)) == (Outcome.REFUSED, [1])


async def test_in_another_zone_a_session_goes_on_at_another_weight(stores):
    tens = replace(EACH_SESSION, increment=10)
    async with bundle(stores, 1500, tens, Weight(("zon_eu",), frozenset(), 3, 1)) as core:
        for number, (network, used, rest) in enumerate(
            [(ZA, 1000, 500), (EU, 10, 470), (ZA, 5, 460), (EU, 5, 430), (ZA, 5, 460 - 30), (EU, 5, 430)]
        ):
            answer = await core.use(used, f"e{number}", network_id=network, session_ref="s1")
            assert (answer.outcome, await left(core)) == (Outcome.CHARGED, [rest]), number
        opened = session_call("s", CREATE, 0, 0, 400)
        await core.sessions.call(OPERATOR_CALLER, replace(opened, network_id=ZA))
        moved = await call(core, UPDATE, 1, 400, 100)
        assert (moved.grants[0].granted, await left(core)) == (10, [30])


async def test_a_session_goes_on_where_the_same_weight_is_said_in_other_numbers(stores):
    hundreds = replace(EACH_SESSION, increment=100)
    async with bundle(stores, 1500, hundreds, Weight(("zon_eu",), frozenset(), 3, 3)) as core:
        for number, (network, rest) in enumerate([(ZA, 1400), (EU, 1400), (ZA, 1400)]):
            answer = await core.use(30, f"e{number}", network_id=network, session_ref="s1")
            assert (answer.outcome, await left(core)) == (Outcome.CHARGED, [rest]), number


async def test_halves_are_rounded_once_over_a_session_also_where_blocks_are_single_units(stores):
    half = Weight((), frozenset(), 1, 2)
    async with bundle(stores, 10, replace(AS_USED, scope=Scope.SESSION), half) as core:
        for number in range(10):
            await core.use(1, f"e{number}", session_ref="s1")
        assert await left(core) == [5]


async def test_services_weigh_differently_and_a_session_rounds_the_sum_of_each(stores):
    half = Weight((), frozenset({3}), 1, 2)
    whole = RoundingTerms(Scope.SESSION, increment=1)
    async with bundle(stores, 10, whole, half, services=frozenset({2, 3})) as core:
        for number in range(3):
            await core.use(1, f"sent{number}", service=2, session_ref="s1")
            await core.use(1, f"got{number}", service=3, session_ref="s1")
        assert await left(core) == [5]


async def test_a_minimum_is_drawn_once_and_used_up(stores):
    async with bundle(stores, MB, replace(EACH_SESSION, increment=1, minimum=50 * KB)) as core:
        for number, rest in enumerate([950, 950, 940]):
            await core.use(20 * KB, f"e{number}", session_ref="s1")
            assert await left(core) == [rest * KB]


async def test_what_was_drawn_goes_back_in_proportion(stores):
    async with bundle(stores, MB, EACH_RECORD, Weight((), frozenset(), 2, 1)) as core:
        used = await core.use(150 * KB, "e")
        assert await left(core) == [600 * KB]
        await refund(core, used.usage_record_id, 75 * KB)
        assert await left(core) == [800 * KB]
        await refund(core, used.usage_record_id)
        assert await left(core) == [MB]
        await core.fold()
        sums = await sums_of(core)
        assert [(each.data, each.benefit) for each in sums if each.step == 0] == [(150 * KB, 0)]


async def test_sums_of_what_was_covered_follow_refunds_to_the_unit(stores):
    async with bundle(stores, MB, replace(EACH_SESSION, increment=10)) as core:
        used = await core.use(9, "first", session_ref="s1")
        rest = await core.use(1, "of-the-rest", session_ref="s1")
        covered = []
        for record in [used.usage_record_id] * 3 + [rest.usage_record_id]:
            await core.fold()
            covered += [each.benefit for each in await sums_of(core) if each.step == 0]
            await refund(core, record, 3 if record == used.usage_record_id else 1)
        await core.fold()
        assert [*covered, *(each.benefit for each in await sums_of(core) if each.step == 0)] == [10, 7, 4, 1, 0]
        assert await left(core) == [MB]


async def test_books_show_what_was_covered_and_what_was_drawn_and_the_explanation_says_why(stores):
    async with bundle(stores, MB, EACH_RECORD, Weight((), frozenset(), 2, 1)) as core:
        used = await core.use(150 * KB, "e")
        await core.fold()
        position = read_usage_record_id(used.usage_record_id)
        (record,) = await core.books.records("", Selection(position=position), PageRequest(1))
        benefit, rated, uncovered, amount, draws = record.steps[0]
        assert (benefit, rated, uncovered, amount, [draw[1] for draw in draws]) == (150 * KB, 0, 0, 0, [400 * KB])
        assert (await core.ledger.all_balances())["bal_a0.b1"] == (ENDPOINT, 600 * KB)
        told = (await Books(core.books, core.journal, core.terms).explain(OPERATOR_CALLER, position, 0, "c")).sentences
        assert told[1:] == [
            "400000 bytes came from balance bal_a0.b1 at no further price.",
            (
                "Benefit b1 of plan pln_a version 1 covers use like this: each use counts as whole blocks of 100000, and "
                "2 are drawn for each 1 bytes."
            ),
        ]


@pytest.mark.parametrize(
    ("rounding", "amounts"),
    [(EACH_RECORD, [10 * CENT, 10 * CENT, 10 * CENT, 5 * CENT]), (EACH_SESSION, [10 * CENT, 0, 10 * CENT, 5 * CENT])],
)
async def test_tiers_of_a_cycle_count_records_or_sessions_that_each_are_rounded_up(rounding, amounts, stores):
    """A hundred cents a MB for the first 300 kB of whole steps, then fifty; each use is 40 kB but the last two."""
    part = counts(a_mb(100 * CENT, 300 * KB), a_mb(50 * CENT), scope=Scope.CYCLE, each=rounding)
    async with priced(stores, part, EUR) as core:
        found = [(await core.use(40 * KB, f"e{n}", session_ref="s1")).amounts[0] for n in range(2)]
        if rounding.scope is Scope.SESSION:
            await core.use(80 * KB, "fills", session_ref="s0")
        found.append((await core.use(80 * KB, "third", session_ref="s2")).amounts[0])
        found.append((await core.use(KB, "fourth", session_ref="s3")).amounts[0])
        assert found == amounts


async def test_a_grant_reserves_the_price_of_whole_steps_and_a_report_pays_it(stores):
    part = counts(a_mb(100 * CENT), scope=Scope.CYCLE, each=EACH_SESSION)
    async with priced(stores, part, 15 * CENT) as core:
        opened = await call(core, CREATE, 0, 0, 150 * KB)
        assert (opened.grants[0].granted, opened.grants[0].final) == (100 * KB, True)
        holder = (await core.cell.engine.holders([ENDPOINT]))[ENDPOINT]
        assert (holder.money, holder.money_reserved) == (15 * CENT, 10 * CENT)
        more = await call(core, UPDATE, 1, 40 * KB, 200 * KB)
        assert more.grants[0].granted == 60 * KB
        closed = await call(core, RELEASE, 2, 60 * KB)
        assert closed.grants[0].amounts[0] == 0
        holder = (await core.cell.engine.holders([ENDPOINT]))[ENDPOINT]
        assert (holder.money, holder.money_reserved) == (5 * CENT, 0)


async def test_money_buys_the_largest_volume_where_a_tier_makes_all_of_it_cheaper(stores):
    """1.00 a unit while the count of whole tens is up to 100, 0.50 for all of it above."""
    tens = RoundingTerms(Scope.SESSION, increment=10)
    dear, cheap = replace(a_mb(EUR, 100), per_quantity=1), replace(a_mb(EUR // 2), per_quantity=1)
    part = counts(dear, cheap, scope=Scope.CYCLE, mode=TierMode.VOLUME, each=tens)
    async with priced(stores, part, 62 * EUR) as core:
        assert (await core.use(5, "first", session_ref="s1")).amounts[0] == 10 * EUR
        part_of_it = await core.use(130, "second", mode=OFFLINE, session_ref="s1")
        assert (part_of_it.uncovered, part_of_it.amounts[0]) == (15, 50 * EUR)
        await core.balances.top_up(OPERATOR_CALLER, ENDPOINT, "", Money("EUR", EUR), "more")
        assert (await core.use(5, "third", session_ref="s1", mode=OFFLINE)).amounts[0] == 0


async def test_a_step_without_the_money_for_a_whole_block_covers_nothing(stores):
    part = counts(a_mb(100 * CENT), scope=Scope.CYCLE, each=EACH_RECORD)
    async with priced(stores, part, 9 * CENT) as core:
        refused = await core.use(1, "asks")
        assert (refused.outcome, refused.reason) == (Outcome.REFUSED, Reason.BALANCE_DEPLETED)
        reported = await core.use(1, "was", mode=OFFLINE)
        assert (reported.uncovered, reported.amounts[0]) == (1, 0)


async def test_a_simple_price_comes_after_a_bundle_that_is_drawn_in_steps(stores):
    benefit = Benefit("b1", DATA, 150 * KB, (), recurring=False, rounding=EACH_RECORD)
    base, free = plan("pln_x", prepaid=True, tariff_id="tar_x", benefits=(benefit,)), plan("pln_f", tariff_id="tar_f")
    priced_by = replace(tariff("tar_x", 0), rates=(replace(tariff("tar_x", 0).rates[0], rate=rate(CENT, KB, 1, 0)),))
    terms = catalog([base, free], [priced_by, tariff("tar_f", 0)])
    still = StillTerms([endpoint(given("x", base.key))], chain(given("e", free.key), given("r", free.key)), terms)
    async with world(still, *stores) as core:
        await core.balances.top_up(OPERATOR_CALLER, ENDPOINT, "", Money("EUR", EUR), "money")
        assert (await core.use(160 * KB, "e")).amounts[0] == 10 * CENT
        assert await left(core) == [0]


MONTHLY = RoundingTerms(Scope.CYCLE, increment=100 * KB)
TWO = ("ep_1", "ep_2")


@asynccontextmanager
async def two(stores: tuple[str, str], *parts: ComponentTerms, money: int = EUR) -> AsyncIterator[World]:
    """Two endpoints that pay ahead by the same price, at home and abroad."""
    home = RateTerms(id="home", services=DATA, zone_id="zon_eu", components=parts[:1])
    abroad = RateTerms(id="abroad", services=DATA, components=parts[-1:])
    made = TariffVersion(id="tar_x", version=1, currency="EUR", effective_ms=0, rates=(home, abroad))
    base, free = plan("pln_x", prepaid=True, tariff_id="tar_x"), plan("pln_free", tariff_id="tar_free")
    terms = catalog([base, free], [made, tariff("tar_free", 0)])
    still = StillTerms(
        [replace(endpoint(given(f"x{name}", base.key)), id=name) for name in TWO],
        chain(given("e", free.key), given("r", free.key)),
        terms,
    )
    async with world(still, *stores) as core:
        for name in TWO:
            await core.balances.top_up(OPERATOR_CALLER, name, "", Money("EUR", money), f"money-{name}")
        yield core


async def used_by(core: World, name: str, quantity: int, at: int, **fields: object) -> int:
    """What a use costs the endpoint, told as soon as its time has come."""
    core.clock.advance(max(0, NOW_MS + at - core.clock.now_ms()))
    made = await core.use(quantity, f"{name}-{at}", endpoint_id=name, usage_time_ms=NOW_MS + at, **fields)
    return made.amounts[0]


async def test_each_endpoint_is_rounded_up_over_the_month_before_all_are_added_up(stores):
    """A hundred cents a MB for the first 300 kB of whole steps of all endpoints, then fifty."""
    part = counts(a_mb(100 * CENT, 300 * KB), a_mb(50 * CENT), scope=Scope.CYCLE, for_account=True, each=MONTHLY)
    async with two(stores, part) as core:
        uses = [("ep_1", 1), ("ep_1", 50 * KB), ("ep_2", 150 * KB), ("ep_1", 50 * KB), ("ep_2", KB)]
        paid = [await used_by(core, *use, at) for at, use in enumerate(uses)]
        assert paid == [10 * CENT, 0, 20 * CENT, 5 * CENT, 0]
        assert await used_by(core, "ep_2", 1, 31 * DAY_MS) == 10 * CENT  # a month later both begin anew


async def test_days_on_which_an_endpoint_is_used_are_counted_once_wherever_that_is(stores):
    """The first two days of the month 1.00 each, all further ones 0.50: also where a day is spent in two zones."""
    daily = RoundingTerms(Scope.DAY, maximum=1)
    tiers = (TierTerms(2, EUR, 1, 0, Action.CHARGE), TierTerms(0, EUR // 2, 1, 0, Action.CHARGE))
    part = counts(*tiers, scope=Scope.CYCLE, meter=Meter.RECORDS, counter="days", each=daily)
    async with two(stores, part, money=10 * EUR) as core:
        days = [0, 0, 1, 1, 2, 2]
        paid = [
            await used_by(core, "ep_1", MB, day * DAY_MS + n, network_id=ZA if n % 2 else EU)
            for n, day in enumerate(days)
        ]
        assert paid == [EUR, 0, EUR, 0, EUR // 2, 0]
        await core.fold()
        assert await used_by(core, "ep_1", MB, DAY_MS + 9) == 0  # told late: that day is paid
        assert await used_by(core, "ep_2", MB, 9) == EUR


async def test_endpoints_that_are_used_in_a_month_are_counted_once_and_priced_by_their_number(stores):
    active = RoundingTerms(Scope.CYCLE, maximum=1)
    tiers = (TierTerms(1, EUR, 1, 0, Action.CHARGE), TierTerms(0, EUR // 2, 1, 0, Action.CHARGE))
    part = counts(*tiers, scope=Scope.CYCLE, meter=Meter.RECORDS, for_account=True, each=active)
    async with two(stores, part) as core:
        uses = [("ep_1", KB), ("ep_1", MB), ("ep_2", KB), ("ep_2", MB)]
        assert [await used_by(core, *use, at) for at, use in enumerate(uses)] == [EUR, 0, EUR // 2, 0]


async def test_no_more_of_a_day_is_counted_than_its_most(stores):
    part = counts(a_mb(100 * CENT), scope=Scope.CYCLE, each=RoundingTerms(Scope.DAY, maximum=200 * KB))
    async with priced(stores, part, EUR) as core:
        paid = [(await core.use(used * KB, f"e{n}")).amounts[0] for n, used in enumerate([150, 150, 900])]
        assert paid == [15 * CENT, 5 * CENT, 0]
        opened = await call(core, CREATE, 0, 0, 50 * MB)
        assert (opened.grants[0].granted, opened.grants[0].final) == (50 * MB, False)


@pytest.mark.parametrize("first", ["a", "b"])
async def test_grants_that_round_up_together_can_be_paid_whichever_is_used_first(first, stores):
    """Steps of 100 kB a day: 50 of them are used; each of two grants may begin the next one."""
    part = counts(a_mb(100 * CENT), scope=Scope.MONTH, each=RoundingTerms(Scope.DAY, increment=100 * KB))
    async with priced(stores, part, 30 * CENT) as core:
        await core.use(50 * KB, "before")
        for name in "ab":
            opened = await core.sessions.call(OPERATOR_CALLER, session_call(name, CREATE, 0, 0, 50 * KB))
            assert (opened.grants[0].granted, opened.grants[0].final) == (50 * KB, False)
        third = await core.sessions.call(OPERATOR_CALLER, session_call("c", CREATE, 0, 0, 50 * KB))
        assert third.grants[0].granted == 0
        paid = []
        for name in [first, "b" if first == "a" else "a"]:
            closed = await core.sessions.call(OPERATOR_CALLER, session_call(name, RELEASE, 1, 50 * KB, 0))
            assert closed.grants[0].uncovered == 0
            paid.append(closed.grants[0].amounts[0])
        assert paid == [0, 10 * CENT]
        holder = (await core.cell.engine.holders([ENDPOINT]))[ENDPOINT]
        assert (holder.money, holder.money_reserved) == (10 * CENT, 0)
