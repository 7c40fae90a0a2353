"""Use that is told late draws on what was there when it was made, whether somebody looked meanwhile or not."""

from dataclasses import replace

import pytest

from services.common.clock import HOUR_MS
from services.common.money import Money
from services.rating.domain.balances import RenewOn
from services.rating.domain.decisions import SessionAction
from services.rating.domain.reasons import BalanceState, Outcome
from services.rating.domain.terms import Benefit
from tests.integration.rating.settling import settled_world
from tests.integration.rating.test_balances import (
    DATA,
    DECEMBER_MS,
    DRAW,
    EXPIRY,
    GRANT,
    NOVEMBER_MS,
    PREPAID,
    assigned,
    balances,
    monthly,
    movements,
    terms,
    use_at,
)
from tests.integration.rating.test_charging import DAY_MS, session_call
from tests.integration.rating.test_refunds import refund
from tests.integration.rating.world import NOW_MS, OPERATOR_CALLER, World, event
from tests.unit.rating.terms import MB, addon

OFFLINE = 2
OCTOBER_MS = NOVEMBER_MS - DAY_MS
MONTHLY = "bal_base.b1"


async def late(core: World, quantity: int, name: str, at_ms: int = OCTOBER_MS) -> tuple[int, int]:
    """Report use of another time: what it cost the endpoint, and what nothing covered."""
    await core.fold()
    answer = await core.use(quantity, name, usage_time_ms=at_ms, mode=OFFLINE)
    assert answer.outcome is Outcome.CHARGED
    return answer.amounts[0], answer.uncovered


async def test_a_rest_that_rolled_over_and_ended_is_there_for_late_use_for_a_while(valkey_url, sqlite_url):
    async with settled_world(terms(monthly(rolls=1)), valkey_url, sqlite_url) as core:
        await core.use(30 * MB, "in-october")
        assert await use_at(core, NOVEMBER_MS, MB, "in-november") is Outcome.CHARGED
        assert await use_at(core, DECEMBER_MS, MB, "in-december") is Outcome.CHARGED
        assert await late(core, 60 * MB, "late") == (0, 0)
        rest = f"{MONTHLY}~{NOVEMBER_MS // 1000}"
        assert [change for kind, change in await movements(core, rest) if kind is DRAW] == [-MB, -60 * MB]
        assert await use_at(core, DECEMBER_MS + 50 * DAY_MS, MB, "in-january") is Outcome.CHARGED
        assert rest not in [b.id for b in await balances(core)]


@pytest.mark.parametrize("looked", [False, True])
async def test_it_draws_what_was_left_of_its_cycle_and_nothing_of_the_present_one(looked, valkey_url, sqlite_url):
    async with settled_world(terms(monthly()), valkey_url, sqlite_url) as core:
        await core.use(30 * MB, "in-october")
        core.clock.advance(NOVEMBER_MS + 3 * DAY_MS - NOW_MS)
        await core.fold()
        if looked:
            assert await use_at(core, core.clock.now_ms(), 10 * MB, "in-november") is Outcome.CHARGED
        assert await late(core, 50 * MB, "late") == (0, 0)
        assert await late(core, 30 * MB, "later") == (0, 10 * MB)
        if not looked:
            assert await use_at(core, core.clock.now_ms(), 10 * MB, "in-november") is Outcome.CHARGED
        assert (await balances(core))[0].remaining == 90 * MB
        told = await movements(core, MONTHLY)
        assert [change for kind, change in told if kind is DRAW] == (
            [-30 * MB, -10 * MB, -50 * MB, -20 * MB] if looked else [-30 * MB, -50 * MB, -20 * MB, -10 * MB]
        )
        assert sum(change for kind, change in told if kind is EXPIRY) == 0
        assert sum(change for _, change in told) == 90 * MB


async def test_the_ledger_says_that_what_was_lost_is_not(valkey_url, sqlite_url):
    async with settled_world(terms(monthly()), valkey_url, sqlite_url) as core:
        await core.use(30 * MB, "in-october")
        await core.fold()
        await use_at(core, NOVEMBER_MS, MB, "in-november")
        await late(core, 5 * MB, "late")
        assert await movements(core, MONTHLY) == [
            (GRANT, 100 * MB), (DRAW, -30 * MB), (EXPIRY, -70 * MB), (GRANT, 100 * MB), (DRAW, -MB),
            (EXPIRY, 5 * MB), (DRAW, -5 * MB),
        ]  # fmt: skip


async def test_a_cycle_in_which_nothing_was_used_is_there_for_its_late_use(valkey_url, sqlite_url):
    async with settled_world(terms(monthly()), valkey_url, sqlite_url) as core:
        await core.use(30 * MB, "in-october")
        await core.fold()
        await use_at(core, DECEMBER_MS, MB, "in-december")
        assert await late(core, 101 * MB, "november", DECEMBER_MS - 1) == (0, MB)
        assert await late(core, 71 * MB, "october") == (0, MB)
        assert await late(core, 99 * MB, "december", DECEMBER_MS) == (0, 0)


async def test_where_a_rest_rolled_over_it_draws_that_and_then_nothing(valkey_url, sqlite_url):
    async with settled_world(terms(monthly(rolls=1)), valkey_url, sqlite_url) as core:
        await core.use(30 * MB, "in-october")
        await core.fold()
        await use_at(core, NOVEMBER_MS, 10 * MB, "of-the-rest")
        assert await late(core, 70 * MB, "late") == (0, 10 * MB)
        assert [b.remaining for b in (await balances(core))[:2]] == [0, 100 * MB]


async def test_an_addon_that_ended_covers_what_was_used_before(valkey_url, sqlite_url):
    week = assigned("a", addon("pln_a", 10 * MB), expires_ms=NOW_MS + 7 * DAY_MS)
    async with settled_world(terms(PREPAID, (week, addon("pln_a", 10 * MB))), valkey_url, sqlite_url) as core:
        await core.use(4 * MB, "a")
        await core.fold()
        core.clock.advance(8 * DAY_MS)
        refused = await core.use(MB, "after", usage_time_ms=core.clock.now_ms())
        assert refused.outcome is Outcome.REFUSED
        assert await late(core, 7 * MB, "late", NOW_MS + 7 * DAY_MS - 1) == (0, MB)
        assert await late(core, MB, "too-late", NOW_MS + 7 * DAY_MS) == (0, MB)


async def test_a_subscription_begun_anew_leaves_the_one_before_to_its_late_use(valkey_url, sqlite_url):
    weekly = addon("pln_w", 10 * MB, renew_on=RenewOn.EXPIRY, validity_ms=7 * DAY_MS)
    async with settled_world(terms(PREPAID, (assigned("w", weekly), weekly)), valkey_url, sqlite_url) as core:
        await core.use(4 * MB, "first-week")
        await core.fold()
        await use_at(core, NOW_MS + 8 * DAY_MS, MB, "second-week")
        assert await late(core, 7 * MB, "late", NOW_MS + 6 * DAY_MS) == (0, MB)
        assert (await balances(core))[0].remaining == 9 * MB


@pytest.mark.parametrize(
    ("most", "until_day", "ends_day", "occurrence"), [(0, 0, 28, 4), (3, 0, 21, 3), (2, 0, 14, 2), (0, 16, 16, 3)]
)
async def test_a_subscription_that_nobody_looked_at_is_there_for_its_late_use(
    most, until_day, ends_day, occurrence, valkey_url, sqlite_url
):
    """Looked at in the fourth week, after use in the first: what ended last of those between is known."""
    weekly = addon("pln_w", 10 * MB, renew_on=RenewOn.EXPIRY, subscriptions_max=most, validity_ms=7 * DAY_MS)
    until = assigned("w", weekly, expires_ms=NOW_MS + until_day * DAY_MS if until_day else 0)
    async with settled_world(terms(PREPAID, (until, weekly)), valkey_url, sqlite_url) as core:
        await core.use(4 * MB, "first-week")
        await core.fold()
        core.clock.advance(25 * DAY_MS)
        present = 10 * MB if ends_day == 28 else 0
        (now, _) = await balances(core)
        assert (now.remaining, now.occurrence, now.expires_ms) == (present, occurrence, NOW_MS + ends_day * DAY_MS)
        last_ended = min(ends_day, 21) * DAY_MS
        assert await late(core, 7 * MB, "last", NOW_MS + last_ended - 1) == (0, 0)
        assert await late(core, 7 * MB, "more", NOW_MS + 8 * DAY_MS) == (0, 4 * MB)
        assert await late(core, 7 * MB, "first", NOW_MS + 6 * DAY_MS) == (0, MB)
        assert (await balances(core))[0].remaining == present


async def test_money_of_a_former_cycle_pays_for_its_late_use(valkey_url, sqlite_url):
    credit = Benefit("b1", DATA, 10_000, (), recurring=True, money=True)
    base = monthly(benefits=(credit,), tariff_id="tar_retail")
    async with settled_world(terms(base), valkey_url, sqlite_url) as core:
        await core.balances.top_up(OPERATOR_CALLER, "ep_1", "", Money("EUR", 1_000), "t")
        await core.use(MB, "october")  # 0.002 EUR a MB
        await core.fold()
        await use_at(core, NOVEMBER_MS, MB, "november")
        assert await late(core, 4 * MB + MB // 2, "late") == (1_000, 0)
        first, money = await balances(core)
        assert (first.remaining, money.remaining) == (8_000, 0)


async def test_a_session_over_the_boundary_reports_into_both_cycles(valkey_url, sqlite_url):
    async with settled_world(terms(monthly()), valkey_url, sqlite_url) as core:
        core.clock.advance(OCTOBER_MS - NOW_MS)
        await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.CREATE, 0, 0, 60 * MB))
        await core.fold()
        await use_at(core, NOVEMBER_MS, MB, "somebody")
        call = session_call("s", SessionAction.RELEASE, 1, 20 * MB, 0)
        before = replace(call.units[0], usage_ms=NOVEMBER_MS - 1)
        released = await core.sessions.call(OPERATOR_CALLER, replace(call, units=[before]))
        assert released.grants[0].uncovered == 0
        assert [(b.remaining, b.reserved) for b in (await balances(core))[:1]] == [(99 * MB, 0)]


async def test_what_it_drew_is_refunded_once(valkey_url, sqlite_url):
    async with settled_world(terms(monthly()), valkey_url, sqlite_url) as core:
        await core.use(30 * MB, "in-october")
        await core.fold()
        await use_at(core, NOVEMBER_MS, 10 * MB, "in-november")
        await core.fold()
        told = await core.use(5 * MB, "late", usage_time_ms=OCTOBER_MS, mode=OFFLINE)
        back = await refund(core, told.usage_record_id)
        (volume,) = back.steps[0].balances
        assert (volume.restored, volume.lapsed) == (0, 5 * MB)
        assert (await balances(core))[0].remaining == 90 * MB


async def test_many_at_once_draw_what_was_left_exactly_once(valkey_url, sqlite_url):
    async with settled_world(terms(monthly()), valkey_url, sqlite_url) as core:
        await core.use(30 * MB, "in-october")
        await core.fold()
        await use_at(core, NOVEMBER_MS, MB, "in-november")
        told = [event(20 * MB, f"l{n}", usage_time_ms=OCTOBER_MS, mode=OFFLINE) for n in range(5)]
        answers = await core.charging.charge(OPERATOR_CALLER, told)
        assert [answer.uncovered for answer in answers] == [0, 0, 0, 10 * MB, 20 * MB]


async def test_a_grant_is_of_the_present_cycle_also_where_a_clock_was_set_back(valkey_url, sqlite_url):
    async with settled_world(terms(monthly()), valkey_url, sqlite_url) as core:
        await core.use(40 * MB, "in-october")
        await core.fold()
        await use_at(core, NOVEMBER_MS, MB, "in-november")
        core.clock.advance(-60_000)
        opened = await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.CREATE, 0, 0, 70 * MB))
        assert opened.grants[0].granted == 70 * MB
        assert [(b.remaining, b.reserved) for b in (await balances(core))[:1]] == [(99 * MB, 70 * MB)]
        await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.RELEASE, 1, 0, 0))
        assert [(b.remaining, b.reserved) for b in (await balances(core))[:1]] == [(99 * MB, 0)]


@pytest.mark.parametrize("on_usage", [False, True], ids=["on subscription", "on usage"])
async def test_an_addon_is_not_for_use_from_before_it_was_given(on_usage, valkey_url, sqlite_url):
    day_pass = addon("pln_p", 10 * MB, on_usage=on_usage, validity_ms=DAY_MS)
    given_ms = NOW_MS + 2 * DAY_MS
    later = assigned("p2", day_pass, at_ms=given_ms, expires_ms=0 if on_usage else given_ms + DAY_MS)
    async with settled_world(terms(PREPAID, (later, day_pass)), valkey_url, sqlite_url) as core:
        core.clock.advance(2 * DAY_MS + 1000)
        assert await late(core, MB, "before", NOW_MS + DAY_MS) == (0, MB)
        assert await late(core, MB, "clocks-differ", given_ms - 30_000) == (0, 0)
        assert await late(core, MB, "from-before-all", NOW_MS - DAY_MS) == (0, 0)  # of what the endpoint has now
        assert (await balances(core))[0].remaining == 8 * MB


async def test_a_pass_that_is_bought_again_is_not_begun_by_use_of_the_one_before(valkey_url, sqlite_url):
    day_pass = addon("pln_p", 10 * MB, on_usage=True, validity_ms=DAY_MS)
    first, again = assigned("p1", day_pass), assigned("p2", day_pass, at_ms=NOW_MS + 2 * DAY_MS)
    async with settled_world(terms(PREPAID, (first, day_pass), (again, day_pass)), valkey_url, sqlite_url) as core:
        await core.use(MB, "begins-the-first", usage_time_ms=NOW_MS)
        core.clock.advance(2 * DAY_MS + 1000)
        assert await late(core, 12 * MB, "late", NOW_MS + HOUR_MS) == (0, 3 * MB)
        found = {b.id: (b.remaining // MB, b.state, b.activated_ms) for b in await balances(core)}
        assert found["bal_p2.b1"] == (10, BalanceState.PENDING, 0)
        assert await late(core, MB, "between", NOW_MS + DAY_MS + HOUR_MS) == (0, MB)
        assert await late(core, MB, "begins-the-second", core.clock.now_ms()) == (0, 0)
        found = {b.id: (b.remaining // MB, b.state, b.activated_ms) for b in await balances(core)}
        assert found["bal_p2.b1"] == (9, BalanceState.ACTIVE, core.clock.now_ms())
