"""Use from before a base plan was replaced is charged by the plan of then, and draws on what was left of it."""

from dataclasses import replace

import pytest

from services.rating.domain.decisions import SessionAction
from services.rating.domain.reasons import BalanceState, Outcome, Reason
from services.rating.domain.terms import AccountTerms, Assignment, EndpointTerms, PlanTerms
from tests.integration.rating.settling import settled_world
from tests.integration.rating.test_balances import (
    BUNDLE,
    DRAW,
    EXPIRY,
    GRANT,
    NOVEMBER_MS,
    assigned,
    balances,
    kinds,
    monthly,
    movements,
    refill,
    terms,
    use_at,
)
from tests.integration.rating.test_charging import DAY_MS, session_call
from tests.integration.rating.test_refunds import refund
from tests.integration.rating.world import NOW_MS, OPERATOR_CALLER, StillTerms, World
from tests.unit.rating.terms import ENDPOINT, GB, MB, RESELLER, given, plan, tariff

OFFLINE = 2
CHANGED_MS = NOW_MS + 2 * DAY_MS
PLAIN, DEAR = plan("pln_plain", tariff_id="tar_retail"), plan("pln_dear", tariff_id="tar_dear")
DEARER = tariff("tar_dear", 8_000_000)
FIRST = "bal_base.b1"


def market(first: PlanTerms, *others: PlanTerms) -> StillTerms:
    """An endpoint with the first plan; the others are there to change to."""
    found = terms(first)
    found.catalog.plans.update({each.key: each for each in (PLAIN, DEAR, *others)})
    found.catalog.tariffs[DEARER.id] = (DEARER,)
    return found


def change_plan(core: World, name: str, to: PlanTerms, at_ms: int = CHANGED_MS) -> None:
    """Give the endpoint another base plan."""
    core.clock.advance(at_ms - core.clock.now_ms())
    before = core.terms.endpoints[ENDPOINT]
    base = assigned(name, to, at_ms=at_ms)
    core.terms.change(replace(before, base=base, former_bases=formers(before, at_ms)))


def formers(payer: EndpointTerms | AccountTerms, at_ms: int) -> tuple[Assignment, ...]:
    assert payer.base is not None
    return (*payer.former_bases, replace(payer.base, expires_ms=at_ms))


async def cost(core: World, quantity: int, name: str, at_ms: int, step: int = 0) -> tuple[int, int]:
    """Report use of a time: what it cost at a step, and what nothing covered."""
    await core.fold()
    answer = await core.use(quantity, name, usage_time_ms=at_ms, mode=OFFLINE)
    assert answer.outcome is Outcome.CHARGED
    return answer.amounts[step], answer.uncovered


async def test_the_price_is_that_of_the_plan_at_the_time_of_use(valkey_url, sqlite_url):
    async with settled_world(market(PLAIN), valkey_url, sqlite_url) as core:
        assert await cost(core, GB, "before", NOW_MS) == (2_000_000, 0)
        change_plan(core, "second", DEAR)
        assert await cost(core, GB, "after", CHANGED_MS) == (8_000_000, 0)
        assert await cost(core, GB, "late", CHANGED_MS - 1) == (2_000_000, 0)
        assert await cost(core, GB, "before-it-was-there", NOW_MS - 1) == (8_000_000, 0)
        change_plan(core, "third", PLAIN, CHANGED_MS + DAY_MS)
        for at_ms, price in (
            (NOW_MS, 2_000_000),
            (CHANGED_MS, 8_000_000),
            (CHANGED_MS + DAY_MS - 1, 8_000_000),
            (CHANGED_MS + DAY_MS, 2_000_000),
        ):
            assert await cost(core, GB, f"at-{at_ms}", at_ms) == (price, 0)


async def test_a_bundle_ends_with_its_plan_and_its_rest_is_for_late_use_alone(valkey_url, sqlite_url):
    async with settled_world(market(BUNDLE), valkey_url, sqlite_url) as core:
        await core.use(400 * MB, "before")
        change_plan(core, "second", DEAR)
        assert await cost(core, 100 * MB, "after", CHANGED_MS) == (800_000, 0)
        bundle = next(b for b in await balances(core) if b.id == FIRST)
        assert (bundle.state, bundle.remaining, bundle.expires_ms) == (BalanceState.EXPIRED, 0, CHANGED_MS)
        assert await cost(core, 500 * MB, "late", CHANGED_MS - 1) == (0, 0)
        assert await cost(core, 500 * MB, "later", NOW_MS) == (0, 400 * MB)
        assert await movements(core, FIRST) == [
            (GRANT, GB), (DRAW, -400 * MB), (EXPIRY, -600 * MB),
            (EXPIRY, 500 * MB), (DRAW, -500 * MB), (EXPIRY, 100 * MB), (DRAW, -100 * MB),
        ]  # fmt: skip
        assert (await kinds(core)).count("balance.expired") == 1


async def test_late_use_of_a_plan_of_which_nobody_asked_anything_draws_on_it(valkey_url, sqlite_url):
    async with settled_world(market(monthly()), valkey_url, sqlite_url) as core:
        change_plan(core, "second", DEAR, NOVEMBER_MS + DAY_MS)
        assert await cost(core, 70 * MB, "october", NOVEMBER_MS - DAY_MS) == (0, 0)
        assert await cost(core, 70 * MB, "november", NOVEMBER_MS) == (0, 0)
        assert await cost(core, 70 * MB, "october-again", NOVEMBER_MS - DAY_MS) == (0, 40 * MB)
        assert await cost(core, GB, "present", core.clock.now_ms()) == (8_000_000, 0)


async def test_what_rolled_over_ends_with_the_plan_also_if_the_same_plan_is_given_anew(valkey_url, sqlite_url):
    async with settled_world(market(monthly(rolls=2)), valkey_url, sqlite_url) as core:
        await core.use(30 * MB, "october")
        assert await use_at(core, NOVEMBER_MS + 1, MB, "november") is Outcome.CHARGED
        assert [b.remaining for b in await balances(core)] == [69 * MB, 100 * MB, 0]
        change_plan(core, "second", monthly(rolls=2), NOVEMBER_MS + DAY_MS)
        assert await use_at(core, NOVEMBER_MS + DAY_MS, 100 * MB, "all") is Outcome.CHARGED
        refused = await core.use(1, "more", usage_time_ms=core.clock.now_ms())
        assert (refused.outcome, refused.reason) == (Outcome.REFUSED, Reason.BALANCE_DEPLETED)


async def test_a_refill_does_not_outlive_the_plan(valkey_url, sqlite_url):
    async with settled_world(market(BUNDLE), valkey_url, sqlite_url) as core:
        await core.use(MB, "a")
        await core.fold()
        await refill(core, GB, "r1", days=1000)
        change_plan(core, "second", DEAR)
        assert await cost(core, GB, "after", CHANGED_MS) == (8_000_000, 0)
        assert (await balances(core))[0].state is BalanceState.EXPIRED


async def test_asking_first_for_a_time_before_the_change_is_answered_by_the_plan_of_then(valkey_url, sqlite_url):
    async with settled_world(market(BUNDLE), valkey_url, sqlite_url) as core:
        await core.use(900 * MB, "a")
        change_plan(core, "second", DEAR)
        passed = await core.use(100 * MB, "b", usage_time_ms=CHANGED_MS - 1)
        refused = await core.use(1, "c", usage_time_ms=CHANGED_MS - 1)
        assert (passed.outcome, passed.amounts[0]) == (Outcome.CHARGED, 0)
        assert (refused.outcome, refused.reason) == (Outcome.REFUSED, Reason.BALANCE_DEPLETED)


async def test_a_refund_of_what_a_former_plan_gave_is_lost_with_it(valkey_url, sqlite_url):
    async with settled_world(market(BUNDLE), valkey_url, sqlite_url) as core:
        before = await core.use(400 * MB, "before")
        change_plan(core, "second", DEAR)
        await core.fold()
        await refund(core, before.usage_record_id)
        assert (await balances(core))[0].remaining == 0


async def test_a_session_is_granted_by_the_new_plan_and_its_old_reservation_is_gone(valkey_url, sqlite_url):
    async with settled_world(market(BUNDLE), valkey_url, sqlite_url) as core:
        opened = await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.CREATE, 0, 0, 300 * MB))
        assert opened.grants[0].granted == 300 * MB
        change_plan(core, "second", DEAR, NOW_MS + 60_000)
        updated = await core.sessions.call(
            OPERATOR_CALLER, session_call("s", SessionAction.UPDATE, 1, 100 * MB, 200 * MB)
        )
        assert (updated.grants[0].amounts[0], updated.grants[0].granted) == (800_000, 200 * MB)
        bundle = next(b for b in await balances(core) if b.id == FIRST)
        assert (bundle.state, bundle.reserved) == (BalanceState.EXPIRED, 0)


async def test_the_price_of_a_reseller_is_that_of_then_too(valkey_url, sqlite_url):
    async with settled_world(market(PLAIN), valkey_url, sqlite_url) as core:
        reseller = core.terms.accounts[1]
        core.clock.advance(CHANGED_MS - NOW_MS)
        core.terms.change(chain=[core.terms.accounts[0], changed(reseller, DEAR), *core.terms.accounts[2:]])
        assert await cost(core, GB, "after", CHANGED_MS, step=2) == (8_000_000, 0)
        assert await cost(core, GB, "late", CHANGED_MS - 1, step=2) == (0, 0)


def changed(account: AccountTerms, to: PlanTerms) -> AccountTerms:
    base = replace(given(f"{RESELLER}-2", to.key), assigned_ms=CHANGED_MS)
    return replace(account, base=base, former_bases=formers(account, CHANGED_MS), version=account.version + 1)


@pytest.mark.parametrize("looked", [False, True])
async def test_of_two_assignments_of_one_plan_version_late_use_draws_on_its_own(looked, valkey_url, sqlite_url):
    async with settled_world(market(BUNDLE), valkey_url, sqlite_url) as core:
        await core.use(900 * MB, "first")
        change_plan(core, "second", DEAR)
        change_plan(core, "third", BUNDLE, CHANGED_MS + DAY_MS)
        if looked:
            assert await cost(core, 300 * MB, "look", CHANGED_MS + DAY_MS) == (0, 0)
        assert await cost(core, 300 * MB, "late", NOW_MS) == (0, 200 * MB)
        change_plan(core, "fourth", DEAR, CHANGED_MS + 2 * DAY_MS)
        assert await cost(core, MB, "later", NOW_MS) == (0, MB)
        rest = GB - 300 * MB if looked else GB
        assert await cost(core, GB, "of-the-third", CHANGED_MS + DAY_MS) == (0, GB - rest)


@pytest.mark.parametrize("looked", [False, True])
async def test_a_refund_is_lost_with_the_plan_whether_somebody_looked_or_not(looked, valkey_url, sqlite_url):
    async with settled_world(market(BUNDLE), valkey_url, sqlite_url) as core:
        before = await core.use(300 * MB, "before")
        change_plan(core, "second", DEAR)
        if looked:
            await balances(core)
        await core.fold()
        given_back = await refund(core, before.usage_record_id)
        (draw,) = given_back.steps[0].balances
        assert (draw.restored, draw.lapsed) == (0, 300 * MB)
        assert await cost(core, GB, "late", NOW_MS) == (0, 300 * MB)


async def test_what_rolled_over_and_ended_with_the_plan_is_there_for_late_use(valkey_url, sqlite_url):
    async with settled_world(market(monthly(rolls=2)), valkey_url, sqlite_url) as core:
        await core.use(30 * MB, "october")
        assert await use_at(core, NOVEMBER_MS + 1, MB, "november") is Outcome.CHARGED
        change_plan(core, "second", DEAR, NOVEMBER_MS + DAY_MS)
        assert await cost(core, MB, "october-late", NOVEMBER_MS - DAY_MS) == (0, 0)
        assert await cost(core, 170 * MB, "november-late", NOVEMBER_MS + 2) == (0, 2 * MB)
        rest = f"bal_base.b1~{NOVEMBER_MS // 1000}"
        assert [b.state for b in await balances(core) if b.id == rest] == [BalanceState.EXPIRED]
