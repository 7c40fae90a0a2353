"""Charging at every level, on real Valkey and a real journal."""

import asyncio
import itertools
from collections.abc import Iterable
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from services.common.errors import PermissionDeniedError, UnavailableError
from services.common.identity import AccountKind, Principal, Role
from services.common.money import Money
from services.rating.domain.decisions import SessionAction
from services.rating.domain.reasons import BalanceState, Outcome, Reason
from services.rating.domain.terms import Assignment, Benefit
from services.rating.usecases import cells
from services.rating.usecases.sessions import SessionCall, Units, session_id
from tests.integration.rating.world import NOW_MS, OPERATOR_CALLER, StillTerms, event, world
from tests.unit.rating.terms import (
    ENDPOINT,
    ENTERPRISE,
    EU,
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

DAY_MS = 86_400_000
PREPAID = plan("pln_prepaid", prepaid=True)
RETAIL = plan("pln_retail", tariff_id="tar_retail")
WHOLESALE = plan("pln_wholesale", tariff_id="tar_wholesale")
ADDON_A = addon("pln_a", 500 * MB, zones=("zon_eu",))
ADDON_B = addon("pln_b", 500 * MB, zones=("zon_eu",), on_usage=True, validity_ms=7 * DAY_MS)
ACCOUNT_ADDON = addon("pln_acc", GB, zones=("zon_eu",))
TARIFFS = [tariff("tar_retail", 2_000_000, "zon_eu"), tariff("tar_wholesale", 1_000_000, "zon_eu")]
CATALOG = catalog([PREPAID, RETAIL, WHOLESALE, ADDON_A, ADDON_B, ACCOUNT_ADDON], TARIFFS)
BASE = given("base", PREPAID.key)
A, B = given("a", ADDON_A.key, 1), given("b", ADDON_B.key, 2)
ENTERPRISE_CALLER = Principal("key_e", ENTERPRISE, AccountKind.ENTERPRISE, ("acc_o", RESELLER, ENTERPRISE), Role.ADMIN)
STRANGER = Principal("key_x", "acc_x", AccountKind.ENTERPRISE, ("acc_o", RESELLER, "acc_x"), Role.ADMIN)


def example() -> StillTerms:
    """The worked example of the model, section 6."""
    accounts = chain(
        given("e", RETAIL.key), given("r", WHOLESALE.key), given("acc", ACCOUNT_ADDON.key), limit=100_000_000
    )
    return StillTerms([endpoint(BASE, A, B)], accounts, CATALOG)


def session_call(ref: str, action: SessionAction, sequence: int, used: int, requested: int) -> SessionCall:
    units = [Units(1, used, requested)]
    digest = f"{action}{used}{requested}".encode()[:8].ljust(8)
    return SessionCall(session_id(ENDPOINT, ref), ref, action, sequence, ENDPOINT, EU, 3, units, 0, digest)


class ChangingTerms(StillTerms):
    """Whenever endpoints are loaded, something changes for all others: they are to be asked for anew."""

    async def load(self, endpoint_ids: Iterable[str]) -> set[str]:
        wanted = set(endpoint_ids)
        await asyncio.sleep(0)
        self._make()
        for name in self.known.keys() - wanted:
            del self.known[name]
        return wanted - self.known.keys()


async def test_no_endpoint_of_a_batch_is_unknown_because_another_had_to_be_loaded(valkey_url, sqlite_url):
    one = endpoint(BASE, A)
    two = replace(one, id="ep_2", addons=(given("a2", ADDON_A.key, 1),))
    accounts = chain(given("e", RETAIL.key), given("r", WHOLESALE.key))
    async with world(ChangingTerms([one, two], accounts, CATALOG), valkey_url, sqlite_url) as core:
        del core.terms.known["ep_2"]
        events = [event(MB, name, endpoint_id=name) for name in (ENDPOINT, "ep_2", ENDPOINT, "ep_unknown")]
        answers = await core.charging.charge(OPERATOR_CALLER, events)
        assert [(answer.outcome, answer.reason) for answer in answers] == [
            (Outcome.CHARGED, Reason.NONE),
            (Outcome.CHARGED, Reason.NONE),
            (Outcome.CHARGED, Reason.NONE),
            (Outcome.INVALID, Reason.ENDPOINT_NOT_FOUND),
        ]


@pytest.mark.requirement("R076", "R078", "R082", "R270", "R276", "R278", "R034")
async def test_the_worked_example_of_the_model(valkey_url, sqlite_url):
    async with world(example(), valkey_url, sqlite_url) as core:
        first = await core.use(700 * MB, "one")
        assert (first.outcome, first.amounts) == (Outcome.CHARGED, [0, 0, 700_000])
        assert await core.remaining() == [("asg_a", 0), ("asg_b", 300 * MB)]
        assert await core.remaining(ENTERPRISE) == [("asg_acc", 300 * MB)]
        b = (await core.cell.engine.holders([ENDPOINT]))[ENDPOINT].buckets[1]
        assert (b.state, b.activated_ms, b.expires_ms) == (BalanceState.ACTIVE, NOW_MS, NOW_MS + 7 * DAY_MS)
        assert (await core.cell.engine.holders([RESELLER]))[RESELLER].credit_used == 700_000

        granted = await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.CREATE, 0, 0, 400 * MB))
        assert (granted.grants[0].granted, granted.grants[0].final) == (300 * MB, True)
        assert granted.grants[0].reason is Reason.NO_VALID_ADDON
        ended = await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.RELEASE, 1, 300 * MB, 0))
        assert ended.grants[0].amounts == [0, 0, 300_000]
        assert await core.remaining(ENTERPRISE) == [("asg_acc", 0)]
        assert (await core.cell.engine.holders([RESELLER]))[RESELLER].credit_used == 1_000_000

        refused = await core.use(100 * MB, "two")
        assert (refused.outcome, refused.reason, refused.refused_step) == (Outcome.REFUSED, Reason.NO_VALID_ADDON, 0)
        elsewhere = await core.use(1, "three", network_id=ZA)
        assert (elsewhere.outcome, elsewhere.reason) == (Outcome.REFUSED, Reason.NO_VALID_ADDON)
        for outcome in await core.charged_in_journal():
            assert len({sum(step[:3]) for step in outcome[2]}) == 1  # equal volumes at every step


@pytest.mark.requirement("R035")
async def test_a_refusal_charges_nothing_at_any_step(valkey_url, sqlite_url):
    async with world(example(), valkey_url, sqlite_url) as core:
        refused = await core.use(1001 * MB, "too-much")
        assert refused.outcome is Outcome.REFUSED
        assert await core.remaining() == [("asg_a", 500 * MB), ("asg_b", 500 * MB)]
        assert await core.remaining(ENTERPRISE) == [("asg_acc", GB)]
        holders = await core.cell.engine.holders([RESELLER])
        assert holders[RESELLER].credit_used == 0


async def test_the_same_event_gets_the_same_answer_and_changes_nothing(valkey_url, sqlite_url):
    async with world(example(), valkey_url, sqlite_url) as core:
        first, refused = await core.use(100 * MB, "x"), await core.use(1001 * MB, "y")
        again, refused_again = await core.use(100 * MB, "x"), await core.use(1001 * MB, "y")
        assert (again.replayed, again.amounts, again.usage_record_id) == (True, first.amounts, first.usage_record_id)
        assert (refused_again.replayed, refused_again.reason) == (True, refused.reason)
        assert (await core.remaining())[0] == ("asg_a", 400 * MB)
        other = await core.use(200 * MB, "x")
        assert (other.outcome, other.reason) == (Outcome.INVALID, Reason.EVENT_ID_REUSED)


async def test_the_same_event_twice_in_a_batch_is_charged_once(valkey_url, sqlite_url):
    async with world(example(), valkey_url, sqlite_url) as core:
        one, two = await core.charging.charge(OPERATOR_CALLER, [event(MB, "x"), event(MB, "x")])
        assert (one.replayed, two.replayed) == (False, True)
        assert one.usage_record_id == two.usage_record_id
        assert len(await core.charged_in_journal()) == 1


BAD_EVENTS = [
    (event(0, "zero"), Reason.QUANTITY_OUT_OF_RANGE),
    (event(-5, "minus"), Reason.QUANTITY_OUT_OF_RANGE),
    (event(2**43 + 1, "huge"), Reason.QUANTITY_OUT_OF_RANGE),
    (event(1, "future", usage_time_ms=NOW_MS + 6 * 60_000), Reason.USAGE_TIME_IN_FUTURE),
    (event(1, "past", usage_time_ms=NOW_MS - 401 * DAY_MS), Reason.USAGE_TIME_TOO_OLD),
    (event(1, "nowhere", network_id="net_00000"), Reason.NETWORK_NOT_FOUND),
    (event(1, "nobody", endpoint_id="ep_2"), Reason.ENDPOINT_NOT_FOUND),
    (event(1, "with space"), Reason.FIELD_INVALID),
    (event(1, ""), Reason.FIELD_INVALID),
    (event(1, "no-service", service=0), Reason.FIELD_INVALID),
    (event(1, "voice", service=9), Reason.FIELD_INVALID),
    (event(1, "no-access", access_type=0), Reason.FIELD_INVALID),
]


async def test_one_bad_event_spoils_only_itself(valkey_url, sqlite_url):
    async with world(example(), valkey_url, sqlite_url) as core:
        answers = await core.charging.charge(OPERATOR_CALLER, [*(e for e, _ in BAD_EVENTS), event(MB, "good")])
        assert [(a.outcome, a.reason) for a in answers[:-1]] == [(Outcome.INVALID, reason) for _, reason in BAD_EVENTS]
        assert answers[-1].outcome is Outcome.CHARGED


async def test_an_event_by_itself_gets_the_answer_that_it_gets_in_a_batch(valkey_url, sqlite_url):
    old = event(MB, "old", usage_time_ms=NOW_MS - 3 * DAY_MS, mode=2)
    good = [
        event(MB, "a"),
        event(MB, "a"),
        event(2 * MB, "a"),
        event(3000 * MB, "more"),
        event(3000 * MB, "over", mode=2),
    ]
    asked = [*(bad for bad, _ in BAD_EVENTS), *good, old, event(1, "last")]
    found = []
    for way, caller in itertools.product(("one", "many"), (OPERATOR_CALLER, ENTERPRISE_CALLER, STRANGER)):
        name = sqlite_url.replace(".sqlite", f"{way}{caller.actor}.sqlite")
        async with world(example(), valkey_url, name) as core:
            await core.client.flushall()
            if way == "one":
                answers = [await core.charging.charge_one(caller, each) for each in asked]
            else:
                answers = [(await core.charging.charge(caller, [each]))[0] for each in asked]
            found.append([replace(answer, usage_record_id="") for answer in answers])
            assert len({answer.usage_record_id for answer in answers if answer.usage_record_id}) == (
                0 if caller is STRANGER else 5
            )
    assert found[:3] == found[3:]
    assert {answer.outcome for answer in found[0]} == set(Outcome)
    assert any(answer.replayed for answer in found[0])


async def test_an_event_by_itself_is_decided_by_terms_that_have_just_changed(valkey_url, sqlite_url):
    terms = example()
    async with world(terms, valkey_url, sqlite_url) as core:
        assert (await core.charging.charge_one(OPERATOR_CALLER, event(MB, "a"))).outcome is Outcome.CHARGED
        stale = StillTerms(list(terms.endpoints.values()), terms.accounts, terms.catalog)
        terms.change(replace(terms.endpoints[ENDPOINT], active=False))
        async with world(terms, valkey_url, sqlite_url) as other:  # tells the Function of the change
            refused = await other.charging.charge_one(OPERATOR_CALLER, event(MB, "b"))
            assert refused.reason is Reason.ENDPOINT_NOT_ACTIVE
            await other.use(MB, "c", mode=2)
        core.terms.become(stale)
        with pytest.raises(UnavailableError, match="TERMS_CHANGING"):
            await core.charging.charge_one(OPERATOR_CALLER, event(MB, "d"))
        core.terms.change(replace(terms.endpoints[ENDPOINT], active=False))
        assert (await core.charging.charge_one(OPERATOR_CALLER, event(MB, "d"))).reason is Reason.ENDPOINT_NOT_ACTIVE


async def test_only_those_who_may_charge_may_charge_one_event(valkey_url, sqlite_url):
    async with world(example(), valkey_url, sqlite_url) as core:
        with pytest.raises(PermissionDeniedError, match="ROLE_NOT_PERMITTED"):
            await core.charging.charge_one(replace(OPERATOR_CALLER, role=Role.VIEWER), event(MB, "a"))


@pytest.mark.requirement("R286", "R285")
async def test_a_caller_sees_only_its_own_steps_and_not_others_endpoints(valkey_url, sqlite_url):
    async with world(example(), valkey_url, sqlite_url) as core:
        own = await core.use(MB, "x", caller=ENTERPRISE_CALLER)
        assert own.amounts == [0, 0]  # its sale and its cost, not the reseller's cost
        assert (await core.use(MB, "y", caller=STRANGER)).reason is Reason.ENDPOINT_NOT_FOUND


@pytest.mark.requirement("R293", "R325", "R330")
async def test_prepaid_money_is_drawn_to_the_last_micro_and_never_below(valkey_url, sqlite_url):
    paygo = plan("pln_paygo", prepaid=True, tariff_id="tar_retail")
    terms = StillTerms(
        [endpoint(given("base", paygo.key))],
        chain(given("e", RETAIL.key), given("r", WHOLESALE.key)),
        catalog([paygo, RETAIL, WHOLESALE], TARIFFS),
    )
    async with world(terms, valkey_url, sqlite_url) as core:
        assert (await core.use(MB, "poor")).reason is Reason.BALANCE_DEPLETED
        balance = await core.balances.top_up(OPERATOR_CALLER, ENDPOINT, "", Money("EUR", 10_000), "t1")
        again = await core.balances.top_up(OPERATOR_CALLER, ENDPOINT, "", Money("EUR", 10_000), "t1")
        assert balance.remaining == again.remaining == 10_000
        assert (await core.use(5 * MB, "all")).amounts[0] == 10_000
        late = await core.use(5 * MB, "late", mode=2)
        assert (late.outcome, late.uncovered, late.amounts[0]) == (Outcome.CHARGED, 5 * MB, 0)
        assert (await core.use(1, "blocked")).reason is Reason.ENDPOINT_BLOCKED
        await core.balances.top_up(OPERATOR_CALLER, ENDPOINT, "", Money("EUR", 3_000), "t2")
        part = await core.use(2 * MB, "part", mode=2)
        assert (part.amounts[0], part.uncovered) == (3_000, 500_000)
        holder = (await core.cell.engine.holders([ENDPOINT]))[ENDPOINT]
        assert holder.money == 0


@pytest.mark.requirement("R185", "R186")
async def test_a_credit_limit_is_reached_exactly_and_can_be_raised(valkey_url, sqlite_url):
    accounts = chain(given("e", RETAIL.key), given("r", WHOLESALE.key), limit=1_000)
    postpaid = plan("pln_post", tariff_id="tar_retail")
    terms = StillTerms(
        [endpoint(given("base", postpaid.key))], accounts, catalog([postpaid, RETAIL, WHOLESALE], TARIFFS)
    )
    async with world(terms, valkey_url, sqlite_url) as core:
        assert (await core.use(MB, "fits")).amounts == [2_000, 2_000, 1_000]
        refused = await core.use(MB, "over")
        assert (refused.reason, refused.refused_step) == (Reason.CREDIT_LIMIT, 2)
        raised = chain(given("e", RETAIL.key), given("r", WHOLESALE.key), limit=2_000)
        from dataclasses import replace

        terms.change(chain=[raised[0], replace(raised[1], limit_version=2), raised[2]])
        assert (await core.use(MB, "over2")).outcome is Outcome.CHARGED


@pytest.mark.parametrize("step", ["bucket", "money", "credit"])
async def test_many_clients_for_exactly_some_units_exactly_that_many_pass(step, valkey_url, sqlite_url):
    free = plan("pln_free", tariff_id="tar_retail")
    paygo = plan("pln_paygo", prepaid=True, tariff_id="tar_retail")
    base, limit = (given("base", (paygo if step == "money" else free).key), 20_000 if step == "credit" else None)
    who = (
        endpoint(given("base", PREPAID.key), given("a", addon("pln_ten", 20 * MB).key))
        if step == "bucket"
        else endpoint(base)
    )
    terms = StillTerms(
        [who],
        chain(given("e", RETAIL.key), given("r", WHOLESALE.key), limit=limit),
        catalog([free, paygo, PREPAID, RETAIL, WHOLESALE, addon("pln_ten", 20 * MB)], TARIFFS),
    )
    async with world(terms, valkey_url, sqlite_url) as core:
        if step == "money":
            await core.balances.top_up(OPERATOR_CALLER, ENDPOINT, "", Money("EUR", 40_000), "t")
        answers = await asyncio.gather(*(core.use(MB, f"e{n}") for n in range(60)))
        assert sum(answer.outcome is Outcome.CHARGED for answer in answers) == 20


@pytest.mark.requirement("R074", "R075", "R086", "R090", "R092")
async def test_assignments_are_drawn_by_priority_then_end_then_id_and_removed_alone(valkey_url, sqlite_url):
    small = addon("pln_small", MB)
    names = [given("z", small.key, 2), given("y", small.key, 1), given("x", small.key, 1, expires_ms=NOW_MS + 5)]
    terms = StillTerms(
        [endpoint(BASE, *names)],
        chain(given("e", RETAIL.key), given("r", WHOLESALE.key)),
        catalog([PREPAID, RETAIL, WHOLESALE, small], TARIFFS),
    )
    async with world(terms, valkey_url, sqlite_url) as core:
        await core.use(MB + 1, "one")
        left = dict(await core.remaining())
        assert left == {"asg_x": 0, "asg_y": MB - 1, "asg_z": MB}
        terms.change(endpoint(BASE, names[0]))
        await core.use(1, "two")
        assert await core.remaining() == [("asg_z", MB - 1)]
        await core.fold()
        assert (await core.ledger.all_balances())["bal_y.b1"] == (ENDPOINT, 0)


@pytest.mark.requirement("R304", "R305")
async def test_what_is_left_expires_by_an_entry_in_the_ledger(valkey_url, sqlite_url):
    short = addon("pln_short", MB, validity_ms=1000)
    terms = StillTerms(
        [endpoint(BASE, given("s", short.key, expires_ms=1000))],
        chain(given("e", RETAIL.key), given("r", WHOLESALE.key)),
        catalog([PREPAID, RETAIL, WHOLESALE, short], TARIFFS),
    )
    async with world(terms, valkey_url, sqlite_url) as core:
        assert (await core.use(10, "in-time", usage_time_ms=999)).reason is Reason.USAGE_TIME_TOO_OLD
        refused = await core.use(10, "too-late")
        assert refused.reason is Reason.NO_VALID_ADDON
        await core.fold()
        assert (await core.ledger.all_balances())["bal_s.b1"] == (ENDPOINT, 0)
        moves = [m for content in await core.contents() for m in content.movements]
        assert [(m.kind, m.change) for m in moves if m.holder_id == ENDPOINT] == [(1, MB), (4, -MB)]


@pytest.mark.requirement("R317", "R318")
async def test_a_recurring_benefit_is_full_again_in_the_next_cycle(valkey_url, sqlite_url):
    from services.rating.domain.terms import Benefit

    monthly = plan("pln_month", prepaid=True, benefits=(Benefit("b1", frozenset({1}), MB, (), recurring=True),))
    from dataclasses import replace

    base = replace(given("base", monthly.key), assigned_ms=NOW_MS - 40 * DAY_MS)
    terms = StillTerms(
        [endpoint(base)],
        chain(given("e", RETAIL.key), given("r", WHOLESALE.key)),
        catalog([monthly, RETAIL, WHOLESALE], TARIFFS),
    )
    async with world(terms, valkey_url, sqlite_url) as core:
        assert (await core.use(MB, "september", usage_time_ms=NOW_MS - 12 * DAY_MS)).outcome is Outcome.CHARGED
        assert (await core.use(1, "spent", usage_time_ms=NOW_MS - 11 * DAY_MS)).outcome is Outcome.REFUSED
        assert (await core.use(MB, "october")).outcome is Outcome.CHARGED


async def test_a_session_reserves_reports_and_gives_back(valkey_url, sqlite_url):
    async with world(example(), valkey_url, sqlite_url) as core:
        opened = await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.CREATE, 0, 0, 300 * MB))
        assert opened.grants[0].granted == 300 * MB
        assert (await core.use(750 * MB, "rest")).reason is Reason.NO_VALID_ADDON  # 300 MB are held
        holder = (await core.cell.engine.holders([ENDPOINT]))[ENDPOINT]
        assert [(b.remaining, b.reserved) for b in holder.buckets] == [(500 * MB, 300 * MB), (500 * MB, 0)]
        update = session_call("s", SessionAction.UPDATE, 1, 100 * MB, 200 * MB)
        first, repeated = [await core.sessions.call(OPERATOR_CALLER, update) for _ in range(2)]
        assert (first.grants[0].granted, repeated.grants[0].granted) == (200 * MB, 200 * MB)
        assert (first.replayed, repeated.replayed) == (False, True)
        with pytest.raises(Exception, match="OUT_OF_SEQUENCE"):
            await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.UPDATE, 3, 1, 1))
        over = session_call("s", SessionAction.RELEASE, 2, 250 * MB, 0)  # more than was granted
        assert (await core.sessions.call(OPERATOR_CALLER, over)).grants[0].uncovered == 0
        holder = (await core.cell.engine.holders([ENDPOINT]))[ENDPOINT]
        assert [(b.remaining, b.reserved) for b in holder.buckets] == [(150 * MB, 0), (500 * MB, 0)]
        with pytest.raises(Exception, match="SESSION_CLOSED"):
            await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.UPDATE, 3, 0, 1))
        await core.fold()
        assert (
            sum([len(some.ids) async for some in core.ledger.standing(0, 0)]) == 3
        )  # two reports and one refused event


async def test_a_session_that_falls_silent_gives_its_reservation_back(valkey_url, sqlite_url):
    async with world(example(), valkey_url, sqlite_url) as core:
        await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.CREATE, 0, 0, 1000 * MB))
        assert (await core.use(1, "a")).outcome is Outcome.REFUSED
        core.clock.advance(31 * 60_000)
        assert (await core.use(1, "b")).outcome is Outcome.CHARGED
        name = session_id(ENDPOINT, "s")
        assert (await core.sessions.get(OPERATOR_CALLER, name)).state.name == "OPEN"  # it may go on


async def test_old_events_are_known_from_the_books(valkey_url, sqlite_url):
    async with world(example(), valkey_url, sqlite_url) as core:
        long_ago = NOW_MS - 30 * DAY_MS
        first = await core.use(MB, "old", usage_time_ms=long_ago)
        await core.fold()
        await core.client.delete(*[key async for key in core.client.scan_iter("*d:*")])  # the memory of ids is over
        again = await core.use(MB, "old", usage_time_ms=long_ago)
        assert (again.replayed, again.usage_record_id, again.amounts) == (True, first.usage_record_id, first.amounts)
        assert (await core.use(2 * MB, "old", usage_time_ms=long_ago)).reason is Reason.EVENT_ID_REUSED


async def test_an_old_event_waits_while_the_books_lag_more_than_ids_are_remembered(valkey_url, sqlite_url):
    """Else a repeat would be charged twice: its id is forgotten, and the books do not have it yet."""
    async with world(example(), valkey_url, sqlite_url) as core:
        old = event(MB, "old", usage_time_ms=NOW_MS - 2 * DAY_MS)
        first = (await core.charging.charge(OPERATOR_CALLER, [old]))[0]
        core.clock.advance(5 * DAY_MS)
        with pytest.raises(UnavailableError, match="BOOKS_BEHIND"):
            await core.charging.charge(OPERATOR_CALLER, [old])
        await core.fold()
        again = (await core.charging.charge(OPERATOR_CALLER, [old]))[0]
        assert (again.replayed, again.usage_record_id) == (True, first.usage_record_id)
        assert (await core.use(MB, "new", usage_time_ms=NOW_MS - 2 * DAY_MS)).outcome is Outcome.CHARGED


async def test_an_old_top_up_is_not_made_twice_while_the_books_lag(valkey_url, sqlite_url):
    async with world(example(), valkey_url, sqlite_url) as core:
        await core.balances.top_up(OPERATOR_CALLER, "", RESELLER, Money("EUR", 10**6), "once")
        core.clock.advance(5 * DAY_MS)
        await core.client.delete(*[key async for key in core.client.scan_iter("*d:*")])  # the memory of ids is over
        with pytest.raises(UnavailableError, match="BOOKS_BEHIND"):
            await core.balances.top_up(OPERATOR_CALLER, "", RESELLER, Money("EUR", 10**6), "once")
        await core.fold()
        balance = await core.balances.top_up(OPERATOR_CALLER, "", RESELLER, Money("EUR", 10**6), "once")
        assert balance.remaining == 10**6


async def test_nothing_is_charged_on_a_server_that_evicts(valkey_url, sqlite_url):
    async with world(example(), valkey_url, sqlite_url) as core:
        await core.client.config_set("maxmemory", 10**9)
        await core.client.config_set("maxmemory-policy", "volatile-lru")
        try:
            await core.client.function_flush()
            with pytest.raises(UnavailableError, match="VALKEY_EVICTS"):
                await core.use(MB, "a")
        finally:
            await core.client.config_set("maxmemory", 0)
            await core.client.config_set("maxmemory-policy", "noeviction")
        assert (await core.use(MB, "a")).outcome is Outcome.CHARGED


async def test_a_full_server_is_said_to_be_full_forgets_nothing_and_goes_on_with_more_memory(
    valkey_url, sqlite_url, monkeypatch
):
    monkeypatch.setattr(cells, "RETRY_SECONDS", 0.01)
    async with world(example(), valkey_url, sqlite_url) as core:
        before = await core.use(MB, "a")
        await core.client.config_set("maxmemory", 1)
        try:
            with pytest.raises(UnavailableError, match="The balance store is full"):
                await core.use(MB, "b")
        finally:
            await core.client.config_set("maxmemory", 0)
        assert await core.use(MB, "a") == replace(before, replayed=True)
        assert not (await core.use(MB, "b")).replayed


async def test_what_a_server_refuses_for_is_in_the_log_and_not_told_to_callers(valkey_url, sqlite_url, monkeypatch):
    monkeypatch.setattr(cells, "RETRY_SECONDS", 0.01)
    async with world(example(), valkey_url, sqlite_url) as core:
        await core.use(MB, "a")
        await core.client.config_set("min-replicas-to-write", 1)
        try:
            with capture_logs() as told, pytest.raises(UnavailableError, match="rating's log says why"):
                await core.use(MB, "b")
        finally:
            await core.client.config_set("min-replicas-to-write", 0)
        assert any("Not enough good replicas" in line["error"] for line in told if line["event"] == "valkey refuses")
        assert not (await core.use(MB, "b")).replayed


async def test_what_lacked_a_balance_above_the_endpoint_goes_on_when_there_is_one_there(valkey_url, sqlite_url):
    prepaid, free = plan("pln_pre", prepaid=True, tariff_id="tar_x"), plan("pln_f", tariff_id="tar_f")
    tariffs = [tariff("tar_x", 10**6), tariff("tar_f", 0)]
    of_all = catalog([prepaid, free], tariffs)
    still = StillTerms([endpoint(given("b", free.key))], chain(given("e", prepaid.key), given("r", free.key)), of_all)
    async with world(still, valkey_url, sqlite_url) as core:
        await core.balances.top_up(OPERATOR_CALLER, "", ENTERPRISE, Money("EUR", 10**6), "t1")
        assert (await core.use(2 * GB, "offline", mode=2)).uncovered == GB
        assert (await core.use(MB, "refused")).reason is Reason.ENDPOINT_BLOCKED
        await core.balances.top_up(OPERATOR_CALLER, "", ENTERPRISE, Money("EUR", 10**7), "t2")
        assert (await core.use(MB, "charged")).outcome is Outcome.CHARGED
        blocked = (await core.cell.engine.holders([ENDPOINT]))[ENDPOINT].blocked
        assert blocked == ""


async def test_a_service_that_is_covered_again_unblocks_no_other(valkey_url, sqlite_url):
    volumes = tuple(Benefit(f"b{n}", frozenset({n}), n * MB, (), recurring=True) for n in (1, 2))
    monthly, free = plan("pln_m", prepaid=True, benefits=volumes), plan("pln_f", tariff_id="tar_f")
    of_all = catalog([monthly, free], [tariff("tar_f", 0)])
    still = StillTerms([endpoint(given("b", monthly.key))], chain(given("e", free.key), given("r", free.key)), of_all)
    async with world(still, valkey_url, sqlite_url) as core:
        for service in (1, 2):
            used = await core.use(5 * MB, f"offline{service}", service=service, mode=2)
            assert used.uncovered == (5 - service) * MB
        assert (await core.cell.engine.holders([ENDPOINT]))[ENDPOINT].blocked == "12"
        core.clock.advance(40 * DAY_MS)
        later = core.clock.now_ms()
        refused = await core.use(2 * MB, "refused", usage_time_ms=later)
        assert (refused.outcome, refused.reason) == (Outcome.REFUSED, Reason.ENDPOINT_BLOCKED)
        assert (await core.use(2 * MB, "charged", service=2, usage_time_ms=later)).outcome is Outcome.CHARGED
        assert (await core.cell.engine.holders([ENDPOINT]))[ENDPOINT].blocked == "1"


async def test_a_raised_limit_and_benefits_of_money_beside_an_exceeded_one_are_enough(valkey_url, sqlite_url):
    paid, free = plan("pln_x", tariff_id="tar_x"), plan("pln_f", tariff_id="tar_f")
    cashback = addon("pln_w", 0, benefits=(Benefit("b1", frozenset({1}), 5 * 10**6, (), recurring=False, money=True),))
    links = chain(given("e", free.key), given("r", paid.key), limit=10**6)
    of_all = catalog([paid, free, cashback], [tariff("tar_x", 10**6), tariff("tar_f", 0)])
    still = StillTerms([endpoint(given("b", free.key))], links, of_all)
    async with world(still, valkey_url, sqlite_url) as core:

        def change(version: int, limit: int, *addons: Assignment) -> None:
            reseller = replace(
                links[1], credit_limit_micros=limit, limit_version=version, version=version, addons=addons
            )
            still.change(still.endpoints[ENDPOINT], chain=[links[0], reseller, links[2]])

        assert (await core.use(2 * GB, "offline", mode=2)).uncovered == GB
        assert (await core.use(MB, "refused")).reason is Reason.ENDPOINT_BLOCKED
        change(2, 3 * 10**6)
        assert (await core.use(2 * GB, "raised")).outcome is Outcome.CHARGED
        change(3, 10**6, given("w", cashback.key))  # 3 EUR are owed now
        assert (await core.use(GB, "cashback")).outcome is Outcome.CHARGED
        assert (await core.use(5 * GB, "more")).outcome is Outcome.REFUSED


async def test_a_new_cycle_is_enough_for_a_blocked_endpoint(valkey_url, sqlite_url):
    monthly = plan("pln_m", prepaid=True, benefits=(Benefit("b1", frozenset({1}), 10 * MB, (), recurring=True),))
    free = plan("pln_f", tariff_id="tar_f")
    of_all = catalog([monthly, free], [tariff("tar_f", 0)])
    still = StillTerms([endpoint(given("b", monthly.key))], chain(given("e", free.key), given("r", free.key)), of_all)
    async with world(still, valkey_url, sqlite_url) as core:
        assert (await core.use(11 * MB, "offline", mode=2)).uncovered == MB
        assert (await core.use(MB, "refused")).reason is Reason.ENDPOINT_BLOCKED
        core.clock.advance(40 * DAY_MS)
        assert (await core.use(MB, "new", usage_time_ms=core.clock.now_ms())).outcome is Outcome.CHARGED
