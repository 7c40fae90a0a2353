"""Grants of prices that count: several at a time, over the end of a day or a bundle, and where more costs less."""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from services.common.clock import DAY_MS, MINUTE_MS
from services.common.money import Money
from services.rating.convert.balances import balance_to_proto
from services.rating.domain.balances import RenewOn
from services.rating.domain.decisions import SessionAction
from services.rating.domain.pricing import Action, Meter, TierMode
from services.rating.domain.reasons import Outcome, Reason
from services.rating.domain.terms import CapTerms, ComponentTerms, RateTerms, Scope, TariffVersion, TierTerms
from services.rating.usecases.sessions import VALIDITY_MS, Session, SessionCall, Units, session_id
from tests.integration.rating.test_charging import session_call
from tests.integration.rating.world import NOW_MS, OPERATOR_CALLER, StillTerms, World, event, world
from tests.unit.rating.terms import ALL, ENDPOINT, EU, GB, MB, addon, catalog, chain, endpoint, given, plan, tariff

CENT, EUR = 10_000, 1_000_000
DATA, NB_IOT = 1, 4
MIDNIGHT_MS = NOW_MS // DAY_MS * DAY_MS + DAY_MS
DAY_PASS = (TierTerms(0, 0, 1, 5 * EUR, Action.CHARGE),)


_worlds = itertools.count()


def a_mb(price: int, up_to: int = 0, action: Action = Action.CHARGE) -> TierTerms:
    return TierTerms(up_to, price, MB, 0, action)


def counts(*tiers: TierTerms, **fields: object) -> ComponentTerms:
    return ComponentTerms(**{"id": "c1", "tiers": tiers, "scope": Scope.CYCLE, "increment": 1, **fields})  # type: ignore[arg-type]


@asynccontextmanager
async def priced(
    stores: tuple[str, str], part: ComponentTerms, money: int, *caps: CapTerms, expires_ms: int = 0
) -> AsyncIterator[World]:
    """An endpoint that pays ahead for all of its services, with a small add-on if that ends."""
    made = TariffVersion(
        id="tar_x", version=1, currency="EUR", effective_ms=0, caps=caps,
        rates=(RateTerms(id="r1", services=ALL, components=(part,)),),
    )  # fmt: skip
    plans = [plan("pln_x", prepaid=True, tariff_id="tar_x"), plan("pln_free", tariff_id="tar_free"), addon("pln_a", GB)]
    terms = catalog(plans, [made, tariff("tar_free", 0)])
    addons = [given("a", plans[2].key, 0, expires_ms)] if expires_ms else []
    base = endpoint(given("x", plans[0].key), *addons)
    still = StillTerms([base], chain(given("e", plans[1].key), given("r", plans[1].key)), terms)
    valkey, database = stores
    async with world(still, valkey, database.replace(".sqlite", f"{next(_worlds)}.sqlite")) as core:
        await core.client.flushall()
        if money:
            await core.balances.top_up(OPERATOR_CALLER, ENDPOINT, "", Money("EUR", money), "money")
        yield core


async def call(core: World, ref: str, sequence: int, used: int, asked: int, *services: int) -> Session:
    """The next call of a session; one that asks for nothing releases it."""
    units = [Units(service, used, asked) for service in services or (DATA,)]
    action = SessionAction.CREATE if sequence == 0 else SessionAction.UPDATE if asked else SessionAction.RELEASE
    digest = f"{ref}{sequence}{used}{asked}".encode()[-8:].rjust(8)
    name = session_id(ENDPOINT, ref)
    asks = SessionCall(name, ref, action, sequence, ENDPOINT, EU, 3, units, 0, digest)
    return await core.sessions.call(OPERATOR_CALLER, asks)


def granted(session: Session) -> list[int]:
    return [grant.granted for grant in session.grants]


async def test_free_units_are_granted_once(stores):
    async with priced(stores, counts(a_mb(EUR), free=100 * MB), 1) as core:
        assert granted(await call(core, "a", 0, 0, 60 * MB)) == [60 * MB]
        assert granted(await call(core, "b", 0, 0, 60 * MB)) == [40 * MB + 1]  # one micro buys a byte
        assert granted(await call(core, "a", 1, 0, 0)) == [0]  # released unused
        assert granted(await call(core, "b", 1, 0, 100 * MB)) == [100 * MB]
        ended = await call(core, "b", 2, 100 * MB, 0)
        assert (ended.grants[0].amounts[0], ended.grants[0].uncovered) == (0, 0)


async def test_services_of_one_session_share_what_they_count_together(stores):
    async with priced(stores, counts(a_mb(EUR), free=100 * MB), 0) as core:
        assert granted(await call(core, "a", 0, 0, 80 * MB, DATA, NB_IOT)) == [80 * MB, 20 * MB]
    for scope in (Scope.SESSION, Scope.DAY):
        async with priced(stores, counts(a_mb(EUR), free=100 * MB, scope=scope), 0) as core:
            assert granted(await call(core, "a", 0, 0, 80 * MB, DATA, NB_IOT)) == [80 * MB, 20 * MB]
            assert granted(await call(core, "a", 1, 10 * MB, 80 * MB, DATA, NB_IOT)) == [80 * MB, 0]


async def test_a_dearer_tier_is_reserved_by_whoever_comes_second(stores):
    async with priced(stores, counts(a_mb(10 * CENT, 100 * MB), a_mb(EUR)), 20 * EUR) as core:
        assert granted(await call(core, "a", 0, 0, 100 * MB)) == [100 * MB]
        assert granted(await call(core, "b", 0, 0, 100 * MB)) == [10 * MB]
        await call(core, "a", 1, 100 * MB, 0)
        ended = await call(core, "b", 1, 10 * MB, 0)
        assert (ended.grants[0].amounts[0], ended.grants[0].uncovered) == (10 * EUR, 0)


async def test_a_day_pass_is_reserved_for_each_grant_until_one_is_used(stores):
    """Whichever is used first pays for it: all of them could."""
    async with priced(stores, counts(*DAY_PASS, scope=Scope.DAY), 9 * EUR) as core:
        assert granted(await call(core, "a", 0, 0, 10 * MB)) == [10 * MB]
        assert granted(await call(core, "b", 0, 0, 10 * MB)) == [0]
        assert (await call(core, "a", 1, 1, 10 * MB)).grants[0].amounts[0] == 5 * EUR
        assert granted(await call(core, "c", 0, 0, 10 * MB)) == [10 * MB]
        assert [(await call(core, ref, n, MB, 0)).grants[0].amounts[0] for ref, n in (("c", 1), ("a", 2))] == [0, 0]


@pytest.mark.parametrize("stops", [Action.BLOCK, Action.CHARGE])
async def test_a_bound_holds_over_all_grants(stores, stops):
    """As an end of a tier, and as a cap of what is spent."""
    part, caps = counts(a_mb(EUR)), [CapTerms("s1", Scope.CYCLE, False, frozenset(), 10 * EUR, Action.BLOCK)]  # noqa: FBT003
    if stops is Action.BLOCK:
        part, caps = counts(a_mb(EUR, 10 * MB), a_mb(EUR, action=Action.BLOCK)), []
    async with priced(stores, part, 100 * EUR, *caps) as core:
        assert [granted(await call(core, ref, 0, 0, 6 * MB)) for ref in "abc"] == [[6 * MB], [4 * MB], [0]]
        for ref, used in (("a", 6), ("b", 4)):
            assert (await call(core, ref, 1, used * MB, 0)).grants[0].uncovered == 0


@pytest.mark.parametrize("scope", [Scope.DAY, Scope.WINDOW])
async def test_one_time_use_leaves_to_a_grant_what_a_cap_lets_pass_once_that_is_dearer(scope, stores):
    """What was granted would have been free; behind the uses that come before it, it costs more than the cap has left."""
    window_s = 3600 if scope is Scope.WINDOW else 0
    part = counts(a_mb(EUR), free=2 * MB, scope=scope, window_s=window_s)
    cap = CapTerms("s1", scope, False, frozenset(), EUR // 2, Action.BLOCK, window_s)  # noqa: FBT003
    async with priced(stores, part, 100 * EUR, cap) as core:
        assert granted(await call(core, "a", 0, 0, MB)) == [MB]
        assert (await core.use(MB, "e1")).outcome is Outcome.CHARGED
        refused = await core.use(MB, "e2")
        assert (refused.outcome, refused.reason) == (Outcome.REFUSED, Reason.USAGE_LIMIT)
        assert (await core.use(MB // 2, "e3")).outcome is Outcome.CHARGED
        assert (await call(core, "a", 1, MB, 0)).grants[0].uncovered == 0


async def test_a_grant_ends_with_the_day_that_its_price_counts_over(stores):
    async with priced(stores, counts(*DAY_PASS, scope=Scope.DAY), 5 * EUR) as core:
        core.clock.at_ms = MIDNIGHT_MS - 10 * MINUTE_MS
        opened = await call(core, "a", 0, 0, 10 * MB)
        assert (opened.grants[0].switch_ms, opened.valid_until_ms) == (MIDNIGHT_MS, MIDNIGHT_MS)
        core.clock.at_ms = MIDNIGHT_MS - 1
        used = await call(core, "a", 1, 10 * MB, 10 * MB)
        assert used.grants[0].amounts[0] == 5 * EUR
        core.clock.at_ms = MIDNIGHT_MS
        assert granted(await call(core, "a", 2, 0, 10 * MB)) == [0]


async def test_a_grant_ends_with_the_bundle_that_it_is_of(stores):
    ends = NOW_MS + 10 * MINUTE_MS
    async with priced(stores, counts(a_mb(EUR)), 5 * EUR, expires_ms=ends) as core:
        assert (await call(core, "a", 0, 0, 10 * MB)).valid_until_ms == ends
        await call(core, "a", 1, 10 * MB, 10 * MB)
        core.clock.at_ms = ends
        opened = await call(core, "a", 2, 0, 10 * MB)
        assert (granted(opened), opened.valid_until_ms) == ([5 * MB], ends + VALIDITY_MS)


VOLUME = counts(TierTerms(5 * GB, 900_000, GB, 0, Action.CHARGE), TierTerms(0, 500_000, GB, 0, Action.CHARGE))


async def test_where_more_costs_less_the_largest_part_is_charged_and_no_part_of_a_grant_costs_more(stores):
    """0.90 for a GB up to 5 GB, 0.50 for each of more: 3.00 buy 3.33 GB, or 6."""
    part = replace(VOLUME, mode=TierMode.VOLUME)
    async with priced(stores, part, 3 * EUR) as core:
        opened = await call(core, "a", 0, 0, 6 * GB)
        assert granted(opened) == [10 * GB // 3]
        ended = await call(core, "a", 1, 10 * GB // 3, 0)
        assert (ended.grants[0].amounts[0], ended.grants[0].uncovered) == (3 * EUR, 0)
    async with priced(stores, part, 5 * EUR) as core:
        assert granted(await call(core, "a", 0, 0, 6 * GB)) == [6 * GB]
        assert granted(await call(core, "b", 0, 0, MB)) == [MB]  # it will be cheap if the other is used
        ended = await call(core, "a", 1, 5 * GB, 0)  # the dearest part of what was granted
        assert (ended.grants[0].amounts[0], ended.grants[0].uncovered) == (4_500_000, 0)
    async with priced(stores, part, 3 * EUR) as core:
        charged = await core.use(10 * GB, "all", mode=2)
        assert (charged.amounts[0], charged.uncovered) == (3 * EUR, 4 * GB)


async def test_a_price_of_the_visited_networks_cost_is_no_price_of_a_session(stores):
    part = counts(TierTerms(0, 1_300_000, 1_000_000, 0, Action.CHARGE), meter=Meter.COST, lowest=5 * CENT)
    async with priced(stores, part, 5 * EUR) as core:
        opened = await call(core, "a", 0, 0, MB)
        assert (granted(opened), opened.grants[0].reason) == ([0], Reason.NO_RATE)
        ended = await call(core, "a", 1, MB, 0)
        assert (ended.grants[0].amounts[0], ended.grants[0].uncovered) == (0, MB)
        assert (await core.use(MB, "e", cost_micros=EUR)).amounts[0] == 1_300_000


async def test_what_comes_late_counts_on_the_day_of_its_use(stores):
    async with priced(stores, counts(*DAY_PASS, scope=Scope.DAY), 1000 * EUR) as core:
        days = [8, 7, 6, 5, 4, 3, 2, 1, 0, *[8, 5, 2] * 5]
        times = [core.clock.now_ms() - day * DAY_MS for day in days]
        await core.fold()
        paid = [(await core.use(MB, f"e{n}", usage_time_ms=at_ms)).amounts[0] for n, at_ms in enumerate(times)]
        assert paid == [5 * EUR] * 9 + [0] * 15
        assert (await core.use(MB, "older", usage_time_ms=times[0] - DAY_MS)).outcome is Outcome.CHARGED


async def report(
    core: World, sequence: int, *units: Units, at_ms: int = 0, action: SessionAction | None = None
) -> Session:
    """The next call of session "a"; `at_ms` is when its client says that it happens."""
    kind = action or (SessionAction.UPDATE if sequence else SessionAction.CREATE)
    name, digest = session_id(ENDPOINT, "a"), f"{sequence}".encode().rjust(8)
    asks = SessionCall(name, "a", kind, sequence, ENDPOINT, EU, 3, units, at_ms, digest)
    return await core.sessions.call(OPERATOR_CALLER, asks)


def uncovered(session: Session) -> list[int]:
    return [grant.uncovered for grant in session.grants]


async def test_all_that_a_call_reports_is_charged_before_any_of_it_is_granted_anew(stores):
    async with priced(stores, counts(a_mb(EUR)), 10 * EUR) as core:
        first = await report(core, 0, Units(DATA, 0, 5 * MB), Units(NB_IOT, 0, 5 * MB))
        assert granted(first) == [5 * MB, 5 * MB]
        again = await report(core, 1, Units(DATA, 5 * MB, 5 * MB), Units(NB_IOT, 5 * MB, 5 * MB))
        assert (uncovered(again), granted(again)) == ([0, 0], [0, 0])


async def test_one_service_at_two_times_is_charged_before_it_is_granted_anew(stores):
    async with priced(stores, counts(a_mb(EUR)), 10 * EUR) as core:
        await report(core, 0, Units(DATA, 0, 10 * MB))
        core.clock.advance(MINUTE_MS)
        again = await report(core, 1, Units(DATA, 5 * MB, 10 * MB), Units(DATA, 5 * MB, 0, NOW_MS))
        assert (uncovered(again), granted(again)) == ([0, 0], [0, 0])


@pytest.mark.parametrize("action", [SessionAction.UPDATE, SessionAction.RELEASE])
async def test_use_above_a_grant_takes_nothing_that_another_service_of_the_call_has_reserved(stores, action):
    async with priced(stores, counts(a_mb(EUR)), 10 * EUR) as core:
        await report(core, 0, Units(DATA, 0, 5 * MB), Units(NB_IOT, 0, 5 * MB))
        told = await report(core, 1, Units(DATA, 8 * MB, 0), Units(NB_IOT, 5 * MB, 0), action=action)
        assert uncovered(told) == [3 * MB, 0]


async def test_a_grant_is_made_at_the_time_of_the_call_not_of_the_use_that_it_reports(stores):
    async with priced(stores, counts(*DAY_PASS, scope=Scope.DAY), 5 * EUR) as core:
        core.clock.at_ms = MIDNIGHT_MS - 10 * MINUTE_MS
        await report(core, 0, Units(DATA, 0, 10 * MB))
        core.clock.at_ms = MIDNIGHT_MS + 1000
        late = await report(core, 1, Units(DATA, 10 * MB, 10 * MB), at_ms=MIDNIGHT_MS - 1000)
        assert (uncovered(late), granted(late)) == ([0], [0])  # the pass of the day before took the money
        assert late.grants[0].switch_ms == MIDNIGHT_MS + DAY_MS


async def test_a_late_report_does_not_free_what_grants_of_today_hold(stores):
    async with priced(stores, counts(a_mb(EUR), free=100 * MB, scope=Scope.DAY), 0) as core:
        core.clock.at_ms = MIDNIGHT_MS - MINUTE_MS
        await report(core, 0, Units(DATA, 0, 10 * MB))
        core.clock.at_ms = MIDNIGHT_MS + 2000
        assert granted(await call(core, "b", 0, 0, 100 * MB)) == [100 * MB]
        assert granted(await report(core, 1, Units(DATA, 10 * MB, 10 * MB), at_ms=MIDNIGHT_MS - 1)) == [0]
        assert granted(await call(core, "c", 0, 0, 100 * MB)) == [0]


async def test_nothing_is_granted_of_a_bundle_that_has_ended_since_the_use_that_is_reported(stores):
    end = NOW_MS + 10 * MINUTE_MS
    async with priced(stores, counts(a_mb(EUR)), 0, expires_ms=end) as core:
        assert granted(await report(core, 0, Units(DATA, 0, 10 * MB))) == [10 * MB]
        core.clock.at_ms = end + MINUTE_MS
        late = await report(core, 1, Units(DATA, 5 * MB, 10 * MB, end - 1))
        assert granted(late) == [0]


async def test_a_call_about_one_service_does_not_prolong_what_is_granted_of_another(stores):
    end = NOW_MS + 10 * MINUTE_MS
    async with priced(stores, counts(a_mb(EUR)), 10 * EUR, expires_ms=end) as core:
        assert (await report(core, 0, Units(DATA, 0, 10 * MB))).valid_until_ms == end
        assert (await report(core, 1, Units(NB_IOT, 0, MB))).valid_until_ms == end
        assert (await report(core, 2, Units(DATA, 10 * MB, 0))).valid_until_ms == end  # the add-on gave NB-IoT, too
        assert (await report(core, 3, Units(NB_IOT, MB, 0))).valid_until_ms == NOW_MS + VALIDITY_MS


async def test_components_that_count_together_hold_a_grant_once(stores):
    free = counts(a_mb(EUR), free=100 * MB, counter="x")
    async with priced(stores, free, 0) as core:
        (made,) = core.terms.catalog.tariffs["tar_x"]
        tiers = (TierTerms(100 * MB, 0, 1, 0, Action.CHARGE), TierTerms(0, 0, 1, EUR, Action.CHARGE))
        rate = replace(made.rates[0], components=(free, counts(*tiers, id="c2", counter="x")))
        core.terms.catalog.tariffs["tar_x"] = (replace(made, rates=(rate,)),)
        core.terms.change()
        assert granted(await call(core, "a", 0, 0, 60 * MB)) == [60 * MB]
        assert granted(await call(core, "b", 0, 0, 60 * MB)) == [40 * MB]
        await call(core, "a", 1, 0, 0)
        assert granted(await call(core, "b", 1, 0, 100 * MB)) == [100 * MB]


@pytest.mark.parametrize(
    ("tiers", "fields"),
    [
        (DAY_PASS, {"free": 100 * MB}),
        ((TierTerms(100 * MB, 0, 1, 0, Action.CHARGE), *DAY_PASS), {}),
        ((a_mb(EUR),), {"free": 100 * MB, "highest": 5 * EUR}),
        ((a_mb(0, 100 * MB), a_mb(5 * CENT, 200 * MB), a_mb(0)), {}),
    ],
)
async def test_what_is_dear_in_the_middle_is_reserved_by_each_that_may_come_to_it(stores, tiers, fields):
    async with priced(stores, counts(*tiers, **fields), 5 * EUR) as core:
        asked = [granted(await call(core, ref, 0, 0, 100 * MB)) for ref in "abc"]
        assert asked == [[100 * MB], [100 * MB], [0]]  # b has reserved the 5 EUR that c could come to pay
        assert [uncovered(await call(core, ref, 1, 100 * MB, 0)) for ref in "ab"] == [[0], [0]]
        assert (await core.cell.engine.holders([ENDPOINT]))[ENDPOINT].money == 0


async def test_a_use_that_was_granted_later_is_covered_though_an_earlier_grant_used_little(stores):
    tiers = (a_mb(0, 100 * MB), a_mb(CENT, 200 * MB), a_mb(0))
    async with priced(stores, counts(*tiers), EUR) as core:
        assert granted(await call(core, "a", 0, 0, 200 * MB)) == [200 * MB]
        late = granted(await call(core, "b", 0, 0, 100 * MB))
        await call(core, "a", 1, 100 * MB, 0)
        first = granted(await call(core, "c", 0, 0, 100 * MB))
        for ref, quantity in (("c", first[0]), ("b", late[0])):
            if quantity:
                assert uncovered(await call(core, ref, 1, quantity, 0)) == [0]


@pytest.mark.parametrize(
    ("tiers", "free", "money"),
    [((a_mb(EUR, up_to=MB), a_mb(3 * EUR)), 0, 4 * EUR), ((a_mb(EUR),), MB, EUR)],
    ids=["tiers", "free units"],
)
async def test_what_was_granted_first_is_paid_though_others_came_before_it(tiers, free, money, stores):
    """What is used of one grant makes the other dearer: the next grant leaves it what it costs now."""
    async with priced(stores, counts(*tiers, free=free), money) as core:
        assert granted(await call(core, "a", 0, 0, MB)) == [MB]
        assert granted(await call(core, "b", 0, 0, MB)) == [MB]
        again = await call(core, "b", 1, MB, MB)
        assert granted(again) == [0]
        last = await call(core, "a", 1, MB, 0)
        assert uncovered(last) == [0]
        assert (await core.cell.engine.holders([ENDPOINT]))[ENDPOINT].money == 0


@pytest.mark.parametrize("quantity", [MB, 1])
async def test_one_time_use_that_asks_leaves_a_grant_what_it_counted_on(quantity, stores):
    async with priced(stores, counts(a_mb(EUR), free=MB), 0) as core:
        assert granted(await call(core, "a", 0, 0, MB)) == [MB]
        refused = await core.use(quantity, "e")
        assert (refused.outcome, refused.reason) == (Outcome.REFUSED, Reason.BALANCE_DEPLETED)
        assert uncovered(await call(core, "a", 1, MB, 0)) == [0]
        assert (await core.use(1, "f")).reason is Reason.BALANCE_DEPLETED


async def test_one_time_use_that_asks_leaves_a_grant_what_a_bound_lets_pass(stores):
    tiers = counts(a_mb(EUR, up_to=5 * MB), a_mb(EUR, action=Action.BLOCK))
    async with priced(stores, tiers, 100 * EUR) as core:
        assert granted(await call(core, "a", 0, 0, 4 * MB)) == [4 * MB]
        assert (await core.use(2 * MB, "e")).reason is Reason.USAGE_LIMIT
        assert (await core.use(MB, "f")).outcome is Outcome.CHARGED
        assert uncovered(await call(core, "a", 1, 4 * MB, 0)) == [0]


MOST = 2**43
"""What to ask for to learn the most that may be used."""


async def at_a_price(core: World, quantity: int, mode: int = 1) -> tuple[Outcome, Reason, int]:
    answer = await core.use(quantity, f"{quantity}-{mode}", mode=mode)
    return answer.outcome, answer.reason, answer.uncovered


@pytest.mark.parametrize("counting", [False, True])
async def test_the_most_that_may_be_used_is_told_whatever_all_that_was_asked_would_cost(counting, stores):
    """2^43 units cost more than is counted exactly; 1.00 pays for 50 of them all the same."""
    part = counts(TierTerms(0, 20_000, 1, 0, Action.CHARGE), scope=Scope.DAY if counting else Scope.RECORD)
    async with priced(stores, part, EUR) as core:
        opened = await call(core, "a", 0, 0, MOST)
        assert (granted(opened), opened.grants[0].reason) == ([50], Reason.BALANCE_DEPLETED)
        await call(core, "a", 1, 0, 0)
        assert await at_a_price(core, MOST) == (Outcome.REFUSED, Reason.BALANCE_DEPLETED, 0)
        assert await at_a_price(core, MOST, 2) == (Outcome.CHARGED, Reason.NONE, MOST - 50)


async def test_the_most_is_told_at_a_simple_price_too_and_where_nothing_bounds_it(valkey_url, sqlite_url):
    dear, unbounded = plan("pln_dear", prepaid=True, tariff_id="tar_dear"), plan("pln_open", tariff_id="tar_dear")
    have = catalog([dear, unbounded], [tariff("tar_dear", 20_000 * GB)])
    accounts = chain(given("e", unbounded.key), given("r", unbounded.key))
    terms = StillTerms([endpoint(given("base", dear.key))], accounts, have)
    async with world(terms, valkey_url, sqlite_url) as core:
        await core.balances.top_up(OPERATOR_CALLER, ENDPOINT, "", Money("EUR", EUR), "t")
        opened = await call(core, "a", 0, 0, MOST)
        assert (granted(opened), opened.grants[0].reason) == ([50], Reason.BALANCE_DEPLETED)
        await call(core, "a", 1, 50, 0)
        core.terms.change(endpoint(given("base", unbounded.key)))
        opened = await call(core, "b", 0, 0, MOST)
        assert (granted(opened), opened.grants[0].reason) == ([(2**53 - 1) // 20_000], Reason.AMOUNT_OUT_OF_RANGE)


async def test_an_addon_without_end_of_subscriptions_has_as_many_as_are_counted(valkey_url, sqlite_url):
    again = addon("pln_again", 1000, renew_on=RenewOn.EXPIRY_OR_EXHAUSTION, validity_ms=DAY_MS)
    free = plan("pln_free", tariff_id="tar_free")
    have = catalog([again, plan("pln_none", prepaid=True), free], [tariff("tar_free", 0)])
    accounts = chain(given("e", free.key), given("r", free.key))
    who = endpoint(given("base", ("pln_none", 1)), replace(given("again", again.key, 1), assigned_ms=NOW_MS))
    async with world(StillTerms([who], accounts, have), valkey_url, sqlite_url) as core:
        opened = await call(core, "a", 0, 0, MOST)
        assert granted(opened) == [1000 * (2**31 - 1)]
        balance, *_ = await core.balances.of_owner(OPERATOR_CALLER, ENDPOINT, "")
        assert balance_to_proto(balance).occurrence == 2**31 - 1


async def test_a_clock_that_is_fast_ends_nothing_before_its_time(valkey_url, sqlite_url):
    short = addon("pln_short", 1000, validity_ms=MINUTE_MS)
    free = plan("pln_free", tariff_id="tar_free")
    have = catalog([short, plan("pln_none", prepaid=True), free], [tariff("tar_free", 0)])
    accounts = chain(given("e", free.key), given("r", free.key))
    bought = replace(given("short", short.key, 1), assigned_ms=NOW_MS, expires_ms=NOW_MS + MINUTE_MS)
    async with world(
        StillTerms([endpoint(given("base", ("pln_none", 1)), bought)], accounts, have), valkey_url, sqlite_url
    ) as core:
        ahead = NOW_MS + 4 * MINUTE_MS
        assert (await core.use(100, "ahead", usage_time_ms=ahead)).outcome is Outcome.CHARGED
        (again,) = await core.charging.charge(OPERATOR_CALLER, [event(100, "ahead", usage_time_ms=ahead)])
        assert again.replayed
        opened = replace(session_call("s", SessionAction.CREATE, 0, 0, 500), event_ms=ahead)
        assert granted(await core.sessions.call(OPERATOR_CALLER, opened)) == [500]
        assert await core.remaining() == [("asg_short", 900)]
        assert [used.usage_ms for content in await core.contents() for used in content.used] == [ahead]
