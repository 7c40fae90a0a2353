"""Counters of plans: all use of a cycle, whatever pays for it, and where it has to end."""

import asyncio
from dataclasses import replace

import pytest

from services.common.errors import MeterlineError
from services.rating.domain.decisions import SessionAction
from services.rating.domain.reasons import Outcome, Reason, Unit
from services.rating.domain.records import read_usage_record_id
from services.rating.domain.terms import Benefit, CounterTerms, PlanTerms
from services.rating.usecases.books import Books
from services.rating.usecases.counters import Counter, Counters
from services.rating.usecases.enquiring import Enquiries
from tests.integration.rating.settling import settled_world
from tests.integration.rating.test_balances import (
    ABOVE,
    DATA,
    DECEMBER_MS,
    FREE_ABOVE,
    NOVEMBER_MS,
    RETAIL,
    assigned,
    balances,
    events,
    terms,
)
from tests.integration.rating.test_charging import ENTERPRISE_CALLER, STRANGER, session_call
from tests.integration.rating.world import NOW_MS, OPERATOR_CALLER, StillTerms, World, event, world
from tests.unit.rating.terms import (
    ENDPOINT,
    ENTERPRISE,
    MB,
    RESELLER,
    addon,
    catalog,
    chain,
    endpoint,
    given,
    plan,
    tariff,
)

OCTOBER_MS = 1_759_276_800_000  # 2025-10-01T00:00:00Z
OFFLINE = 2
SMS = 2


def counting(limit: int, *, name: str = "data", services: frozenset[int] = DATA, **fields: object) -> PlanTerms:
    values = {"tariff_id": "tar_retail", "counters": (CounterTerms(name, services, limit),), **fields}
    return plan("pln_counting", **values)


async def counters(core: World, endpoint_id: str = ENDPOINT, account_id: str = "") -> list[Counter]:
    return list(await Counters(core.kit, core.balances).of_owner(OPERATOR_CALLER, endpoint_id, account_id))


async def stand(core: World, endpoint_id: str = ENDPOINT, account_id: str = "") -> tuple[int, int]:
    """What is used and reserved of the only counter."""
    (counter,) = await counters(core, endpoint_id, account_id)
    return counter.used, counter.reserved


@pytest.mark.requirement("R111", "R115")
async def test_a_counter_counts_all_use_of_its_services_whatever_pays_for_it(valkey_url, sqlite_url):
    gift, base = addon("pln_gift", 3 * MB), counting(0)
    async with settled_world(terms(base, (assigned("g", gift), gift)), valkey_url, sqlite_url) as core:
        assert await stand(core) == (0, 0)
        assert (await core.use(5 * MB, "a")).amounts == [4_000, 0, 0]  # 3 MB came from the add-on
        await core.use(MB, "b", usage_time_ms=OCTOBER_MS - 1)  # late, of the cycle before
        await core.use(1, "c", service=SMS)
        (counter,) = await counters(core)
        assert (counter.used, counter.reserved, counter.of.terms.limit) == (5 * MB, 0, 0)
        assert (counter.started_ms, counter.resets_ms) == (OCTOBER_MS, NOVEMBER_MS)
        assert (counter.of.plan_id, counter.of.terms.name) == ("pln_counting", "data")
        assert (counter.endpoint_id, counter.account_id, counter.of.terms.unit) == (ENDPOINT, ENTERPRISE, Unit.BYTES)
        core.clock.advance(NOVEMBER_MS - NOW_MS)
        assert await stand(core) == (0, 0)


@pytest.mark.requirement("R111")
async def test_use_ends_at_the_limit_and_begins_anew_with_the_cycle(valkey_url, sqlite_url):
    async with settled_world(terms(counting(10 * MB)), valkey_url, sqlite_url) as core:
        await core.use(7 * MB, "a")
        refused = await core.use(4 * MB, "b")
        assert (refused.outcome, refused.reason, refused.refused_step) == (Outcome.REFUSED, Reason.USAGE_LIMIT, 0)
        assert (await core.use(1, "c", service=SMS)).outcome is Outcome.CHARGED
        assert (await core.use(3 * MB, "d")).outcome is Outcome.CHARGED
        assert (await core.use(1, "e")).reason is Reason.USAGE_LIMIT
        assert await stand(core) == (10 * MB, 0)
        core.clock.advance(NOVEMBER_MS - NOW_MS)
        assert (await core.use(10 * MB, "f", usage_time_ms=NOVEMBER_MS)).outcome is Outcome.CHARGED


async def test_exactly_the_limit_passes_of_many_at_once(valkey_url, sqlite_url):
    async with settled_world(terms(counting(10 * MB)), valkey_url, sqlite_url) as core:
        answers = await asyncio.gather(*(core.use(MB, f"e{n}") for n in range(30)))
        assert [answer.outcome for answer in answers].count(Outcome.CHARGED) == 10


async def test_what_was_used_beyond_the_limit_counts_and_is_not_covered(valkey_url, sqlite_url):
    async with settled_world(terms(counting(10 * MB)), valkey_url, sqlite_url) as core:
        over = await core.use(12 * MB, "a", mode=OFFLINE)
        assert (over.outcome, over.amounts, over.uncovered) == (Outcome.CHARGED, [20_000, 0, 0], 2 * MB)
        assert await stand(core) == (12 * MB, 0)
        beyond = await core.use(MB, "b", mode=OFFLINE)
        assert (beyond.amounts, beyond.uncovered) == ([0, 0, 0], MB)
        await core.fold()
        books = Books(core.books, core.journal, core.terms)
        explained = await books.explain(OPERATOR_CALLER, read_usage_record_id(beyond.usage_record_id), 0, "c")
        assert any("or the limit of counter 'data'" in sentence for sentence in explained.sentences), explained
        assert (await core.use(1, "c", service=SMS)).outcome is Outcome.CHARGED  # no service is blocked by it


async def test_a_grant_goes_no_further_and_others_leave_it_what_it_holds(valkey_url, sqlite_url):
    async with settled_world(terms(counting(10 * MB)), valkey_url, sqlite_url) as core:
        await core.use(2 * MB, "a")
        opened = await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.CREATE, 0, 0, 20 * MB))
        (grant,) = opened.grants
        assert (grant.granted, grant.reason, grant.final) == (8 * MB, Reason.USAGE_LIMIT, True)
        assert grant.switch_ms == NOVEMBER_MS
        assert await stand(core) == (2 * MB, 8 * MB)
        assert (await core.use(1, "b")).reason is Reason.USAGE_LIMIT
        updated = await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.UPDATE, 1, 5 * MB, MB))
        assert (updated.grants[0].granted, updated.grants[0].uncovered) == (MB, 0)
        assert await stand(core) == (7 * MB, MB)
        assert (await core.use(2 * MB, "c")).outcome is Outcome.CHARGED
        await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.RELEASE, 2, 0, 0))
        assert await stand(core) == (9 * MB, 0)


async def test_an_account_counts_the_use_of_all_its_endpoints_at_its_own_step(valkey_url, sqlite_url):
    limited = counting(10 * MB, tariff_id="tar_above", prepaid=False)
    levels = chain(given("e", limited.key), given("r", FREE_ABOVE.key))
    base = plan("pln_flat", tariff_id="tar_above")
    everyone = [replace(endpoint(assigned(f"b{n}", base)), id=f"ep_{n}") for n in range(1, 4)]
    world_terms = StillTerms(everyone, levels, catalog([FREE_ABOVE, limited, base], [ABOVE, RETAIL]))
    async with settled_world(world_terms, valkey_url, sqlite_url) as core:
        for number in (1, 2):
            assert (await core.use(4 * MB, "x", endpoint_id=f"ep_{number}")).outcome is Outcome.CHARGED
        refused = await core.use(4 * MB, "x", endpoint_id="ep_3")
        assert (refused.reason, refused.refused_step) == (Reason.USAGE_LIMIT, 1)
        assert await stand(core, "", ENTERPRISE) == (8 * MB, 0)
        assert await counters(core, "ep_1") == []
        assert await counters(core, "", RESELLER) == []


async def test_versions_of_a_plan_count_on_but_not_in_another_unit(valkey_url, sqlite_url):
    limited = counting(10 * MB)
    tighter = replace(limited, key=("pln_counting", 2), counters=(CounterTerms("data", DATA, 5 * MB),))
    texts = replace(limited, key=("pln_counting", 3), counters=(CounterTerms("data", frozenset({SMS}), 5),))
    async with settled_world(terms(limited), valkey_url, sqlite_url) as core:
        await core.use(4 * MB, "a")
        for version in (tighter, texts):
            core.terms.catalog.plans[version.key] = version
        have = core.terms.endpoints[ENDPOINT]
        core.terms.change(replace(have, base=replace(assigned("base", limited), plan=tighter.key)))
        assert (await core.use(2 * MB, "b")).reason is Reason.USAGE_LIMIT
        assert (await core.use(MB, "c")).outcome is Outcome.CHARGED
        assert await stand(core) == (5 * MB, 0)
        core.terms.change(replace(have, base=replace(assigned("base", limited), plan=texts.key)))
        assert (await core.use(5, "d", service=SMS)).outcome is Outcome.CHARGED
        assert (await core.use(1, "e", service=SMS)).reason is Reason.USAGE_LIMIT
        assert await stand(core) == (5, 0)


async def test_addons_count_nothing(valkey_url, sqlite_url):
    limited = replace(addon("pln_x", MB), counters=(CounterTerms("data", DATA, 1),))
    base = plan("pln_flat", tariff_id="tar_above")
    async with settled_world(terms(base, (assigned("one", limited), limited)), valkey_url, sqlite_url) as core:
        assert (await core.use(4 * MB, "a")).outcome is Outcome.CHARGED
        assert await counters(core) == []


async def test_what_lacks_more_is_said_where_limit_and_balance_are_too_small(valkey_url, sqlite_url):
    base = counting(10 * MB, prepaid=True, tariff_id="", benefits=(Benefit("b1", DATA, 4 * MB, (), recurring=False),))
    async with settled_world(terms(base), valkey_url, sqlite_url) as core:
        assert (await core.use(12 * MB, "a")).reason is Reason.BALANCE_DEPLETED
        opened = await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.CREATE, 0, 0, 20 * MB))
        assert opened.grants[0].granted == 4 * MB


async def test_the_limit_is_announced_once_a_cycle(valkey_url, sqlite_url):
    async with settled_world(terms(counting(10 * MB)), valkey_url, sqlite_url) as core:
        for number in range(3):
            await core.use(5 * MB, f"a{number}", mode=OFFLINE)
        told = [each for each in await events(core) if each[0] == "counter.threshold_reached"]
        payload = {"holder_id": ENDPOINT, "endpoint_id": ENDPOINT, "plan_id": "pln_counting", "counter": "data"}
        (counter,) = await counters(core)
        assert told == [("counter.threshold_reached", counter.id, {**payload, "limit": 10 * MB})]
        assert len(await events(core, ENTERPRISE_CALLER, resource_id=counter.id)) == 1
        assert await events(core, STRANGER) == []
        core.clock.advance(DECEMBER_MS - NOW_MS)
        await core.use(20 * MB, "b", mode=OFFLINE, usage_time_ms=DECEMBER_MS)
        assert len(await events(core, type="counter.threshold_reached")) == 2


async def test_counters_are_for_those_who_see_the_balances(valkey_url, sqlite_url):
    async with settled_world(terms(counting(10 * MB)), valkey_url, sqlite_url) as core:
        of = Counters(core.kit, core.balances).of_owner
        assert len(await of(ENTERPRISE_CALLER, ENDPOINT, "")) == 1
        with pytest.raises(MeterlineError, match="NOT_FOUND"):
            await of(STRANGER, ENDPOINT, "")
        with pytest.raises(MeterlineError, match="one of the two"):
            await of(OPERATOR_CALLER, ENDPOINT, ENTERPRISE)


@pytest.mark.requirement("R316")
async def test_an_unlimited_subscription_needs_no_tariff_and_its_counter_may_block(valkey_url, sqlite_url):
    async with settled_world(terms(counting(2**44, tariff_id="", unlimited=True)), valkey_url, sqlite_url) as core:
        answer = await core.use(2**43, "a")
        assert (answer.outcome, answer.amounts[0]) == (Outcome.CHARGED, 0)
        await core.fold()
        books = Books(core.books, core.journal, core.terms)
        explained = await books.explain(OPERATOR_CALLER, read_usage_record_id(answer.usage_record_id), 0, "c")
        assert any("are free: the plan is a subscription without limits" in each for each in explained.sentences)
        assert (await core.use(2**43, "b")).outcome is Outcome.CHARGED
        assert (await core.use(1, "c")).reason is Reason.USAGE_LIMIT
        assert [balance.unit for balance in await balances(core)] == [Unit.MONEY]


async def test_a_fair_use_bundle_of_an_unlimited_subscription_slows_down(valkey_url, sqlite_url):
    fair = Benefit("b1", DATA, 10 * MB, (), recurring=True)
    base = plan("pln_fair", unlimited=True, throttles=True, benefits=(fair,))
    async with settled_world(terms(base), valkey_url, sqlite_url) as core:
        assert not (await core.use(10 * MB, "a")).throttled
        slow = await core.use(10 * MB, "b")
        assert (slow.outcome, slow.throttled) == (Outcome.CHARGED, True)


async def test_an_unlimited_subscription_with_a_tariff_that_is_not_in_force_yet_is_not_free(valkey_url, sqlite_url):
    later = plan("pln_later", tariff_id="tar_later", unlimited=True)
    world_terms = terms(later)
    world_terms.catalog.tariffs["tar_later"] = (tariff("tar_later", 1, effective_ms=DECEMBER_MS),)
    async with settled_world(world_terms, valkey_url, sqlite_url) as core:
        assert (await core.use(1, "a")).reason is Reason.NO_RATE


async def test_an_enquiry_says_the_price_whatever_the_limit(valkey_url, sqlite_url):
    async with settled_world(terms(counting(MB)), valkey_url, sqlite_url) as core:
        await core.use(MB, "a")
        asked = await Enquiries(core.kit).preview(OPERATOR_CALLER, event(2 * MB, "b"))
        assert (asked.reason, next(each.charge.amount for each in asked.steps)) == (Reason.NONE, 4_000)


async def test_ids_and_names_as_long_as_they_may_be_are_kept_by_postgresql(valkey_url, sqlite_url, postgres_url):
    name, plan_id = "n" * 100, f"pln_{'p' * 26}"
    enterprise, device = f"acc_{'e' * 26}", f"ep_{'d' * 26}"
    fair = Benefit("b" * 31, DATA, MB, (), recurring=True, roll_over_cycles=1)
    pool_plan = replace(
        plan(plan_id, pooled=True, tariff_id="tar_retail", benefits=(fair,), counters=(CounterTerms(name, DATA, 1),)),
        key=(plan_id, 1),
    )
    levels = [
        replace(each, id=enterprise, path=(*each.path[:-1], enterprise)) if each.id == ENTERPRISE else each
        for each in chain(given("e", FREE_ABOVE.key), given("r", FREE_ABOVE.key))
    ]
    have = replace(
        endpoint(replace(given("b", pool_plan.key), assigned_ms=NOW_MS)),
        id=device, account_id=enterprise, enterprise_id=enterprise,
    )  # fmt: skip
    terms_of_all = catalog([FREE_ABOVE, pool_plan], [ABOVE, RETAIL])
    terms_of_all.coverage[enterprise] = terms_of_all.coverage[ENTERPRISE]
    async with world(StillTerms([have], levels, terms_of_all), valkey_url, sqlite_url, postgres_url) as core:
        await core.use(1, "x", endpoint_id=device)
        core.clock.advance(NOVEMBER_MS - NOW_MS)
        await core.use(2, "y", endpoint_id=device, usage_time_ms=NOVEMBER_MS, mode=OFFLINE)
        await core.fold()
        listed = await core.balances.of_owner(OPERATOR_CALLER, "", enterprise)
        assert max(len(balance.id) for balance in listed) == 100
