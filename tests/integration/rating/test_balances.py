"""Buckets that are filled again, shared, refilled and rolled over, on real Valkey and a real journal."""

import asyncio
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from services.common.clock import DAY_MS, HOUR_MS
from services.common.errors import FailedPreconditionError, MeterlineError
from services.common.money import Money
from services.common.pages import PageRequest
from services.rating.domain.balances import RenewOn, RollOverOrder, pool_id
from services.rating.domain.decisions import SessionAction
from services.rating.domain.reasons import BalanceState, MovementKind, Outcome, Reason, Unit
from services.rating.domain.terms import Assignment, Benefit, EndpointTerms, Every, PlanTerms, TimeBand
from services.rating.storage.happenings import Happenings as HappeningsStore
from services.rating.storage.tables import entries
from services.rating.usecases.balances import Balance
from services.rating.usecases.enquiring import Enquiries
from services.rating.usecases.happenings import Happenings, Wanted
from services.rating.usecases.refills import Refills
from tests.integration.rating.settling import settled_world
from tests.integration.rating.test_charging import ENTERPRISE_CALLER, STRANGER, session_call
from tests.integration.rating.world import NOW_MS, OPERATOR_CALLER, StillTerms, World, event
from tests.unit.rating.terms import (
    ENDPOINT,
    ENTERPRISE,
    GB,
    MB,
    RESELLER,
    ZA,
    addon,
    catalog,
    chain,
    endpoint,
    given,
    plan,
    tariff,
)

DATA = frozenset({1})
FREE_ABOVE = plan("pln_above", tariff_id="tar_above")
ABOVE = tariff("tar_above", 0)
RETAIL = tariff("tar_retail", 2_000_000)
PREPAID = plan("pln_prepaid", prepaid=True)
PAYG = plan("pln_payg", prepaid=True, tariff_id="tar_retail")
NOVEMBER_MS = 1_761_955_200_000  # 2025-11-01T00:00:00Z; billing cycles begin on the first, NOW_MS is 2025-10-09
DECEMBER_MS = 1_764_547_200_000
JANUARY_MS = 1_767_225_600_000


def assigned(name: str, of: PlanTerms, priority: int = 0, at_ms: int = NOW_MS, expires_ms: int = 0) -> Assignment:
    return replace(given(name, of.key, priority, expires_ms), assigned_ms=at_ms)


def terms(
    base: PlanTerms,
    *addons: tuple[Assignment, PlanTerms],
    accounts: tuple[tuple[Assignment, PlanTerms], ...] = (),
    endpoints: int = 1,
) -> StillTerms:
    """Endpoints with a base plan and add-ons, in a chain whose steps above cost nothing."""
    plans = {each.key: each for each in (FREE_ABOVE, base, *(p for _, p in addons), *(p for _, p in accounts))}
    levels = chain(given("e", FREE_ABOVE.key), given("r", FREE_ABOVE.key), *(a for a, _ in accounts))
    everyone = [_having(n, base, [a for a, _ in addons]) for n in range(1, endpoints + 1)]
    return StillTerms(everyone, levels, catalog(list(plans.values()), [ABOVE, RETAIL]))


def _having(number: int, base: PlanTerms, addons: list[Assignment]) -> EndpointTerms:
    """An endpoint with assignments of its own."""
    tail = "" if number == 1 else f"x{number}"
    own = [replace(each, id=f"{each.id}{tail}") for each in (assigned("base", base), *addons)]
    return replace(endpoint(own[0], *own[1:]), id=f"ep_{number}")


async def balances(core: World, endpoint_id: str = ENDPOINT, account_id: str = "") -> list[Balance]:
    return list(await core.balances.of_owner(OPERATOR_CALLER, endpoint_id, account_id))


async def movements(core: World, balance: str) -> list[tuple[MovementKind, int]]:
    """Kinds and changes of the ledger entries of a balance, oldest first."""
    await core.fold()
    query = entries.select().where(entries.c.balance_id == balance).order_by(entries.c.sequence, entries.c.number)
    async with core.ledger.database.reading() as connection:
        return [(MovementKind(row.kind), row.change) for row in await connection.execute(query)]


async def events(core: World, caller=OPERATOR_CALLER, **wanted: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Type, thing and payload of what happened, oldest first."""
    await core.fold()
    happenings = Happenings(HappeningsStore(core.ledger.database), core.terms)
    found = await happenings.list(caller, Wanted(**wanted), PageRequest(1000))
    return [(event.type, event.resource_id, dict(event.payload)) for event in reversed(found.rows)]


async def kinds(core: World, **wanted: str) -> list[str]:
    return [kind for kind, _, _ in await events(core, **wanted)]


GRANT, DRAW, EXPIRY = MovementKind.GRANT, MovementKind.DRAW, MovementKind.EXPIRY


# --- money ----------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("R076")
async def test_money_that_came_with_an_addon_pays_before_the_main_balance(valkey_url, sqlite_url):
    credit = addon("pln_credit", 0, benefits=(Benefit("b1", DATA, 1_000_000, (), recurring=False, money=True),))
    async with settled_world(terms(PAYG, (assigned("m", credit), credit)), valkey_url, sqlite_url) as core:
        assert (await core.use(300 * MB, "a")).amounts == [0, 0, 0]  # 0.60 EUR, all of it from the add-on
        first = (await balances(core))[0]
        assert (first.unit, first.currency, first.remaining) == (Unit.MONEY, "EUR", 400_000)
        refused = await core.use(300 * MB, "b")
        assert (refused.outcome, refused.reason) == (Outcome.REFUSED, Reason.BALANCE_DEPLETED)
        await core.balances.top_up(OPERATOR_CALLER, ENDPOINT, "", Money("EUR", 1_000_000), "r1")
        assert (await core.use(300 * MB, "c")).amounts == [200_000, 0, 0]
        left = await balances(core)
        assert [balance.remaining for balance in left] == [0, 800_000]
        assert (await movements(core, "bal_m.b1"))[1:] == [(DRAW, -600_000), (DRAW, -400_000)]


async def test_money_of_another_currency_pays_nothing(valkey_url, sqlite_url):
    credit = addon(
        "pln_credit", 0, currency="USD", benefits=(Benefit("b1", DATA, 10**9, (), recurring=False, money=True),)
    )
    async with settled_world(terms(PAYG, (assigned("m", credit), credit)), valkey_url, sqlite_url) as core:
        assert (await core.use(MB, "a")).reason is Reason.BALANCE_DEPLETED
        assert (await balances(core))[0].remaining == 10**9


async def test_money_is_reserved_by_sessions_and_given_back(valkey_url, sqlite_url):
    credit = addon("pln_credit", 0, benefits=(Benefit("b1", DATA, 1_000_000, (), recurring=False, money=True),))
    async with settled_world(terms(PAYG, (assigned("m", credit), credit)), valkey_url, sqlite_url) as core:
        granted = await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.CREATE, 0, 0, GB))
        assert (granted.grants[0].granted, granted.grants[0].final) == (500 * MB, True)
        assert next((b.remaining, b.reserved) for b in await balances(core)) == (1_000_000, 1_000_000)
        await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.RELEASE, 1, 200 * MB, 0))
        assert next((b.remaining, b.reserved) for b in await balances(core)) == (600_000, 0)


# --- by id ---------------------------------------------------------------------------------------------------------


async def test_a_balance_that_the_list_shows_is_found_by_its_id_at_once(valkey_url, sqlite_url):
    async with settled_world(terms(BUNDLE), valkey_url, sqlite_url) as core:
        (shown, _) = await balances(core)
        found, _ = await asyncio.gather(core.balances.get(ENTERPRISE_CALLER, shown.id), core.fold())
        assert found == shown
        with pytest.raises(MeterlineError, match="BALANCE_NOT_FOUND"):
            await core.balances.get(OPERATOR_CALLER, "bal_base.b9")


async def test_whether_there_is_a_balance_is_not_said_while_the_books_stand_still(valkey_url, sqlite_url, monkeypatch):
    monkeypatch.setattr("services.rating.usecases.balances.FOLD_LOOK_SECONDS", 0)
    async with settled_world(terms(BUNDLE), valkey_url, sqlite_url) as core:
        (shown, _) = await balances(core)
        with pytest.raises(MeterlineError, match="BOOKS_BEHIND"):
            await core.balances.get(OPERATOR_CALLER, shown.id)


# --- pools ----------------------------------------------------------------------------------------------------------


def pooled(quantity: int = 10 * MB, **fields: object) -> PlanTerms:
    return addon("pln_pool", quantity, pooled=True, **fields)


@pytest.mark.requirement("R313", "R074")
async def test_endpoints_share_exactly_what_the_pool_holds(valkey_url, sqlite_url):
    shared = pooled()
    world_terms = terms(PREPAID, accounts=((assigned("pool", shared), shared),), endpoints=25)
    async with settled_world(world_terms, valkey_url, sqlite_url) as core:
        answers = await asyncio.gather(*(core.use(MB, "x", endpoint_id=f"ep_{n}") for n in range(1, 26)))
        assert [a.outcome for a in answers].count(Outcome.CHARGED) == 10
        assert {a.reason for a in answers if a.outcome is Outcome.REFUSED} == {Reason.NO_VALID_ADDON}
        (pool, *_) = await balances(core, "", ENTERPRISE)
        assert (pool.pool_id, pool.remaining, pool.state) == (pool_id(ENTERPRISE), 0, BalanceState.DEPLETED)
        assert (pool.account_id, pool.endpoint_id) == (ENTERPRISE, "")
        assert await movements(core, "bal_pool.b1") == [(GRANT, 10 * MB), *[(DRAW, -MB)] * 10]
        assert (await core.balances.get(ENTERPRISE_CALLER, "bal_pool.b1")).remaining == 0
        with pytest.raises(MeterlineError, match="NOT_FOUND"):
            await core.balances.get(STRANGER, "bal_pool.b1")


@pytest.mark.requirement("R076", "R066")
async def test_a_pool_is_drawn_after_own_addons_and_before_base_benefits(valkey_url, sqlite_url):
    shared, own = pooled(), addon("pln_own", 5 * MB)
    base = plan("pln_b", prepaid=True, benefits=(Benefit("b1", DATA, 20 * MB, (), recurring=False),))
    world_terms = terms(base, (assigned("own", own, 9), own), accounts=((assigned("pool", shared), shared),))
    async with settled_world(world_terms, valkey_url, sqlite_url) as core:
        await core.use(17 * MB, "x")
        assert [(b.assignment_id, b.remaining) for b in (await balances(core))[:2]] == [
            ("asg_own", 0),
            ("asg_base", 18 * MB),
        ]
        assert (await balances(core, "", ENTERPRISE))[0].remaining == 0


async def test_terms_of_a_pool_that_never_arrived_are_told_again(valkey_url, sqlite_url):
    """They are noted as told when they are about to be: what is lost on the way must not stay lost."""
    shared = pooled()
    world_terms = terms(PREPAID, accounts=((assigned("pool", shared), shared),))
    async with settled_world(world_terms, valkey_url, sqlite_url) as core:
        await core.use(MB, "x")
        enterprise, *above = core.terms.accounts
        core.terms.change(chain=[replace(enterprise, version=enterprise.version + 1), *above])
        core.cell.holders.of_pool(core.terms.accounts[0], core.terms.catalog)  # and the call is lost
        assert (await core.use(MB, "y")).outcome is Outcome.CHARGED
        core.cell.holders.forget_all()
        core.terms.change(chain=[replace(enterprise, version=enterprise.version + 2), *above])
        core.cell.holders.of_pool(core.terms.accounts[0], core.terms.catalog)
        asked = await Enquiries(core.kit).preview(OPERATOR_CALLER, event(MB, "z"))
        assert asked.reason is Reason.NONE


async def test_a_pool_is_refunded_and_adjusted_as_any_balance(valkey_url, sqlite_url):
    shared = pooled()
    world_terms = terms(PREPAID, accounts=((assigned("pool", shared), shared),))
    async with settled_world(world_terms, valkey_url, sqlite_url) as core:
        used = await core.use(8 * MB, "x")
        await core.fold()
        await core.refunds.refund(OPERATOR_CALLER, used.usage_record_id, 3 * MB, reason="test", request_id="r1")
        assert (await balances(core, "", ENTERPRISE))[0].remaining == 5 * MB
        await core.corrections.adjust(
            OPERATOR_CALLER, "bal_pool.b1", -MB, credit_used=False, reason="test", request_id="a1"
        )
        assert await movements(core, "bal_pool.b1") == [
            (GRANT, 10 * MB), (DRAW, -8 * MB), (MovementKind.REFUND, 3 * MB), (MovementKind.ADJUSTMENT, -MB)
        ]  # fmt: skip


async def test_a_pool_is_not_drawn_at_the_accounts_own_step_and_reservations_are_its_own(valkey_url, sqlite_url):
    shared = pooled(GB)
    world_terms = terms(PREPAID, accounts=((assigned("pool", shared), shared),), endpoints=2)
    async with settled_world(world_terms, valkey_url, sqlite_url) as core:
        opened = await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.CREATE, 0, 0, 600 * MB))
        assert opened.grants[0].granted == 600 * MB
        assert (await core.use(500 * MB, "x", endpoint_id="ep_2")).outcome is Outcome.REFUSED
        assert (await core.use(400 * MB, "y", endpoint_id="ep_2")).outcome is Outcome.CHARGED
        await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.RELEASE, 1, 100 * MB, 0))
        (pool, _) = await balances(core, "", ENTERPRISE)
        assert (pool.remaining, pool.reserved) == (500 * MB, 0)


# --- recurring add-ons ----------------------------------------------------------------------------------------------


def weekly(quantity: int = 10 * MB, on: RenewOn = RenewOn.EXPIRY, most: int = 0, **fields: object) -> PlanTerms:
    return addon(
        "pln_weekly", quantity, **{"renew_on": on, "subscriptions_max": most, "validity_ms": 7 * DAY_MS, **fields}
    )


async def test_a_recurring_addon_begins_anew_where_it_ended(valkey_url, sqlite_url):
    again = weekly(most=3)
    async with settled_world(terms(PREPAID, (assigned("w", again), again)), valkey_url, sqlite_url) as core:
        await core.use(4 * MB, "a")
        core.clock.advance(8 * DAY_MS)
        assert (await core.use(7 * MB, "b", usage_time_ms=core.clock.now_ms())).outcome is Outcome.CHARGED
        (now, _) = await balances(core)
        assert (now.remaining, now.occurrence, now.expires_ms) == (3 * MB, 2, NOW_MS + 14 * DAY_MS)  # no gap
        expected = [(GRANT, 10 * MB), (DRAW, -4 * MB), (EXPIRY, -6 * MB), (GRANT, 10 * MB), (DRAW, -7 * MB)]
        assert await movements(core, "bal_w.b1") == expected
        core.clock.advance(13 * DAY_MS)  # the third ends in this moment
        last = await core.use(MB, "c", usage_time_ms=core.clock.now_ms())
        assert (last.outcome, last.reason) == (Outcome.REFUSED, Reason.NO_VALID_ADDON)
        (ended, _) = await balances(core)
        assert (ended.state, ended.occurrence, ended.remaining) == (BalanceState.EXPIRED, 3, 0)


async def test_subscriptions_that_nobody_looked_at_count_and_are_gone(valkey_url, sqlite_url):
    again = weekly(most=5)
    async with settled_world(terms(PREPAID, (assigned("w", again), again)), valkey_url, sqlite_url) as core:
        await core.use(MB, "a")
        core.clock.advance(30 * DAY_MS)  # in the fifth week
        (now, _) = await balances(core)
        assert (now.remaining, now.occurrence, now.expires_ms) == (10 * MB, 5, NOW_MS + 35 * DAY_MS)
        assert await movements(core, "bal_w.b1") == [
            (GRANT, 10 * MB), (DRAW, -MB), (EXPIRY, -9 * MB), (GRANT, 10 * MB)
        ]  # fmt: skip
        core.clock.advance(5 * DAY_MS)
        assert (await balances(core))[0].state is BalanceState.EXPIRED


async def test_an_exhausted_addon_goes_on_in_its_next_subscription_within_one_event(valkey_url, sqlite_url):
    again = weekly(on=RenewOn.EXPIRY_OR_EXHAUSTION, most=3)
    async with settled_world(terms(PREPAID, (assigned("w", again), again)), valkey_url, sqlite_url) as core:
        core.clock.advance(2 * DAY_MS)
        at = core.clock.now_ms()
        assert (await core.use(25 * MB, "a", usage_time_ms=at)).outcome is Outcome.CHARGED
        (now, _) = await balances(core)
        assert (now.remaining, now.occurrence, now.expires_ms) == (5 * MB, 3, at + 7 * DAY_MS)
        refused = await core.use(6 * MB, "b", usage_time_ms=at)
        assert (refused.outcome, refused.reason) == (Outcome.REFUSED, Reason.NO_VALID_ADDON)
        assert (await core.use(5 * MB, "c", usage_time_ms=at)).outcome is Outcome.CHARGED
        assert await movements(core, "bal_w.b1") == [
            (GRANT, 10 * MB), (GRANT, 20 * MB), (DRAW, -25 * MB), (DRAW, -5 * MB)
        ]  # fmt: skip
        assert await kinds(core, type="addon.renewed") == ["addon.renewed"]


async def test_exactly_as_many_pass_as_all_subscriptions_hold(valkey_url, sqlite_url):
    again = weekly(quantity=3 * MB, on=RenewOn.EXPIRY_OR_EXHAUSTION, most=4)
    async with settled_world(terms(PREPAID, (assigned("w", again), again)), valkey_url, sqlite_url) as core:
        answers = await asyncio.gather(*(core.use(MB, f"e{n}") for n in range(30)))
        assert [a.outcome for a in answers].count(Outcome.CHARGED) == 12


async def test_a_session_reserves_from_the_next_subscription(valkey_url, sqlite_url):
    again = weekly(on=RenewOn.EXPIRY_OR_EXHAUSTION, most=2)
    async with settled_world(terms(PREPAID, (assigned("w", again), again)), valkey_url, sqlite_url) as core:
        opened = await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.CREATE, 0, 0, 30 * MB))
        assert (opened.grants[0].granted, opened.grants[0].final) == (20 * MB, True)
        (now, _) = await balances(core)
        assert (now.remaining, now.reserved, now.occurrence) == (20 * MB, 20 * MB, 2)
        await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.RELEASE, 1, 12 * MB, 0))
        assert next((b.remaining, b.reserved) for b in await balances(core)) == (8 * MB, 0)


@pytest.mark.requirement("R078")
async def test_a_recurring_addon_on_usage_waits_for_its_first_use(valkey_url, sqlite_url):
    again = weekly(on_usage=True, most=2)
    async with settled_world(terms(PREPAID, (assigned("w", again), again)), valkey_url, sqlite_url) as core:
        core.clock.advance(100 * DAY_MS)
        await core.use(MB, "a", usage_time_ms=core.clock.now_ms())
        (now, _) = await balances(core)
        assert (now.occurrence, now.expires_ms) == (1, core.clock.now_ms() + 7 * DAY_MS)
        core.clock.advance(9 * DAY_MS)
        assert next((b.occurrence, b.remaining) for b in await balances(core)) == (2, 10 * MB)


async def test_the_first_use_begins_the_validity_of_all_that_a_waiting_addon_brings(valkey_url, sqlite_url):
    """It goes before an add-on that still waits, whichever of its benefits was used first."""
    data, messages = (
        Benefit(name, frozenset({service}), 10, (), recurring=False) for name, service in [("b1", 1), ("b2", 2)]
    )
    both = plan("pln_both", addon=True, on_usage=True, validity_ms=HOUR_MS, benefits=(data, messages))
    mine = plan("pln_mine", addon=True, on_usage=True, validity_ms=HOUR_MS, benefits=(messages,))
    given = terms(PREPAID, (assigned("both", both, priority=2), both), (assigned("mine", mine, priority=1), mine))
    async with settled_world(given, valkey_url, sqlite_url) as core:
        await core.use(1, "data")
        found = {each.id: each for each in await balances(core)}
        for name in ("bal_both.b1", "bal_both.b2"):
            assert (found[name].state, found[name].expires_ms) == (BalanceState.ACTIVE, NOW_MS + HOUR_MS)
        await core.use(1, "message", service=2)
        assert [kind for kind in await kinds(core) if kind == "addon.activated"] == ["addon.activated"]
        assert await movements(core, "bal_both.b2") == [(GRANT, 10), (DRAW, -1)]
        core.clock.advance(HOUR_MS)
        over = await core.use(10, "late-message", service=2, usage_time_ms=core.clock.now_ms())
        assert (over.outcome, await movements(core, "bal_mine.b2")) == (Outcome.CHARGED, [(GRANT, 10), (DRAW, -10)])
        last = await core.use(1, "none-left", service=2, usage_time_ms=core.clock.now_ms())
        assert (last.outcome, last.reason) == (Outcome.REFUSED, Reason.NO_VALID_ADDON)


async def test_a_waiting_addon_ends_after_its_validity_whatever_else_was_given_while_it_waited(valkey_url, sqlite_url):
    again, other = weekly(on_usage=True, most=2), addon("pln_other", MB)
    given_terms = terms(PREPAID, (assigned("w", again), again), (assigned("o", other, 1), other))
    waiting = given_terms.endpoints[ENDPOINT]

    async def waits(core: World) -> Balance:
        return next(b for b in await balances(core) if b.assignment_id == "asg_w")

    async with settled_world(given_terms, valkey_url, sqlite_url) as core:
        core.terms.change(replace(waiting, addons=waiting.addons[:1]))
        await waits(core)
        core.terms.change(waiting)
        assert (await waits(core)).state is BalanceState.PENDING
        await core.use(MB + 1, "a")
        core.terms.change(replace(waiting, addons=waiting.addons[:1]))
        core.clock.advance(6 * DAY_MS)
        first = await waits(core)
        assert (first.expires_ms, first.occurrence) == (NOW_MS + 7 * DAY_MS, 1)
        core.clock.advance(2 * DAY_MS)
        second = await waits(core)
        assert (second.expires_ms, second.occurrence) == (NOW_MS + 14 * DAY_MS, 2)


async def test_the_first_use_of_a_waiting_addon_may_need_several_subscriptions(valkey_url, sqlite_url):
    again = weekly(on_usage=True, on=RenewOn.EXPIRY_OR_EXHAUSTION, most=3)
    async with settled_world(terms(PREPAID, (assigned("w", again), again)), valkey_url, sqlite_url) as core:
        call = partial(core.sessions.call, OPERATOR_CALLER)
        opened = await call(session_call("s", SessionAction.CREATE, 0, 0, 15 * MB))
        assert opened.grants[0].granted == 15 * MB
        (now, _) = await balances(core)
        waiting = (BalanceState.PENDING, 20 * MB, 15 * MB, 2, 0)
        assert (now.state, now.remaining, now.reserved, now.occurrence, now.expires_ms) == waiting
        await call(session_call("s", SessionAction.RELEASE, 1, 0, 0))
        core.clock.advance(3 * DAY_MS)
        at = core.clock.now_ms()
        assert (await core.use(25 * MB, "a", usage_time_ms=at)).outcome is Outcome.CHARGED
        (now, _) = await balances(core)
        assert (now.state, now.remaining, now.occurrence, now.expires_ms) == (
            BalanceState.ACTIVE, 5 * MB, 3, at + 7 * DAY_MS
        )  # fmt: skip
        assert (await core.use(6 * MB, "b", usage_time_ms=at)).outcome is Outcome.REFUSED


async def test_the_end_of_the_assignment_ends_all_subscriptions(valkey_url, sqlite_url):
    again = weekly()
    until = NOW_MS + 10 * DAY_MS
    async with settled_world(
        terms(PREPAID, (assigned("w", again, expires_ms=until), again)), valkey_url, sqlite_url
    ) as core:
        core.clock.advance(8 * DAY_MS)
        assert next((b.occurrence, b.expires_ms) for b in await balances(core)) == (2, until)
        core.clock.advance(3 * DAY_MS)
        assert (await balances(core))[0].state is BalanceState.EXPIRED


@pytest.mark.parametrize("moved_ms", [0, NOW_MS + 60 * DAY_MS])
@pytest.mark.parametrize("days", [0, 8], ids=["first", "second"])
async def test_when_an_assignment_ends_later_its_subscription_lasts_as_long_as_it_would_have(
    days, moved_ms, valkey_url, sqlite_url
):
    again, until = weekly(most=2), NOW_MS + (days + 2) * DAY_MS
    given_terms = terms(PREPAID, (assigned("w", again, expires_ms=until), again))
    async with settled_world(given_terms, valkey_url, sqlite_url) as core:
        core.clock.advance(days * DAY_MS)
        await core.use(MB, "a", usage_time_ms=core.clock.now_ms())
        assert (await balances(core))[0].expires_ms == until
        known = given_terms.endpoints[ENDPOINT]
        given_terms.change(replace(known, addons=(replace(known.addons[0], expires_ms=moved_ms),)))
        await core.use(MB, "b", usage_time_ms=core.clock.now_ms())
        now = (await balances(core))[0]
        number = 2 if days else 1
        assert (now.remaining, now.occurrence, now.expires_ms) == (8 * MB, number, NOW_MS + number * 7 * DAY_MS)


@pytest.mark.parametrize("moved_ms", [0, NOW_MS + 60 * DAY_MS])
async def test_what_waits_for_its_first_use_waits_as_long_as_its_assignment(moved_ms, valkey_url, sqlite_url):
    again = weekly(on_usage=True)
    given_terms = terms(PREPAID, (assigned("w", again, expires_ms=NOW_MS + 2 * DAY_MS), again))
    async with settled_world(given_terms, valkey_url, sqlite_url) as core:
        await balances(core)
        known = given_terms.endpoints[ENDPOINT]
        given_terms.change(replace(known, addons=(replace(known.addons[0], expires_ms=moved_ms),)))
        assert (await balances(core))[0].expires_ms == moved_ms
        core.clock.advance(3 * DAY_MS)
        assert (await core.use(MB, "a", usage_time_ms=core.clock.now_ms())).outcome is Outcome.CHARGED
        assert (await balances(core))[0].expires_ms == NOW_MS + 10 * DAY_MS


# --- refills --------------------------------------------------------------------------------------------------------

BUNDLE = plan(
    "pln_bundle",
    prepaid=True,
    refillable=True,
    validity_ms=365 * DAY_MS,
    benefits=(Benefit("b1", DATA, GB, (), recurring=False),),
)


async def refill(core: World, quantity: int, request_id: str, days: int = 365, most: int = 0, caller=OPERATOR_CALLER):
    refills = Refills(core.kit, core.balances)
    return await refills.refill(caller, "bal_base.b1", quantity, days * DAY_MS, most, request_id)


@pytest.mark.requirement("R293", "R294", "R296", "R304", "R306")
async def test_a_refill_extends_the_validity_of_all_that_is_there(valkey_url, sqlite_url):
    async with settled_world(terms(BUNDLE), valkey_url, sqlite_url) as core:
        await core.use(900 * MB, "a")
        assert next((b.remaining, b.expires_ms) for b in await balances(core)) == (100 * MB, NOW_MS + 365 * DAY_MS)
        core.clock.advance(100 * DAY_MS)
        await core.fold()
        refilled = await refill(core, GB, "r1")
        assert (refilled.remaining, refilled.expires_ms) == (GB + 100 * MB, core.clock.now_ms() + 365 * DAY_MS)
        short = await refill(core, MB, "r2", days=1)
        assert short.expires_ms == refilled.expires_ms  # never shortens
        core.clock.advance(364 * DAY_MS)
        assert (await core.use(MB, "b", usage_time_ms=core.clock.now_ms())).outcome is Outcome.CHARGED


@pytest.mark.requirement("R305")
async def test_what_was_not_refilled_in_time_is_lost_and_a_refill_starts_anew(valkey_url, sqlite_url):
    async with settled_world(terms(BUNDLE), valkey_url, sqlite_url) as core:
        await core.use(400 * MB, "a")
        await core.fold()
        core.clock.advance(365 * DAY_MS)
        late = await core.use(MB, "b", usage_time_ms=core.clock.now_ms())
        assert (late.outcome, late.reason) == (Outcome.REFUSED, Reason.BALANCE_DEPLETED)
        anew = await refill(core, 200 * MB, "r1", days=30)
        assert (anew.remaining, anew.expires_ms) == (200 * MB, core.clock.now_ms() + 30 * DAY_MS)
        assert await movements(core, "bal_base.b1") == [
            (GRANT, GB), (DRAW, -400 * MB), (EXPIRY, -600 * MB), (MovementKind.REFILL, 200 * MB)
        ]  # fmt: skip


async def test_a_refill_over_the_maximum_is_forfeited_with_an_entry(valkey_url, sqlite_url):
    async with settled_world(terms(BUNDLE), valkey_url, sqlite_url) as core:
        await core.use(MB, "a")
        await core.fold()
        full = await refill(core, GB, "r1", most=1500 * MB)
        assert full.remaining == 1500 * MB
        assert (await movements(core, "bal_base.b1"))[-2:] == [
            (MovementKind.REFILL, GB),
            (MovementKind.REFILL, -499 * MB),
        ]


async def test_a_refill_happens_once_for_a_request_id_and_is_audited(valkey_url, sqlite_url):
    async with settled_world(terms(BUNDLE), valkey_url, sqlite_url) as core:
        await core.use(MB, "a")
        await core.fold()
        await asyncio.gather(*(refill(core, GB, "r1") for _ in range(10)))
        assert (await balances(core))[0].remaining == 2 * GB - MB
        await core.fold()
        await refill(core, GB, "r1")
        assert (await balances(core))[0].remaining == 2 * GB - MB
        with pytest.raises(MeterlineError, match="REQUEST_ID_REUSED"):
            await refill(core, 2 * GB, "r1")
        from services.rating.storage.tables import audit

        async with core.ledger.database.reading() as connection:
            (entry,) = (await connection.execute(audit.select())).all()
        assert (entry.request_id, entry.resource_id, entry.method) == (
            "r1", "bal_base.b1", "meterline.rating.v1.BalanceService/RefillBalance"
        )  # fmt: skip
        assert (entry.before, entry.after) == (
            {"remaining": GB - MB}, {"remaining": 2 * GB - MB, "added": GB}
        )  # fmt: skip


async def test_only_bundles_are_refilled_by_those_who_see_them(valkey_url, sqlite_url):
    other = addon("pln_other", GB)
    async with settled_world(terms(BUNDLE, (assigned("o", other), other)), valkey_url, sqlite_url) as core:
        await core.use(MB, "a")
        await core.fold()
        refills = Refills(core.kit, core.balances)
        with pytest.raises(FailedPreconditionError, match="NOT_REFILLABLE"):
            await refills.refill(OPERATOR_CALLER, "bal_o.b1", GB, 0, 0, "r1")
        with pytest.raises(MeterlineError, match="NOT_FOUND"):
            await refill(core, GB, "r2", caller=STRANGER)


async def test_a_refill_unblocks_the_endpoint(valkey_url, sqlite_url):
    async with settled_world(terms(BUNDLE), valkey_url, sqlite_url) as core:
        await core.use(2 * GB, "a", mode=2)
        assert (await core.use(1, "b")).reason is Reason.ENDPOINT_BLOCKED
        await core.fold()
        await refill(core, GB, "r1")
        assert (await core.use(1, "c")).outcome is Outcome.CHARGED
        assert await kinds(core, endpoint_id=ENDPOINT) == [
            "balance.threshold_reached", "balance.depleted", "endpoint.blocked", "endpoint.unblocked"
        ]  # fmt: skip


# --- cycles, roll-over, proration -----------------------------------------------------------------------------------


def monthly(quantity: int = 100 * MB, rolls: int = 0, **fields: object) -> PlanTerms:
    benefit = Benefit("b1", DATA, quantity, (), recurring=True, roll_over_cycles=rolls)
    return plan("pln_monthly", **{"prepaid": True, "benefits": (benefit,), **fields})


async def use_at(core: World, at_ms: int, quantity: int, name: str) -> Outcome:
    core.clock.advance(at_ms - core.clock.now_ms())
    return (await core.use(quantity, name, usage_time_ms=at_ms)).outcome


@pytest.mark.requirement("R317", "R318")
async def test_without_roll_over_a_rest_ends_with_its_cycle(valkey_url, sqlite_url):
    async with settled_world(terms(monthly()), valkey_url, sqlite_url) as core:
        await core.use(30 * MB, "a")
        assert await use_at(core, NOVEMBER_MS, 10 * MB, "b") is Outcome.CHARGED
        assert await movements(core, "bal_base.b1") == [
            (GRANT, 100 * MB), (DRAW, -30 * MB), (EXPIRY, -70 * MB), (GRANT, 100 * MB), (DRAW, -10 * MB)
        ]  # fmt: skip


async def test_a_rest_rolls_over_is_drawn_first_and_ends(valkey_url, sqlite_url):
    async with settled_world(terms(monthly(rolls=2)), valkey_url, sqlite_url) as core:
        await core.use(30 * MB, "a")
        rest = f"bal_base.b1~{NOVEMBER_MS // 1000}"
        assert await use_at(core, NOVEMBER_MS + 1, 50 * MB, "b") is Outcome.CHARGED
        first = await balances(core)
        assert [(b.id, b.remaining, b.expires_ms) for b in first[:2]] == [
            (rest, 20 * MB, JANUARY_MS),
            ("bal_base.b1", 100 * MB, DECEMBER_MS),
        ]
        assert first[0].benefit_id == "b1"
        assert await use_at(core, DECEMBER_MS, 10 * MB, "c") is Outcome.CHARGED
        second = f"bal_base.b1~{DECEMBER_MS // 1000}"
        assert [(b.id, b.remaining) for b in (await balances(core))[:3]] == [
            (rest, 10 * MB), (second, 100 * MB), ("bal_base.b1", 100 * MB)
        ]  # fmt: skip
        assert await use_at(core, JANUARY_MS, 101 * MB, "d") is Outcome.CHARGED
        rolled = MovementKind.ROLL_OVER
        assert await movements(core, rest) == [
            (rolled, 70 * MB), (DRAW, -50 * MB), (DRAW, -10 * MB), (EXPIRY, -10 * MB)
        ]  # fmt: skip
        ended = [(b.id, b.remaining) for b in await balances(core) if b.state is BalanceState.EXPIRED]
        assert ended == [(rest, 0)]
        assert [b.remaining for b in (await balances(core))[1:4]] == [0, 99 * MB, 100 * MB]


@pytest.mark.parametrize(
    ("order", "left"),
    [
        (RollOverOrder.OLDEST_FIRST, {"oct": 0, "nov": 70, "dec": 100}),
        (RollOverOrder.NEWEST_FIRST, {"nov": 0, "oct": 70, "dec": 100}),
        (RollOverOrder.PRESENT_FIRST, {"dec": 0, "oct": 70, "nov": 100}),
    ],
)
async def test_rests_are_drawn_in_the_order_of_their_plan(order, left, valkey_url, sqlite_url):
    benefit = Benefit("b1", DATA, 100 * MB, (), recurring=True, roll_over_cycles=3, roll_over_order=order)
    async with settled_world(terms(monthly(benefits=(benefit,))), valkey_url, sqlite_url) as core:
        core.clock.advance(DECEMBER_MS - core.clock.now_ms())
        assert (await core.use(130 * MB, "a", usage_time_ms=DECEMBER_MS)).outcome is Outcome.CHARGED
        names = {
            f"bal_base.b1~{NOVEMBER_MS // 1000}": "oct", f"bal_base.b1~{DECEMBER_MS // 1000}": "nov", "bal_base.b1": "dec"
        }  # fmt: skip
        found = {names[b.id]: b.remaining // MB for b in await balances(core) if b.id in names}
        assert list(found.items()) == list(left.items())  # in the order of consumption


async def test_cycles_that_nobody_looked_at_roll_over_too_and_rests_are_bounded(valkey_url, sqlite_url):
    async with settled_world(terms(monthly(rolls=2)), valkey_url, sqlite_url) as core:
        await core.use(30 * MB, "a")
        core.clock.advance(400 * DAY_MS)
        found = await balances(core)
        assert [b.remaining for b in found[:-1]] == [100 * MB, 100 * MB, 100 * MB]
        assert (await core.use(300 * MB, "b", usage_time_ms=core.clock.now_ms())).outcome is Outcome.CHARGED
        core.clock.advance(40 * DAY_MS)
        there = [b for b in (await balances(core))[:-1] if b.state is not BalanceState.EXPIRED]
        assert [b.remaining for b in there] == [0, 100 * MB]  # a refund may still fill the first


@pytest.mark.parametrize("looks", [True, False], ids=["at each", "at the last"])
async def test_rests_together_hold_no_more_than_their_plan_says(looks, valkey_url, sqlite_url):
    benefit = Benefit("b1", DATA, 100 * MB, (), recurring=True, roll_over_cycles=2, roll_over_maximum=120 * MB)
    async with settled_world(terms(monthly(benefits=(benefit,))), valkey_url, sqlite_url) as core:
        await core.use(30 * MB, "a")
        for boundary_ms in (NOVEMBER_MS, DECEMBER_MS) if looks else (DECEMBER_MS,):
            core.clock.advance(boundary_ms - core.clock.now_ms())
            await balances(core)
        assert [b.remaining // MB for b in (await balances(core))[:3]] == [20, 100, 100]
        assert await use_at(core, DECEMBER_MS, 10 * MB, "b") is Outcome.CHARGED
        assert await use_at(core, JANUARY_MS, 1 * MB, "c") is Outcome.CHARGED
        there = [b for b in await balances(core) if b.state is not BalanceState.EXPIRED]
        assert [b.remaining // MB for b in there[:3]] == [19, 100, 100]
        october, november = (f"bal_base.b1~{end_ms // 1000}" for end_ms in (NOVEMBER_MS, DECEMBER_MS))
        rolled = MovementKind.ROLL_OVER
        assert await movements(core, october) == [
            (rolled, 70 * MB), (EXPIRY, -50 * MB), (DRAW, -10 * MB), (EXPIRY, -10 * MB)
        ]  # fmt: skip
        assert await movements(core, november) == [(rolled, 100 * MB), (EXPIRY, -80 * MB), (DRAW, -1 * MB)]


@pytest.mark.parametrize("payer", ["endpoint", "account"])
async def test_a_bundle_of_the_night_is_not_for_the_day(payer, valkey_url, sqlite_url):
    night = Benefit("b1", DATA, 100 * MB, (), recurring=False, bands=(TimeBand(frozenset(), 22 * 60, 6 * 60),))
    bundle = plan("pln_night", addon=True, benefits=(night,), pooled=payer == "account")
    has = (assigned("n", bundle), bundle)
    known = terms(PREPAID, has) if payer == "endpoint" else terms(PREPAID, accounts=(has,))
    async with settled_world(known, valkey_url, sqlite_url) as core:
        found = [
            await use_at(core, NOVEMBER_MS + minutes * 60_000, 10 * MB, f"u{minutes}")
            for minutes in (-121, -120, 359, 360, 22 * 60 - 1, 22 * 60)
        ]
        charged, refused = Outcome.CHARGED, Outcome.REFUSED
        assert found == [refused, charged, charged, refused, refused, charged]
        owner = {"account_id": ENTERPRISE, "endpoint_id": ""} if payer == "account" else {}
        assert [b.remaining // MB for b in (await balances(core, **owner))[:1]] == [70]


async def test_sessions_keep_their_reservation_over_a_boundary(valkey_url, sqlite_url):
    async with settled_world(terms(monthly(rolls=1)), valkey_url, sqlite_url) as core:
        core.clock.advance(NOVEMBER_MS - 1000 - NOW_MS)
        opened = await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.CREATE, 0, 0, 60 * MB))
        assert opened.grants[0].granted == 60 * MB
        assert await use_at(core, NOVEMBER_MS, 50 * MB, "a") is Outcome.CHARGED
        assert [(b.remaining, b.reserved) for b in (await balances(core))[:2]] == [(50 * MB, 0), (100 * MB, 60 * MB)]
        await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.RELEASE, 1, 60 * MB, 0))
        assert [(b.remaining, b.reserved) for b in (await balances(core))[:2]] == [(0, 0), (90 * MB, 0)]


def quota(every: Every, quantity: int = 100 * MB, rolls: int = 0) -> PlanTerms:
    benefit = Benefit("b1", DATA, quantity, (), recurring=True, roll_over_cycles=rolls, every=every)
    return plan("pln_quota", prepaid=True, benefits=(benefit,))


async def test_a_daily_quota_is_full_again_at_midnight_of_the_account(valkey_url, sqlite_url):
    """Also on the day of 25 hours, 26 October 2025 in Brussels; no job runs at night."""
    known = terms(quota(Every.DAY))
    known.accounts = tuple(replace(each, time_zone="Europe/Brussels") for each in known.accounts)
    known.change()
    async with settled_world(known, valkey_url, sqlite_url) as core:
        saturday_ms = 1_761_429_599_000  # 2025-10-25, 23:59:59 in Brussels
        assert await use_at(core, saturday_ms, 100 * MB, "a") is Outcome.CHARGED
        assert (await core.use(1, "b", usage_time_ms=saturday_ms)).outcome is Outcome.REFUSED
        assert await use_at(core, saturday_ms + 1000, 60 * MB, "c") is Outcome.CHARGED
        assert await use_at(core, saturday_ms + 25 * HOUR_MS, 40 * MB, "d") is Outcome.CHARGED
        assert (await core.use(1, "e", usage_time_ms=saturday_ms + 25 * HOUR_MS)).outcome is Outcome.REFUSED
        assert await use_at(core, saturday_ms + 25 * HOUR_MS + 1000, 100 * MB, "f") is Outcome.CHARGED
        (left, _) = await balances(core)
        assert (left.expires_ms, left.remaining) == (saturday_ms + 49 * HOUR_MS + 1000, 0)


async def test_a_weekly_quota_begins_on_mondays_and_a_rest_lives_on_for_a_week(valkey_url, sqlite_url):
    async with settled_world(terms(quota(Every.WEEK, rolls=1)), valkey_url, sqlite_url) as core:
        sunday_ms = 1_761_523_199_000  # 2025-10-26, 23:59:59
        assert await use_at(core, sunday_ms, 30 * MB, "a") is Outcome.CHARGED
        assert await use_at(core, sunday_ms + 1000, 50 * MB, "b") is Outcome.CHARGED
        found = [(b.remaining // MB, b.expires_ms - sunday_ms - 1000) for b in await balances(core) if b.benefit_id]
        assert found == [(0, 0), (50, 7 * DAY_MS), (100, 7 * DAY_MS)]  # the first is what the week before had left


@pytest.mark.parametrize("every", [Every.DAY, Every.WEEK])
@pytest.mark.parametrize("rolls", [0, 3])
async def test_quotas_are_told_their_days_in_time(every, rolls, valkey_url, sqlite_url):
    """While they are used each day, and after they slept for long; a rest lives on as long as it should, and no longer."""
    async with settled_world(terms(quota(every, rolls=rolls)), valkey_url, sqlite_url) as core:
        for day in [*[1] * 20, 11, 90, 1, 400, *[7] * 6]:
            core.clock.advance(day * DAY_MS)
            answer = await core.use(MB, f"d{core.clock.now_ms()}", usage_time_ms=core.clock.now_ms())
            assert answer.outcome is Outcome.CHARGED, core.clock.now_ms()
        core.clock.advance((rolls + 3) * (DAY_MS if every is Every.DAY else 7 * DAY_MS))
        there = [b for b in await balances(core) if b.benefit_id and b.state is not BalanceState.EXPIRED]
        assert [b.remaining // MB for b in there] == [100] * (rolls + 1)


@pytest.mark.parametrize("rolls", [0, 12])
async def test_a_monthly_bucket_lives_on_for_years(rolls, valkey_url, sqlite_url):
    async with settled_world(terms(monthly(rolls=rolls)), valkey_url, sqlite_url) as core:
        await core.use(MB, "a")
        core.clock.advance(3 * 365 * DAY_MS)
        now = core.clock.now_ms()
        assert (await core.use(100 * MB, "b", usage_time_ms=now)).outcome is Outcome.CHARGED
        found = await balances(core)
        assert len(found) == 1 + 1 + rolls
        for year in range(4):
            core.clock.advance(200 * DAY_MS)
            answer = await core.use(100 * MB, f"y{year}", usage_time_ms=core.clock.now_ms())
            assert answer.outcome is Outcome.CHARGED


async def test_a_busy_endpoint_is_told_its_cycles_in_time(valkey_url, sqlite_url):
    """The configuration never changes, the process never restarts, and the bucket is drawn in each of forty months."""
    async with settled_world(terms(monthly()), valkey_url, sqlite_url) as core:
        for month in range(40):
            core.clock.advance(31 * DAY_MS)
            answer = await core.use(100 * MB, f"m{month}", usage_time_ms=core.clock.now_ms())
            assert answer.outcome is Outcome.CHARGED, month


@pytest.mark.requirement("R290")
async def test_the_first_cycle_is_prorated_and_the_next_is_whole(valkey_url, sqlite_url):
    async with settled_world(terms(monthly(quantity=1000, prorated=True)), valkey_url, sqlite_url) as core:
        (first, _) = await balances(core)
        began = 1_759_276_800_000  # 2025-10-01T00:00:00Z
        assert first.remaining == 1000 * (NOVEMBER_MS - NOW_MS) // (NOVEMBER_MS - began) == 729
        assert (await core.use(730, "a")).outcome is Outcome.REFUSED
        assert await use_at(core, NOVEMBER_MS, 1000, "b") is Outcome.CHARGED


# --- throttling -----------------------------------------------------------------------------------------------------


async def test_what_throttles_goes_on_at_no_price_and_flagged_when_used_up(valkey_url, sqlite_url):
    slow = monthly(10 * MB, throttles=True)
    async with settled_world(terms(slow), valkey_url, sqlite_url) as core:
        fast = await core.use(10 * MB, "a")
        assert (fast.outcome, fast.throttled) == (Outcome.CHARGED, False)
        slowed = await core.use(5 * MB, "b")
        assert (slowed.outcome, slowed.throttled, slowed.amounts) == (Outcome.CHARGED, True, [0, 0, 0])
        opened = await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.CREATE, 0, 0, MB))
        assert (opened.grants[0].granted, opened.grants[0].throttled, opened.grants[0].final) == (MB, True, False)
        await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.RELEASE, 1, 0, 0))


async def test_where_nothing_could_be_used_up_nothing_is_throttled(valkey_url, sqlite_url):
    only_eu = monthly(10 * MB, throttles=True, zones=("zon_eu",))
    async with settled_world(terms(only_eu), valkey_url, sqlite_url) as core:
        refused = await core.use(MB, "a", network_id=ZA)
        assert (refused.outcome, refused.reason) == (Outcome.REFUSED, Reason.NO_VALID_ADDON)


# --- events ---------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("R084", "R060")
async def test_each_crossing_is_an_event_once(valkey_url, sqlite_url):
    noisy = addon("pln_noisy", 10 * MB, shares=(50, 90), on_usage=True, validity_ms=7 * DAY_MS)
    async with settled_world(terms(PREPAID, (assigned("n", noisy), noisy)), valkey_url, sqlite_url) as core:
        for name in "abcdefghij":
            await core.use(MB, name)
            await core.use(MB, name)  # again
        found = await events(core, resource_id="bal_n.b1")
        assert [(kind, payload.get("threshold_percent")) for kind, _, payload in found] == [
            ("addon.activated", None),
            ("balance.threshold_reached", 50),
            ("balance.threshold_reached", 90),
            ("balance.depleted", None),
        ]
        assert found[0][2] == {
            "holder_id": ENDPOINT,
            "assignment_id": "asg_n",
            "endpoint_id": ENDPOINT,
            "expire_time_ms": NOW_MS + 7 * DAY_MS,
        }


async def test_many_at_once_cross_a_threshold_once_and_activate_once(valkey_url, sqlite_url):
    once = addon("pln_once", 50 * MB, on_usage=True)
    async with settled_world(terms(PREPAID, (assigned("o", once), once)), valkey_url, sqlite_url) as core:
        await asyncio.gather(*(core.use(MB, f"e{n}") for n in range(60)))
        assert await kinds(core) == ["addon.activated", "balance.threshold_reached", "balance.depleted"]


async def test_a_fold_that_begins_again_writes_no_event_twice(valkey_url, sqlite_url, monkeypatch):
    async with settled_world(
        terms(PREPAID, (assigned("a", addon("pln_a", MB)), addon("pln_a", MB))), valkey_url, sqlite_url
    ) as core:
        await core.use(MB, "a")
        post: Any = core.ledger._post

        def crash(*arguments: Any) -> None:
            post(*arguments)
            raise RuntimeError("crash before the commit")

        with monkeypatch.context() as patched:
            patched.setattr(core.ledger, "_post", crash)
            with pytest.raises(RuntimeError, match="crash"):
                await core.fold()
        assert await kinds(core) == ["balance.threshold_reached", "balance.depleted"]
        await core.fold()
        assert len(await kinds(core)) == 2


async def test_expiry_is_an_event_with_what_was_lost(valkey_url, sqlite_url):
    short = addon("pln_short", 10 * MB, validity_ms=DAY_MS)
    who = (assigned("s", short, expires_ms=NOW_MS + DAY_MS), short)
    async with settled_world(terms(PREPAID, who), valkey_url, sqlite_url) as core:
        await core.use(MB, "a")
        core.clock.advance(2 * DAY_MS)
        assert (await balances(core))[0].remaining == 0
        await balances(core)
        ((kind, thing, payload),) = await events(core, type="balance.expired")
        assert (kind, thing, payload["forfeited"]) == ("balance.expired", "bal_s.b1", 9 * MB)


@pytest.mark.requirement("R286")
async def test_events_are_seen_by_the_owner_and_above_only(valkey_url, sqlite_url):
    shared, own = pooled(MB), addon("pln_acc", 2 * MB)
    accounts = ((assigned("pool", shared), shared), (assigned("own", own), own))
    async with settled_world(terms(PREPAID, accounts=accounts), valkey_url, sqlite_url) as core:
        core.terms.catalog.plans[FREE_ABOVE.key] = FREE_ABOVE
        reseller_addon = assigned("res", own)
        await core.use(MB, "a")
        assert reseller_addon.id == "asg_res"
        types = {(kind, thing) for kind, thing, _ in await events(core)}
        assert types == {("balance.threshold_reached", "bal_pool.b1"), ("balance.depleted", "bal_pool.b1")}
        assert len(await events(core, ENTERPRISE_CALLER)) == 2
        assert await events(core, STRANGER) == []
        assert await events(core, account_id=RESELLER) == []
        assert len(await events(core, account_id=ENTERPRISE)) == 2


# --- kinds of plans [004] -------------------------------------------------------------------------------------------


@pytest.mark.requirement("R316")
async def test_an_unlimited_subscription_costs_nothing_more_and_never_ends(valkey_url, sqlite_url):
    async with settled_world(terms(plan("pln_flat", tariff_id="tar_above")), valkey_url, sqlite_url) as core:
        for n in range(5):
            answer = await core.use(2**43, f"e{n}")
            assert (answer.outcome, answer.amounts[0], answer.throttled) == (Outcome.CHARGED, 0, False)


@pytest.mark.requirement("R317", "R319", "R320", "R066")
async def test_use_above_a_monthly_bundle_is_charged(valkey_url, sqlite_url):
    bundle = monthly(100 * MB, prepaid=False, tariff_id="tar_retail")
    async with settled_world(terms(bundle), valkey_url, sqlite_url) as core:
        assert (await core.use(100 * MB, "a")).amounts[0] == 0
        assert (await core.use(10 * MB, "b")).amounts[0] == 20_000
        assert await use_at(core, NOVEMBER_MS, 100 * MB, "c") is Outcome.CHARGED
        assert (await balances(core))[0].remaining == 0


async def test_a_refund_goes_back_into_a_rest_that_was_used_up_and_has_not_ended(valkey_url, sqlite_url):
    monthly = Benefit("b1", frozenset({1}), 10 * MB, (), recurring=True, roll_over_cycles=2)
    base = plan("pln_b", prepaid=True, benefits=(monthly,))
    async with settled_world(terms(base), valkey_url, sqlite_url) as core:
        core.clock.at_ms = NOVEMBER_MS + 1
        used = await core.use(
            10 * MB, "a", usage_time_ms=core.clock.now_ms()
        )  # all of October's rest; it ends in January
        core.clock.at_ms = DECEMBER_MS + 1
        await balances(core)
        await core.fold()
        refund = await core.refunds.refund(OPERATOR_CALLER, used.usage_record_id, 0, reason="outage", request_id="r")
        assert (refund.steps[0].balances[0].restored, refund.steps[0].balances[0].lapsed) == (10 * MB, 0)
        core.clock.at_ms = JANUARY_MS + 1
        await core.use(1, "b", usage_time_ms=core.clock.now_ms())
        assert sorted(b.remaining for b in await balances(core) if b.remaining) == [10 * MB - 1, 10 * MB, 10 * MB]


@pytest.mark.parametrize("ends_ms", [0, NOW_MS + DAY_MS, NOW_MS + 60 * DAY_MS])
async def test_a_cycle_ends_with_its_assignment_also_when_that_end_was_moved(ends_ms, valkey_url, sqlite_url):
    monthly = addon("pln_r", 0, benefits=(Benefit("b1", frozenset({1}), 10 * MB, (), recurring=True),))
    for number, moved_ms in enumerate((0, NOW_MS + DAY_MS, NOW_MS + 2 * DAY_MS, NOW_MS + 90 * DAY_MS)):
        given_terms = terms(PREPAID, (assigned("m", monthly, expires_ms=ends_ms), monthly))
        async with settled_world(given_terms, valkey_url, sqlite_url.replace(".sqlite", f"{number}.sqlite")) as core:
            await core.client.flushall()
            await core.use(9 * MB, "a")
            known = given_terms.endpoints[ENDPOINT]
            given_terms.change(replace(known, addons=(replace(known.addons[0], expires_ms=moved_ms),)))
            await core.use(1, "b")
            bucket = next(each for each in await balances(core) if each.granted)
            assert (bucket.remaining, bucket.expires_ms) == (MB - 1, min(moved_ms or NOVEMBER_MS, NOVEMBER_MS))
            core.clock.advance(3 * DAY_MS)
            after = await core.use(2 * MB, "c", usage_time_ms=core.clock.now_ms())
            assert after.outcome is Outcome.REFUSED


async def test_an_end_that_was_moved_before_it_came_does_not_end_the_cycle_though_nobody_looked(valkey_url, sqlite_url):
    monthly = addon("pln_r", 0, benefits=(Benefit("b1", frozenset({1}), 10 * MB, (), recurring=True),))
    given_terms = terms(PREPAID, (assigned("m", monthly, expires_ms=NOW_MS + DAY_MS), monthly))
    async with settled_world(given_terms, valkey_url, sqlite_url) as core:
        await core.use(9 * MB, "a")
        known = given_terms.endpoints[ENDPOINT]
        given_terms.change(replace(known, addons=(replace(known.addons[0], expires_ms=NOW_MS + 60 * DAY_MS),)))
        core.clock.advance(2 * DAY_MS)
        now_ms = core.clock.now_ms()
        assert (await core.use(2 * MB, "b", usage_time_ms=now_ms)).outcome is Outcome.REFUSED
        assert (await core.use(MB, "c", usage_time_ms=now_ms)).outcome is Outcome.CHARGED


@pytest.mark.parametrize(
    ("moved", "ends"),
    [
        ({"priority": 5}, 7),
        ({"expires_ms": NOW_MS + 90 * DAY_MS}, 90),
        ({"expires_ms": 0}, 7),
        ({"expires_ms": NOW_MS + 4 * DAY_MS}, 4),
    ],
)
async def test_what_is_valid_from_its_first_use_keeps_its_end_unless_that_is_moved_since(
    moved, ends, valkey_url, sqlite_url
):
    once = addon("pln_o", 10 * MB, on_usage=True, validity_ms=7 * DAY_MS)
    given_terms = terms(PREPAID, (assigned("o", once, expires_ms=NOW_MS + 60 * DAY_MS), once))
    async with settled_world(given_terms, valkey_url, sqlite_url) as core:
        await core.use(MB, "a")
        known = given_terms.endpoints[ENDPOINT]
        given_terms.change(replace(known, addons=(replace(known.addons[0], **moved),)))
        for again in range(2):
            await core.use(MB, f"b{again}")
            assert (await balances(core))[0].expires_ms == NOW_MS + ends * DAY_MS
            known = given_terms.endpoints[ENDPOINT]
            given_terms.change(replace(known, addons=(replace(known.addons[0], priority=6 + again),)))
        core.clock.advance(ends * DAY_MS)
        assert (await core.use(MB, "c", usage_time_ms=core.clock.now_ms())).outcome is Outcome.REFUSED


async def test_what_is_valid_from_its_first_use_is_not_filled_anew_after_that(valkey_url, sqlite_url):
    benefit = Benefit("b1", frozenset({1}), 10 * MB, (), recurring=True)
    monthly = addon("pln_r", 0, benefits=(benefit,), on_usage=True, validity_ms=30 * DAY_MS)
    given_terms = terms(PREPAID, (assigned("m", monthly), monthly))
    async with settled_world(given_terms, valkey_url, sqlite_url) as core:
        core.clock.advance(3 * DAY_MS)
        began = core.clock.now_ms()
        assert (await core.use(MB, "a", usage_time_ms=began)).outcome is Outcome.CHARGED
        known = given_terms.endpoints[ENDPOINT]
        given_terms.change(replace(known, addons=(replace(known.addons[0], priority=7),)))
        core.clock.advance(20 * DAY_MS)
        assert (await core.use(2 * MB, "b", usage_time_ms=core.clock.now_ms())).outcome is Outcome.CHARGED
        (now, _) = await balances(core)
        assert (now.remaining, now.expires_ms) == (8 * MB, began + 30 * DAY_MS), "a new cycle, up to the last day"
        core.clock.advance(10 * DAY_MS)
        late = await core.use(MB, "c", usage_time_ms=core.clock.now_ms())
        assert (late.outcome, late.reason) == (Outcome.REFUSED, Reason.NO_VALID_ADDON)
        assert (await balances(core))[0].state is BalanceState.EXPIRED
