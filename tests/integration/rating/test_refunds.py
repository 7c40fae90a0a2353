"""Refunds: back to where it came from, at every step at once, never more than was charged, one of two wins."""

import asyncio
import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.common.errors import AlreadyExistsError, FailedPreconditionError, MeterlineError, NotFoundError
from services.common.identity import AccountKind, Principal, Role
from services.common.money import Money
from services.common.pages import PageRequest
from services.rating.domain.decisions import Actor, ConfigureOp, SessionAction, Status
from services.rating.domain.operations import ChargedStep, RefundOp, Request
from services.rating.domain.reasons import MovementKind, Outcome, Reason
from services.rating.domain.records import read_refund_id, read_usage_record_id
from services.rating.domain.terms import Benefit
from services.rating.engine.driver import Engine
from services.rating.usecases.books import Books, Selection
from services.rating.usecases.refunds import Refund, RefundSelection
from services.runtime.valkey import connect
from tests.integration.rating.test_charging import (
    DAY_MS,
    ENTERPRISE_CALLER,
    RETAIL,
    STRANGER,
    TARIFFS,
    WHOLESALE,
    example,
    session_call,
)
from tests.integration.rating.world import NOW_MS, OPERATOR_CALLER, StillTerms, World, world
from tests.unit.rating.terms import ENDPOINT, ENTERPRISE, GB, MB, RESELLER, addon, catalog, chain, endpoint, plan
from tests.unit.rating.terms import given as assigned

RESELLER_CALLER = Principal("key_r", RESELLER, AccountKind.RESELLER, ("acc_o", RESELLER), Role.ADMIN)
NOBODY = Actor("test", "acc_t", "acc_t/", "acc_t")
_numbers = itertools.count()


def paid() -> StillTerms:
    """Money at every step: the endpoint prepaid, the enterprise without limit, the reseller with one."""
    paygo = plan("pln_paygo", prepaid=True, tariff_id="tar_retail")
    return StillTerms(
        [endpoint(assigned("base", paygo.key))],
        chain(assigned("e", RETAIL.key), assigned("r", WHOLESALE.key), limit=GB),
        catalog([paygo, RETAIL, WHOLESALE], TARIFFS),
    )


async def refund(
    core: World, record: str, quantity: int = 0, caller: Principal = OPERATOR_CALLER, **fields: Any
) -> Refund:
    fields = {"reason": "outage", "request_id": f"r{next(_numbers)}", **fields}
    return await core.refunds.refund(caller, record, quantity, **fields)


async def money_and_credit(core: World) -> tuple[int, int]:
    holders = await core.cell.engine.holders([ENDPOINT, RESELLER])
    return holders[ENDPOINT].money, holders[RESELLER].credit_used


@pytest.mark.parametrize("folded", [False, True])
async def test_a_whole_charge_goes_back_at_every_step(folded, valkey_url, sqlite_url):
    async with world(paid(), valkey_url, sqlite_url) as core:
        await core.balances.top_up(OPERATOR_CALLER, ENDPOINT, "", Money("EUR", 50_000), "t")
        used = await core.use(10 * MB, "x")
        assert await money_and_credit(core) == (30_000, 10_000)
        if folded:
            await core.fold()
        back = await refund(core, used.usage_record_id)
        assert [(step.step, step.quantity, step.amount) for step in back.steps] == [
            (0, 10 * MB, 20_000),
            (1, 10 * MB, 20_000),
            (2, 10 * MB, 10_000),
        ]
        assert await money_and_credit(core) == (50_000, 0)
        with pytest.raises(FailedPreconditionError, match="REFUND_EXCEEDS_CHARGE"):
            await refund(core, used.usage_record_id)
        assert await money_and_credit(core) == (50_000, 0)


async def test_volumes_go_back_into_the_buckets_that_they_came_from_the_last_draw_first(valkey_url, sqlite_url):
    async with world(example(), valkey_url, sqlite_url) as core:
        used = await core.use(700 * MB, "x")
        first = await refund(core, used.usage_record_id, 300 * MB)
        assert await core.remaining() == [("asg_a", 100 * MB), ("asg_b", 500 * MB)]  # b was drawn last
        assert await core.remaining(ENTERPRISE) == [("asg_acc", 600 * MB)]
        assert [(b.bucket, b.restored, b.lapsed) for b in first.steps[0].balances] == [
            ("b.b1", 200 * MB, 0),
            ("a.b1", 100 * MB, 0),
        ]
        await refund(core, used.usage_record_id)
        assert await core.remaining() == [("asg_a", 500 * MB), ("asg_b", 500 * MB)]
        assert await core.remaining(ENTERPRISE) == [("asg_acc", GB)]
        assert (await core.use(1000 * MB, "again")).outcome is Outcome.CHARGED


async def test_a_repeat_gets_the_same_answer_and_other_content_is_refused(valkey_url, sqlite_url):
    async with world(example(), valkey_url, sqlite_url) as core:
        used = await core.use(700 * MB, "x")
        first = await refund(core, used.usage_record_id, MB, request_id="r")
        again = await refund(core, used.usage_record_id, MB, request_id="r")
        assert again == replace(first, replayed=True)
        with pytest.raises(AlreadyExistsError, match="REQUEST_ID_REUSED"):
            await refund(core, used.usage_record_id, 2 * MB, request_id="r")
        await core.fold()
        await core.client.delete(*[key async for key in core.client.scan_iter("*d:*")])  # the memory of ids is over
        assert await refund(core, used.usage_record_id, MB, request_id="r") == replace(first, replayed=True)
        with pytest.raises(AlreadyExistsError, match="REQUEST_ID_REUSED"):
            await refund(core, used.usage_record_id, 3 * MB, request_id="r")
        assert (await core.remaining())[1] == ("asg_b", 301 * MB)


async def test_of_many_refunds_of_one_charge_by_two_processes_exactly_one_wins(valkey_url, sqlite_url):
    async with world(paid(), valkey_url, sqlite_url) as one, world(paid(), valkey_url, sqlite_url) as two:
        await one.balances.top_up(OPERATOR_CALLER, ENDPOINT, "", Money("EUR", 50_000), "t")
        used = await one.use(10 * MB, "x")
        answers = await asyncio.gather(
            *(refund(core, used.usage_record_id) for _ in range(20) for core in (one, two)), return_exceptions=True
        )
        won = [answer for answer in answers if isinstance(answer, Refund)]
        lost = [answer for answer in answers if isinstance(answer, FailedPreconditionError)]
        assert (len(won), len(lost)) == (1, 39)
        assert {error.reason for error in lost} == {"REFUND_EXCEEDS_CHARGE"}
        assert await money_and_credit(one) == (50_000, 0)


async def test_many_partial_refunds_never_give_back_more_than_was_charged(valkey_url, sqlite_url):
    async with world(paid(), valkey_url, sqlite_url) as one, world(paid(), valkey_url, sqlite_url) as two:
        await one.balances.top_up(OPERATOR_CALLER, ENDPOINT, "", Money("EUR", 50_000), "t")
        used = await one.use(10 * MB - 1, "x")
        answers = await asyncio.gather(
            *(refund(core, used.usage_record_id, 3 * MB) for _ in range(4) for core in (one, two)),
            return_exceptions=True,
        )
        assert sum(isinstance(answer, Refund) for answer in answers) == 3
        with pytest.raises(FailedPreconditionError, match="at most 999999 units"):
            await refund(one, used.usage_record_id, MB)
        await refund(one, used.usage_record_id, 999_999)
        assert await money_and_credit(one) == (50_000, 0)


def test_shares_agree_with_exact_integers_and_parts_add_up_to_the_whole(valkey_url):
    quantities = st.one_of(st.integers(1, 2**43), st.integers(1, 100))
    amounts = st.one_of(st.integers(0, 2**52), st.integers(0, 1000))

    with asyncio.Runner() as runner:
        client = connect(valkey_url)
        engine = Engine(client, 77)
        sequence = 0

        async def setup() -> None:
            await engine.install()
            await engine.open(1, 0)

        runner.run(setup())

        @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
        @given(quantities, amounts, st.lists(st.integers(1, 2**43), max_size=4))
        def holds(total: int, amount: int, parts: list[int]) -> None:
            nonlocal sequence
            name, done, backs = f"ep_{next(_numbers)}", 0, []
            ops: list[Any] = [ConfigureOp(name, 1, 0, -1, [])]
            for part in [*(1 + part % total for part in parts), 0]:
                request = Request(next(_numbers).to_bytes(16, "big"), bytes(8), "r", "why", NOBODY)
                step = ChargedStep(name, "", 1, amount, (), (), 0)
                ops.append(RefundOp(request, f"usg_{name}", 0, total, part, [step], name, "net_1", 1, "p"))
            decided = runner.run(engine.decide(ops, {}, 1, sequence, NOW_MS, 10**8))
            sequence = decided.sequence
            for op, outcome in zip(ops[1:], decided.outcomes[1:], strict=True):
                after = total if op.quantity == 0 else done + op.quantity
                if after > total or after == done:
                    assert outcome[0] == Status.FAILED
                    assert outcome[2] == total - done
                    continue
                units, back, *_ = outcome[2][0]
                assert units == after - done
                assert back == amount * after // total - amount * done // total
                backs.append(back)
                done = after
            assert done == total
            assert sum(backs) == amount == runner.run(engine.holders([name]))[name].money

        holds()
        runner.run(client.aclose())


async def test_what_ended_or_was_filled_anew_does_not_come_back_to_life(valkey_url, sqlite_url):
    monthly = plan("pln_month", prepaid=True, benefits=(Benefit("b1", frozenset({1}), MB, (), recurring=True),))
    short = addon("pln_short", MB, validity_ms=DAY_MS, on_usage=True)
    base = replace(assigned("base", monthly.key), assigned_ms=NOW_MS - 5 * DAY_MS)
    kept, gone = assigned("s", short.key, 1), assigned("t", short.key, 2)
    terms = StillTerms(
        [endpoint(base, kept, gone)],
        chain(assigned("e", RETAIL.key), assigned("r", WHOLESALE.key)),
        catalog([monthly, short, RETAIL, WHOLESALE], TARIFFS),
    )
    async with world(terms, valkey_url, sqlite_url) as core:
        used = await core.use(3 * MB, "x")  # all of both add-ons and of the benefit
        terms.change(endpoint(base, kept))
        await core.fold()
        core.clock.advance(40 * DAY_MS)
        assert (await core.use(1, "y", usage_time_ms=NOW_MS + 40 * DAY_MS)).outcome is Outcome.CHARGED
        back = await refund(core, used.usage_record_id)
        assert [(b.bucket, b.restored, b.lapsed) for b in back.steps[0].balances] == [
            ("base.b1", 0, MB),
            ("t.b1", 0, MB),
            ("s.b1", 0, MB),
        ]
        assert [step.amount for step in back.steps[1:]] == [6_000, 3_000]
        assert await core.remaining() == [("asg_s", 0), ("asg_base", MB - 1)]


async def test_what_was_drawn_on_a_former_cycle_in_time_or_late_gives_the_new_one_nothing(valkey_url, sqlite_url):
    monthly = plan("pln_month", prepaid=True, benefits=(Benefit("b1", frozenset({1}), MB, (), recurring=True),))
    base = replace(assigned("base", monthly.key), assigned_ms=NOW_MS - 40 * DAY_MS)
    terms = StillTerms(
        [endpoint(base)],
        chain(assigned("e", RETAIL.key), assigned("r", WHOLESALE.key)),
        catalog([monthly, RETAIL, WHOLESALE], TARIFFS),
    )
    async with world(terms, valkey_url, sqlite_url) as core:
        early = await core.use(10, "early", usage_time_ms=NOW_MS - 12 * DAY_MS)
        await core.use(10, "now")
        late = await core.use(10, "late", usage_time_ms=NOW_MS - 11 * DAY_MS)
        assert [b.restored for b in (await refund(core, early.usage_record_id)).steps[0].balances] == [0]
        assert [b.restored for b in (await refund(core, late.usage_record_id)).steps[0].balances] == [0]
        assert await core.remaining() == [("asg_base", MB - 10)]


async def test_each_refunds_up_to_where_it_is_paid_and_nobody_twice(valkey_url, sqlite_url):
    async with world(paid(), valkey_url, sqlite_url) as core:
        await core.balances.top_up(OPERATOR_CALLER, ENDPOINT, "", Money("EUR", 50_000), "t")
        used = await core.use(10 * MB, "x")
        kindness = await refund(core, used.usage_record_id, 4 * MB, caller=ENTERPRISE_CALLER)
        assert [(step.step, step.amount) for step in kindness.steps] == [(0, 8_000)]
        assert await money_and_credit(core) == (38_000, 10_000)
        passed_on = await refund(core, used.usage_record_id, 5 * MB, caller=RESELLER_CALLER)
        assert [(step.step, step.quantity, step.amount) for step in passed_on.steps] == [
            (0, MB, 2_000),
            (1, 5 * MB, 10_000),
        ]
        rest = await refund(core, used.usage_record_id)
        assert [(step.quantity, step.amount) for step in rest.steps] == [
            (5 * MB, 10_000),
            (5 * MB, 10_000),
            (10 * MB, 10_000),
        ]
        assert await money_and_credit(core) == (50_000, 0)


@pytest.mark.requirement("R285", "R286")
async def test_who_was_not_paid_or_does_not_see_it_cannot_refund(valkey_url, sqlite_url):
    async with world(paid(), valkey_url, sqlite_url) as core:
        used = await core.use(MB, "x", mode=2)
        for caller, reason in (
            (STRANGER, "USAGE_RECORD_NOT_FOUND"),
            (replace(ENTERPRISE_CALLER, role=Role.VIEWER), "ROLE_NOT_PERMITTED"),
            (replace(ENTERPRISE_CALLER, role=Role.CHARGER), "ROLE_NOT_PERMITTED"),
        ):
            with pytest.raises(MeterlineError, match=reason):
                await refund(core, used.usage_record_id, caller=caller)
        sub = Principal("k", "acc_s", AccountKind.SUB_ACCOUNT, ("acc_o", RESELLER, ENTERPRISE, "acc_s"), Role.ADMIN)
        with pytest.raises(NotFoundError):
            await refund(core, used.usage_record_id, caller=sub)
        core.terms.change(replace(core.terms.endpoints[ENDPOINT], account_id="acc_s"))
        with pytest.raises(MeterlineError, match="NOT_PAID"):
            await refund(core, used.usage_record_id, caller=sub)
        refused = await core.use(MB, "y")
        assert refused.reason is Reason.ENDPOINT_BLOCKED
        with pytest.raises(FailedPreconditionError, match="NOT_CHARGED"):
            await refund(core, refused.usage_record_id)
        for name in ("usg_0.99.0", "usg_7.1.0", "usg_x"):
            with pytest.raises(NotFoundError):
                await refund(core, name)


@pytest.mark.requirement("R285", "R286")
async def test_the_books_hold_the_refund_and_each_sees_its_own_steps_of_it(valkey_url, sqlite_url):
    async with world(paid(), valkey_url, sqlite_url) as core:
        await core.balances.top_up(OPERATOR_CALLER, ENDPOINT, "", Money("EUR", 50_000), "t")
        used = await core.use(10 * MB, "x")
        back = await refund(core, used.usage_record_id, 5 * MB)
        await core.fold()
        sums = await core.books.sums(("acc_o",), "acc_o/", Selection(), frozenset(), {})
        assert sorted((row.step, row.records, row.data, row.amount) for row in sums) == [
            (0, 1, 10 * MB, 10_000),
            (1, 1, 10 * MB, 10_000),
            (2, 1, 10 * MB, 5_000),
        ]
        balance = f"bal_{ENDPOINT[3:]}.money"
        entries = await core.books.entries(balance, PageRequest(10))
        assert [(row.kind, row.change, row.cause_id) for row in entries[:2]] == [
            (MovementKind.REFUND, 10_000, back.id),
            (MovementKind.DRAW, -20_000, used.usage_record_id),
        ]
        assert (await core.ledger.all_balances())[balance][1] == (await money_and_credit(core))[0] == 40_000
        wanted = RefundSelection(usage_record_id=used.usage_record_id)
        for caller, steps, reason in (
            (OPERATOR_CALLER, [0, 1, 2], "outage"),
            (RESELLER_CALLER, [0, 1, 2], ""),
            (ENTERPRISE_CALLER, [0, 1], ""),
        ):
            (seen,) = (await core.refunds.find(caller, wanted, PageRequest(10))).refunds
            assert (seen.id, [step.step for step in seen.steps], seen.reason) == (back.id, steps, reason)
        assert (await core.refunds.find(STRANGER, wanted, PageRequest(10))).refunds == []


async def test_a_charge_of_another_endpoint_does_not_exist_for_a_sub_account(valkey_url, sqlite_url):
    sub = Principal("k", "acc_s", AccountKind.SUB_ACCOUNT, ("acc_o", RESELLER, ENTERPRISE, "acc_s"), Role.ADMIN)
    async with world(paid(), valkey_url, sqlite_url) as core:
        used = await core.use(10 * MB, "x", mode=2)
        back = await refund(core, used.usage_record_id)
        await core.fold()
        books = Books(core.books, core.journal, core.terms)
        position, done = read_usage_record_id(used.usage_record_id), read_refund_id(back.id)
        for caller in (sub, STRANGER):
            for ask, reason in (
                (books.charge(caller, position, 0, "chg_x"), "CHARGE_NOT_FOUND: There is no charge 'chg_x'"),
                (books.explain(caller, position, 0, "chg_x"), "CHARGE_NOT_FOUND: There is no charge 'chg_x'"),
                (core.refunds.get(caller, done, back.id), f"REFUND_NOT_FOUND: There is no refund '{back.id}'"),
            ):
                with pytest.raises(NotFoundError, match=reason):
                    await ask
        core.terms.change(replace(core.terms.endpoints[ENDPOINT], account_id="acc_s"))
        assert (await books.charge(sub, position, 0, "chg_x")).payer_id == ENDPOINT
        assert (await core.refunds.get(sub, done, back.id)).id == back.id


@pytest.mark.parametrize("folded", [False, True])
async def test_a_rebuilt_cell_remembers_what_went_back(folded, valkey_url, sqlite_url):
    async with world(paid(), valkey_url, sqlite_url) as core:
        await core.balances.top_up(OPERATOR_CALLER, ENDPOINT, "", Money("EUR", 50_000), "t")
        used = await core.use(10 * MB, "x")
        first = await refund(core, used.usage_record_id, 9 * MB, request_id="r")
        before = await money_and_credit(core)
        if folded:
            await core.fold()
        await core.client.flushall()
        assert await refund(core, used.usage_record_id, 9 * MB, request_id="r") == replace(first, replayed=True)
        with pytest.raises(FailedPreconditionError, match="at most 1000000 units"):
            await refund(core, used.usage_record_id, 2 * MB)
        assert await money_and_credit(core) == before


async def test_a_refund_unblocks_and_gives_back_what_sessions_reported(valkey_url, sqlite_url):
    async with world(paid(), valkey_url, sqlite_url) as core:
        await core.balances.top_up(OPERATOR_CALLER, ENDPOINT, "", Money("EUR", 10_000), "t")
        await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.CREATE, 0, 0, MB))
        await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.RELEASE, 1, 8 * MB, 0))
        assert (await core.use(1, "blocked")).reason is Reason.ENDPOINT_BLOCKED
        await core.fold()
        (record,) = await core.books.records("", Selection(outcome=Outcome.CHARGED), PageRequest(10))
        back = await refund(core, record.id, 4 * MB)
        assert back.steps[0].amount == 5_000  # half of what was paid: half of the units were covered by nothing
        assert (await core.use(2 * MB, "free")).outcome is Outcome.CHARGED


async def test_a_dry_run_of_a_refund_changes_nothing(valkey_url, sqlite_url):
    async with world(example(), valkey_url, sqlite_url) as core:
        used = await core.use(700 * MB, "x")
        before = (await core.contents(), await core.remaining())
        would = await refund(core, used.usage_record_id, MB, request_id="r", dry_run=True)
        assert (would.id, would.quantity, would.decided_ms) == ("", MB, 0)
        with pytest.raises(FailedPreconditionError, match="REFUND_EXCEEDS_CHARGE"):
            await refund(core, used.usage_record_id, 701 * MB, dry_run=True)
        assert (await core.contents(), await core.remaining()) == before
        real = await refund(core, used.usage_record_id, MB, request_id="r")
        assert real.steps == would.steps
        assert not real.replayed
