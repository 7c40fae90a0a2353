"""Base plans whose volumes the endpoints of an enterprise share: static pools, and pools that grow with each of them."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace

import pytest

from services.common.clock import DAY_MS, HOUR_MS
from services.common.errors import MeterlineError
from services.rating.domain.balances import pool_id
from services.rating.domain.decisions import SessionAction
from services.rating.domain.reasons import BalanceState, MovementKind, Outcome, Reason, Unit
from services.rating.domain.terms import Assignment, Benefit, EndpointTerms, PlanTerms
from services.rating.usecases.refills import Refills
from tests.integration.rating.settling import all_holders, settled_world
from tests.integration.rating.test_balances import (
    ABOVE,
    DATA,
    DECEMBER_MS,
    DRAW,
    EXPIRY,
    FREE_ABOVE,
    GRANT,
    NOVEMBER_MS,
    RETAIL,
    balances,
    events,
    kinds,
    movements,
)
from tests.integration.rating.test_charging import ENTERPRISE_CALLER, session_call
from tests.integration.rating.world import NOW_MS, OPERATOR_CALLER, StillTerms, World
from tests.unit.rating.terms import ENTERPRISE, GB, MB, ZA, addon, catalog, chain, endpoint, given, plan

REMOVAL = MovementKind.REMOVAL
POOL = "bal_e-team.b1"
LONG_AGO_MS = NOW_MS - 100 * DAY_MS
OCTOBER_MS = 1_759_276_800_000  # 2025-10-01T00:00:00Z


def shared(quantity: int = GB, *, version: int = 1, recurring: bool = True, **fields: object) -> PlanTerms:
    benefit = Benefit("b1", DATA, quantity, (), recurring=recurring)
    values = {"benefits": (benefit,), "pooled": True, "grows": True, **fields}
    return replace(plan("pln_team", **values), key=("pln_team", version))


def member(number: int, of: PlanTerms, at_ms: int = LONG_AGO_MS) -> EndpointTerms:
    base = Assignment(f"asg_base{number}", of.key, 0, at_ms, 0)
    return replace(endpoint(base), id=f"ep_{number}")


def world_of(
    members: Iterable[EndpointTerms], *plans: PlanTerms, addons: Iterable[tuple[Assignment, PlanTerms]] = ()
) -> StillTerms:
    given_to_account = list(addons)
    all_plans = [FREE_ABOVE, *plans, *(of for _, of in given_to_account)]
    levels = chain(given("e", FREE_ABOVE.key), given("r", FREE_ABOVE.key), *(one for one, _ in given_to_account))
    return StillTerms(members, levels, catalog(all_plans, [ABOVE, RETAIL]))


def join(core: World, *members: EndpointTerms) -> None:
    for each in members:
        core.terms.endpoints.setdefault(each.id, each)
    core.terms.change(*members)


async def pool(core: World) -> tuple[int, int]:
    """What is left of the pool, and what it was filled with."""
    (found, *_) = await balances(core, "", ENTERPRISE)
    assert (found.id, found.pool_id, found.plan_id) == (POOL, pool_id(ENTERPRISE), "pln_team")
    return found.remaining, found.granted


@pytest.mark.requirement("R313")
async def test_a_static_pool_holds_the_same_however_many_share_it(valkey_url, sqlite_url):
    static = shared(10 * MB, grows=False)
    async with settled_world(
        world_of([member(n, static) for n in range(1, 26)], static), valkey_url, sqlite_url
    ) as core:
        answers = await asyncio.gather(*(core.use(MB, "x", endpoint_id=f"ep_{n}") for n in range(1, 26)))
        assert [a.outcome for a in answers].count(Outcome.CHARGED) == 10
        assert {a.reason for a in answers if a.outcome is Outcome.REFUSED} == {Reason.BALANCE_DEPLETED}
        assert await pool(core) == (0, 10 * MB)
        join(core, member(26, static, NOW_MS))
        assert (await core.use(MB, "x", endpoint_id="ep_26")).outcome is Outcome.REFUSED
        core.clock.advance(NOVEMBER_MS - NOW_MS)
        assert (await core.use(MB, "y", endpoint_id="ep_26", usage_time_ms=NOVEMBER_MS)).outcome is Outcome.CHARGED
        assert await pool(core) == (9 * MB, 10 * MB)


async def test_a_static_pool_lives_as_long_as_one_shares_it(valkey_url, sqlite_url):
    static, other = shared(grows=False), plan("pln_other")
    members = [member(n, static, NOW_MS) for n in (1, 2)]
    async with settled_world(world_of(members, static, other), valkey_url, sqlite_url) as core:
        await core.use(300 * MB, "x")
        core.terms.change(member(1, other))
        assert await pool(core) == (700 * MB, GB)
        assert (await core.use(1, "y")).reason is Reason.NO_RATE  # who left draws no more
        core.terms.change(member(2, other))
        assert [b.plan_id for b in await balances(core, "", ENTERPRISE)] == [""]
        assert await movements(core, POOL) == [(GRANT, GB), (DRAW, -300 * MB), (REMOVAL, -700 * MB)]


@pytest.mark.requirement("R314")
async def test_each_endpoint_adds_to_a_dynamic_pool_and_takes_its_part_along(valkey_url, sqlite_url):
    team, other = shared(), plan("pln_other")
    async with settled_world(world_of([member(n, team) for n in (1, 2)], team, other), valkey_url, sqlite_url) as core:
        await core.use(1500 * MB, "x")  # more than it brought itself
        assert await pool(core) == (500 * MB, 2 * GB)
        join(core, *(member(n, team) for n in (3, 4)))
        assert await pool(core) == (2500 * MB, 4 * GB)
        core.terms.change(member(2, other))
        assert await pool(core) == (1500 * MB, 3 * GB)
        assert await movements(core, POOL) == [(GRANT, 2 * GB), (DRAW, -1500 * MB), (GRANT, 2 * GB), (REMOVAL, -GB)]
        core.clock.advance(NOVEMBER_MS - NOW_MS)
        assert await pool(core) == (3 * GB, 3 * GB)  # in the next cycle what they bring then
        assert (await movements(core, POOL))[-2:] == [(EXPIRY, -1500 * MB), (GRANT, 3 * GB)]


@pytest.mark.requirement("R314")
async def test_what_was_used_of_a_part_comes_off_what_is_brought_next(valkey_url, sqlite_url):
    """Who leaves and comes back brings nothing twice."""
    team, other = shared(), plan("pln_other")
    async with settled_world(world_of([member(n, team) for n in (1, 2)], team, other), valkey_url, sqlite_url) as core:
        await core.use(1800 * MB, "x")
        core.terms.change(member(2, other))
        assert await pool(core) == (0, GB)  # 800 MB more were used than it brings now
        assert (await core.use(1, "y")).reason is Reason.BALANCE_DEPLETED
        core.terms.change(member(2, team))
        assert await pool(core) == (200 * MB, 2 * GB)
        core.terms.change(member(2, other))
        await core.use(1, "z")
        join(core, *(member(n, team) for n in (3, 4)))
        assert await pool(core) == (1200 * MB, 3 * GB)
        assert await movements(core, POOL) == [
            (GRANT, 2 * GB), (DRAW, -1800 * MB), (REMOVAL, -200 * MB), (GRANT, 200 * MB), (REMOVAL, -200 * MB),
            (GRANT, 1200 * MB),
        ]  # fmt: skip
        core.clock.advance(NOVEMBER_MS - NOW_MS)
        assert await pool(core) == (3 * GB, 3 * GB)


@pytest.mark.requirement("R314")
async def test_who_joins_in_a_prorated_cycle_brings_what_is_left_of_it(valkey_url, sqlite_url):
    """Four SIMs of 1 GB; the fifth joins with half of the month left: 4.5 GB."""
    team = shared(prorated=True)
    async with settled_world(world_of([member(n, team) for n in range(1, 5)], team), valkey_url, sqlite_url) as core:
        core.clock.advance(NOVEMBER_MS - NOW_MS)
        await core.use(4 * GB, "a", usage_time_ms=NOVEMBER_MS)
        middle_ms = NOVEMBER_MS + 15 * DAY_MS
        core.clock.advance(15 * DAY_MS)
        join(core, member(5, team, middle_ms))
        assert await pool(core) == (GB // 2, 9 * GB // 2)
        await core.use(300 * MB, "b", endpoint_id="ep_5", usage_time_ms=middle_ms)
        core.clock.advance(DECEMBER_MS - middle_ms)
        assert await pool(core) == (5 * GB, 5 * GB)


async def test_parts_are_rounded_once_down(valkey_url, sqlite_url):
    team = shared(10, prorated=True)
    at_ms = OCTOBER_MS + 10 * DAY_MS  # 21 of 31 days are left: 6.77 of 10 units each
    async with settled_world(
        world_of([member(n, team, at_ms) for n in range(1, 4)], team), valkey_url, sqlite_url
    ) as core:
        core.clock.advance(at_ms - NOW_MS)
        assert await pool(core) == (20, 20)


async def test_versions_of_a_plan_share_one_pool(valkey_url, sqlite_url):
    team, larger = shared(), shared(3 * GB, version=2)
    async with settled_world(world_of([member(1, team)], team, larger), valkey_url, sqlite_url) as core:
        assert await pool(core) == (GB, GB)
        join(core, member(2, larger))
        assert await pool(core) == (4 * GB, 4 * GB)
        await core.use(2 * GB, "x")
        await core.use(2 * GB, "y", endpoint_id="ep_2")
        assert await pool(core) == (0, 4 * GB)


async def test_a_static_pool_of_a_new_version_counts_from_the_next_cycle(valkey_url, sqlite_url):
    static, larger = shared(grows=False), shared(3 * GB, version=2, grows=False)
    async with settled_world(world_of([member(1, static)], static, larger), valkey_url, sqlite_url) as core:
        await core.use(400 * MB, "x")
        join(core, member(2, larger))
        assert await pool(core) == (600 * MB, GB)
        core.clock.advance(NOVEMBER_MS - NOW_MS)
        assert await pool(core) == (3 * GB, 3 * GB)


async def test_one_time_volumes_are_brought_once(valkey_url, sqlite_url):
    team, other = shared(recurring=False), plan("pln_other")
    async with settled_world(world_of([member(1, team)], team, other), valkey_url, sqlite_url) as core:
        await core.use(900 * MB, "x")
        join(core, member(2, team))
        assert await pool(core) == (1100 * MB, 2 * GB)
        core.clock.advance(100 * DAY_MS)
        assert await pool(core) == (1100 * MB, 2 * GB)


@pytest.mark.requirement("R076")
async def test_a_shared_plan_comes_after_addons_own_and_shared_and_has_its_tariff_after_it(valkey_url, sqlite_url):
    team, gift = shared(10 * MB, tariff_id="tar_retail"), addon("pln_gift", 5 * MB, pooled=True)
    gifts = [(Assignment("asg_gift", gift.key, 9, NOW_MS, 0), gift)]
    async with settled_world(world_of([member(1, team)], team, addons=gifts), valkey_url, sqlite_url) as core:
        assert (await core.use(8 * MB, "x")).amounts == [0, 0, 0]
        left = [(b.assignment_id, b.plan_id, b.remaining) for b in await balances(core, "", ENTERPRISE)]
        assert left == [("asg_gift", "", 0), ("", "pln_team", 7 * MB), ("", "", 0)]
        assert (await core.use(8 * MB, "y")).amounts == [2000, 0, 0]  # 1 MB at 2 EUR/GB
        own = [(b.assignment_id, b.unit) for b in await balances(core)]
        assert own == [("", Unit.MONEY)]


async def test_only_those_who_have_the_plan_draw_and_only_where_it_permits(valkey_url, sqlite_url):
    team, other = shared(zones=("zon_eu",)), shared(2 * GB)
    other = replace(other, key=("pln_other", 1))
    async with settled_world(
        world_of([member(1, team), member(2, other)], team, other), valkey_url, sqlite_url
    ) as core:
        assert (await core.use(GB + 1, "x")).reason is Reason.BALANCE_DEPLETED
        assert (await core.use(1, "y", network_id=ZA)).reason is Reason.NO_RATE
        assert (await core.use(2 * GB, "z", endpoint_id="ep_2", network_id=ZA)).outcome is Outcome.CHARGED
        left = {b.plan_id: b.remaining for b in await balances(core, "", ENTERPRISE) if b.plan_id}
        assert left == {"pln_team": GB, "pln_other": 0}


async def test_what_sessions_reserve_stays_theirs_when_the_pool_shrinks(valkey_url, sqlite_url):
    team, other = shared(), plan("pln_other")
    async with settled_world(world_of([member(n, team) for n in (1, 2)], team, other), valkey_url, sqlite_url) as core:
        opened = await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.CREATE, 0, 0, 1700 * MB))
        assert opened.grants[0].granted == 1700 * MB
        core.terms.change(member(2, other))
        assert await pool(core) == (1700 * MB, GB)
        used = await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.RELEASE, 1, 1700 * MB, 0))
        assert (used.grants[0].uncovered, used.grants[0].amounts) == (0, [0, 0, 0])
        join(core, member(3, team))
        assert await pool(core) == (300 * MB, 2 * GB)


async def test_what_happens_to_a_pool_is_told_with_its_plan(valkey_url, sqlite_url):
    team, other = shared(), plan("pln_other")
    async with settled_world(world_of([member(n, team) for n in (1, 2)], team, other), valkey_url, sqlite_url) as core:
        used = await core.use(1800 * MB, "x")
        core.terms.change(member(2, other))
        await pool(core)
        assert await kinds(core, resource_id=POOL) == ["balance.threshold_reached", "balance.depleted"]
        kind, resource, payload = (await events(core, resource_id=POOL))[-1]
        assert (kind, resource) == ("balance.depleted", POOL)
        assert payload == {"plan_id": "pln_team", "holder_id": pool_id(ENTERPRISE), "granted": GB}
        (found,) = [b for b in await balances(core, "", ENTERPRISE) if b.plan_id]
        assert found.state is BalanceState.DEPLETED
        assert (await core.balances.get(ENTERPRISE_CALLER, POOL)).plan_id == "pln_team"
        await core.refunds.refund(OPERATOR_CALLER, used.usage_record_id, 900 * MB, reason="test", request_id="r1")
        assert await pool(core) == (100 * MB, GB)  # what came back pays first for what was taken along


async def test_an_addon_of_money_that_is_shared_names_its_currency(valkey_url, sqlite_url):
    credit = Benefit("b1", DATA, 1_000_000, (), recurring=True, money=True)
    team = shared(benefits=(credit,), tariff_id="tar_retail", currency="EUR")
    async with settled_world(world_of([member(n, team) for n in (1, 2)], team), valkey_url, sqlite_url) as core:
        assert (await core.use(100 * MB, "x")).amounts == [0, 0, 0]
        (found, _) = await balances(core, "", ENTERPRISE)
        assert (found.unit, found.currency, found.remaining) == (Unit.MONEY, "EUR", 1_800_000)


async def test_a_pool_that_is_larger_than_a_balance_can_be_holds_the_most_that_it_can(valkey_url, sqlite_url):
    team = shared(1 << 50)
    async with settled_world(world_of([member(n, team) for n in range(1, 10)], team), valkey_url, sqlite_url) as core:
        assert await pool(core) == ((1 << 53) - 1, (1 << 53) - 1)


async def test_a_shared_plan_is_not_refilled(valkey_url, sqlite_url):
    team = shared()
    async with settled_world(world_of([member(1, team)], team), valkey_url, sqlite_url) as core:
        await core.use(MB, "x")
        await core.fold()
        with pytest.raises(MeterlineError, match="NOT_REFILLABLE"):
            await Refills(core.kit, core.balances).refill(OPERATOR_CALLER, POOL, MB, 0, 0, "r1")


@pytest.mark.parametrize("looks", [True, False])
@pytest.mark.parametrize("grows", [True, False])
async def test_a_pool_that_all_leave_remembers_what_was_used_until_its_cycle_ends(grows, looks, valkey_url, sqlite_url):
    team, other = shared(grows=grows), plan("pln_other")
    async with settled_world(world_of([member(1, team, NOW_MS)], team, other), valkey_url, sqlite_url) as core:
        used = await core.use(900 * MB, "x")
        core.terms.change(member(1, other))
        if looks:
            assert [b.plan_id for b in await balances(core, "", ENTERPRISE)] == [""]
        core.terms.change(member(1, team))
        assert await pool(core) == (100 * MB, GB)
        core.terms.change(member(1, other))
        if looks:
            await balances(core, "", ENTERPRISE)
        await core.fold()
        await core.refunds.refund(OPERATOR_CALLER, used.usage_record_id, 300 * MB, reason="test", request_id="r1")
        core.terms.change(member(1, team))
        assert await pool(core) == (400 * MB, GB)
        core.terms.change(member(1, other))
        core.clock.advance(NOVEMBER_MS - NOW_MS)
        await balances(core, "", ENTERPRISE)
        assert (await movements(core, POOL))[-1][1] <= 0
        core.terms.change(member(1, team))
        assert await pool(core) == (GB, GB)


async def test_a_pool_that_nobody_used_ends_with_its_last_member(valkey_url, sqlite_url):
    team, other = shared(), plan("pln_other")
    async with settled_world(world_of([member(1, team, NOW_MS)], team, other), valkey_url, sqlite_url) as core:
        assert await pool(core) == (GB, GB)
        core.terms.change(member(1, other))
        await balances(core, "", ENTERPRISE)
        assert (await all_holders(core))[pool_id(ENTERPRISE)].buckets == []


async def test_what_a_session_gives_back_pays_for_what_was_taken_along(valkey_url, sqlite_url):
    team, other = shared(), plan("pln_other")
    async with settled_world(world_of([member(n, team) for n in (1, 2)], team, other), valkey_url, sqlite_url) as core:
        await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.CREATE, 0, 0, 2 * GB))
        core.terms.change(member(2, other))
        assert await pool(core) == (2 * GB, GB)
        await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.RELEASE, 1, 300 * MB, 0))
        assert await pool(core) == (700 * MB, GB)


@pytest.mark.parametrize("lapses", [True, False])
async def test_a_session_that_ends_without_a_word_pays_for_what_was_taken_along(lapses, valkey_url, sqlite_url):
    team, other = shared(), plan("pln_other")
    async with settled_world(world_of([member(n, team) for n in (1, 2)], team, other), valkey_url, sqlite_url) as core:
        await core.use(GB, "x")
        await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.CREATE, 0, 0, GB))
        core.terms.change(member(2, other))
        assert await pool(core) == (GB, GB)
        if lapses:
            core.clock.advance(2 * HOUR_MS)
            await core.use(1, "y", usage_time_ms=core.clock.now_ms())
        else:
            nothing = replace(session_call("s", SessionAction.RELEASE, 1, 0, 0), units=[])
            await core.sessions.call(OPERATOR_CALLER, nothing)
        assert await pool(core) == (0, GB)
        assert (await movements(core, POOL))[-1] == (REMOVAL, -GB)
        assert await kinds(core, resource_id=POOL) == []


async def test_a_version_that_lacks_a_benefit_leaves_it_to_those_who_have_it(valkey_url, sqlite_url):
    team = shared()
    texts = Benefit("texts", frozenset({2}), 5, (), recurring=True)
    newer = shared(version=2, benefits=(texts,))
    async with settled_world(
        world_of([member(1, team), member(2, newer)], team, newer), valkey_url, sqlite_url
    ) as core:
        await core.use(600 * MB, "x")
        assert (await core.use(1, "y", service=2)).reason is Reason.NO_RATE  # its own version has none
        assert (await core.use(2, "z", endpoint_id="ep_2", service=2)).outcome is Outcome.CHARGED
        left = {b.benefit_id: (b.remaining, b.granted) for b in await balances(core, "", ENTERPRISE) if b.plan_id}
        assert left == {"b1": (400 * MB, GB), "texts": (3, 5)}


async def test_who_joins_by_a_clock_that_is_ahead_takes_nothing_from_the_others(valkey_url, sqlite_url):
    team = shared(prorated=True)
    ahead = [member(1, team), member(2, team, NOVEMBER_MS + 60_000)]
    async with settled_world(world_of(ahead, team), valkey_url, sqlite_url) as core:
        core.clock.at_ms = NOVEMBER_MS - 1000
        assert await pool(core) == (GB, GB)
        core.clock.at_ms = NOVEMBER_MS
        assert await pool(core) == (2 * GB, 2 * GB)


@pytest.mark.requirement("R313")
async def test_a_static_pool_that_an_account_has_is_its_own(valkey_url, sqlite_url):
    static = shared(10 * MB, grows=False)
    levels = chain(given("e", static.key), given("r", FREE_ABOVE.key))
    flat = plan("pln_flat", tariff_id="tar_above")
    everyone = [replace(member(n, flat), id=f"ep_{n}") for n in (1, 2)]
    own = StillTerms(everyone, levels, catalog([FREE_ABOVE, static, flat], [ABOVE, RETAIL]))
    async with settled_world(own, valkey_url, sqlite_url) as core:
        assert (await core.use(6 * MB, "x")).outcome is Outcome.CHARGED
        refused = await core.use(6 * MB, "x", endpoint_id="ep_2")
        assert (refused.reason, refused.refused_step) == (Reason.BALANCE_DEPLETED, 1)


async def test_late_use_of_a_pool_draws_on_what_its_members_brought_then(valkey_url, sqlite_url):
    """Two of them since long, a third one since the present cycle; the pool is first heard of by a record of September."""
    team = shared(10 * MB)
    members = [member(1, team), member(2, team), member(3, team, NOW_MS - DAY_MS)]
    async with settled_world(world_of(members, team), valkey_url, sqlite_url) as core:
        september = {"usage_time_ms": OCTOBER_MS - 1, "mode": 2}
        assert (await core.use(15 * MB, "late", endpoint_id="ep_1", **september)).uncovered == 0
        assert (await core.use(6 * MB, "later", endpoint_id="ep_2", **september)).uncovered == MB
        assert await pool(core) == (30 * MB, 30 * MB)
