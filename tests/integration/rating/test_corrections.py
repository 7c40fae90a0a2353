"""Adjustments and transfers: never below what is reserved or 0, once for a request id, audited, all at once."""

import asyncio
import itertools
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from services.common.errors import MeterlineError
from services.common.identity import AccountKind, Principal, Role
from services.common.money import Money
from services.common.pages import PageRequest
from services.rating.domain.decisions import SessionAction
from services.rating.domain.reasons import BalanceState, MovementKind, Outcome, Reason
from services.rating.storage.tables import audit
from services.rating.usecases.balances import Balance
from services.rating.usecases.corrections import Corrected
from services.rating.usecases.refills import Refills
from tests.integration.rating.test_charging import ENTERPRISE_CALLER, STRANGER, example, session_call
from tests.integration.rating.test_refunds import RESELLER_CALLER, paid
from tests.integration.rating.world import OPERATOR_CALLER, World, world
from tests.unit.rating.terms import ENDPOINT, ENTERPRISE, GB, MB, RESELLER

ENDPOINT_MONEY, ENTERPRISE_MONEY, RESELLER_MONEY = "bal_1.money", "bal_e.money", "bal_r.money"
OTHER = "ep_2"
_numbers = itertools.count()


async def adjust(core: World, name: str, change: int, caller: Principal = OPERATOR_CALLER, **fields: Any) -> Corrected:
    fields = {"credit_used": False, "reason": "goodwill", "request_id": f"a{next(_numbers)}", **fields}
    return await core.corrections.adjust(caller, name, change, **fields)


async def transfer(
    core: World, giver: str, taker: str, micros: int, caller: Principal = OPERATOR_CALLER, **fields: Any
) -> Corrected:
    fields = {"reason": "pocket money", "request_id": f"t{next(_numbers)}", **fields}
    of = [("", name) if name.startswith("acc_") else (name, "") for name in (giver, taker)]
    return await core.corrections.transfer(caller, of[0], of[1], Money("EUR", micros), **fields)


async def money(core: World, *names: str) -> list[int]:
    holders = await core.cell.engine.holders(names)
    return [holders[name].money if name in holders else 0 for name in names]


def two_endpoints() -> Any:
    terms = paid()
    terms.endpoints[OTHER] = replace(terms.endpoints[ENDPOINT], id=OTHER)
    terms.change()
    return terms


async def test_money_is_added_and_taken_by_hand_never_below_what_is_reserved(valkey_url, sqlite_url):
    async with world(paid(), valkey_url, sqlite_url) as core:
        added = await adjust(core, ENDPOINT_MONEY, 10_000)
        assert added.done.answer == [10_000]
        await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.CREATE, 0, 0, 3 * MB))
        with pytest.raises(MeterlineError, match=r"BALANCE_TOO_SMALL.* at most 4000 ") as refused:
            await adjust(core, ENDPOINT_MONEY, -4_001)
        assert refused.value.metadata == {"available": "4000"}
        assert (await adjust(core, ENDPOINT_MONEY, -4_000)).done.answer == [6_000]
        assert await money(core, ENDPOINT) == [6_000]
        with pytest.raises(MeterlineError, match="BALANCE_OVERFLOW"):
            await adjust(core, ENDPOINT_MONEY, 2**53 - 1)


async def test_a_payment_lowers_what_is_owed_and_never_below_nothing(valkey_url, sqlite_url):
    async with world(paid(), valkey_url, sqlite_url) as core:
        await adjust(core, ENDPOINT_MONEY, GB)
        await core.use(10 * MB, "x")
        assert (await adjust(core, RESELLER_MONEY, -4_000, credit_used=True)).done.answer == [6_000]
        with pytest.raises(MeterlineError, match=r"BALANCE_TOO_SMALL.*what is owed at most 6000 "):
            await adjust(core, RESELLER_MONEY, -6_001, credit_used=True)
        with pytest.raises(MeterlineError, match="CREDIT_LIMIT_EXCEEDED"):
            await adjust(core, RESELLER_MONEY, GB, credit_used=True)
        assert (await adjust(core, RESELLER_MONEY, GB - 6_000, credit_used=True)).done.answer == [GB]
        holder = (await core.cell.engine.holders([RESELLER]))[RESELLER]
        assert (holder.credit_used, holder.money) == (GB, 0)
        assert (await core.use(MB, "y")).reason is Reason.CREDIT_LIMIT


async def test_without_a_limit_nothing_is_owed_that_could_be_raised(valkey_url, sqlite_url):
    async with world(paid(), valkey_url, sqlite_url) as core:
        await adjust(core, ENDPOINT_MONEY, GB)
        await core.use(10 * MB, "x")
        raised = await adjust(core, RESELLER_MONEY, 1_000, credit_used=True, request_id="with-limit")
        await core.fold()
        enterprise, reseller, operator = core.terms.accounts
        core.terms.change(chain=(enterprise, replace(reseller, credit_limit_micros=None, limit_version=2), operator))
        with pytest.raises(MeterlineError, match=f"NO_CREDIT_LIMIT.*{RESELLER}"):
            await adjust(core, RESELLER_MONEY, 1, credit_used=True)
        again = await adjust(core, RESELLER_MONEY, 1_000, credit_used=True, request_id="with-limit")
        assert (again.replayed, again.done.answer) == (True, raised.done.answer)
        assert (await adjust(core, RESELLER_MONEY, -11_000, credit_used=True)).done.answer == [0]
        with pytest.raises(MeterlineError, match="balance_id: must be the money balance of an account"):
            await adjust(core, ENDPOINT_MONEY, -1, credit_used=True)


async def test_a_refund_of_what_was_paid_already_is_a_credit_for_what_comes_next(valkey_url, sqlite_url):
    async with world(paid(), valkey_url, sqlite_url) as core:
        await adjust(core, ENDPOINT_MONEY, GB)
        used = await core.use(10 * MB, "x")
        await adjust(core, RESELLER_MONEY, -10_000, credit_used=True)
        await core.refunds.refund(OPERATOR_CALLER, used.usage_record_id, 0, reason="outage", request_id="r")
        assert (await core.cell.engine.holders([RESELLER]))[RESELLER].credit_used == -10_000
        await core.use(15 * MB, "y")
        assert (await core.cell.engine.holders([RESELLER]))[RESELLER].credit_used == 5_000


async def test_a_bucket_is_changed_by_hand_while_it_lives(valkey_url, sqlite_url):
    async with world(example(), valkey_url, sqlite_url) as core:
        await core.use(600 * MB, "x")
        await core.fold()
        assert (await adjust(core, "bal_a.b1", 50 * MB)).done.answer == [50 * MB]
        assert (await core.use(450 * MB, "y")).outcome is Outcome.CHARGED
        assert (await core.use(1, "z")).reason is Reason.NO_VALID_ADDON
        with pytest.raises(MeterlineError, match="BALANCE_TOO_SMALL"):
            await adjust(core, "bal_a.b1", -1)
        await core.fold()
        core.clock.advance(8 * 86_400_000)
        with pytest.raises(MeterlineError, match="BALANCE_ENDED"):
            await adjust(core, "bal_b.b1", MB)
        await core.fold()
        assert (await core.ledger.all_balances())["bal_a.b1"][1] == 0


async def test_what_is_added_unblocks_the_endpoint(valkey_url, sqlite_url):
    async with world(paid(), valkey_url, sqlite_url) as core:
        await core.use(MB, "late", mode=2)
        assert (await core.use(MB, "blocked")).reason is Reason.ENDPOINT_BLOCKED
        await adjust(core, ENDPOINT_MONEY, 2_000)
        assert (await core.use(MB, "free")).outcome is Outcome.CHARGED


async def test_only_who_sells_to_the_owner_adjusts(valkey_url, sqlite_url):
    sub = Principal("k", "acc_s", AccountKind.SUB_ACCOUNT, ("acc_o", RESELLER, ENTERPRISE, "acc_s"), Role.ADMIN)
    async with world(paid(), valkey_url, sqlite_url) as core:
        await adjust(core, ENDPOINT_MONEY, 1, caller=ENTERPRISE_CALLER)
        await adjust(core, ENTERPRISE_MONEY, 1, caller=RESELLER_CALLER)
        core.terms.change(replace(core.terms.endpoints[ENDPOINT], account_id="acc_s"))
        for caller, name, reason in (
            (ENTERPRISE_CALLER, ENTERPRISE_MONEY, "NOT_THE_SELLER"),
            (RESELLER_CALLER, RESELLER_MONEY, "NOT_THE_SELLER"),
            (sub, ENDPOINT_MONEY, "NOT_THE_SELLER"),
            (ENTERPRISE_CALLER, RESELLER_MONEY, "BALANCE_NOT_FOUND"),
            (STRANGER, ENDPOINT_MONEY, "BALANCE_NOT_FOUND"),
            (replace(ENTERPRISE_CALLER, role=Role.VIEWER), ENDPOINT_MONEY, "ROLE_NOT_PERMITTED"),
        ):
            with pytest.raises(MeterlineError, match=reason):
                await adjust(core, name, 1, caller=caller)
        for change, reason in ((0, "why"), (1, " "), (1, "x" * 257)):
            with pytest.raises(MeterlineError, match="FIELD_INVALID"):
                await adjust(core, ENDPOINT_MONEY, change, reason=reason)


async def test_a_sub_account_adds_nothing_to_endpoints_that_its_enterprise_pays_for(valkey_url, sqlite_url):
    sub = Principal("k", "acc_s", AccountKind.SUB_ACCOUNT, ("acc_o", RESELLER, ENTERPRISE, "acc_s"), Role.ADMIN)
    async with world(paid(), valkey_url, sqlite_url) as core:
        core.terms.change(replace(core.terms.endpoints[ENDPOINT], account_id="acc_s"))
        assert (await core.balances.get(sub, ENDPOINT_MONEY)).remaining == 0
        for dry_run in (True, False):
            with pytest.raises(MeterlineError, match="NOT_THE_SELLER"):
                await core.balances.top_up(sub, ENDPOINT, "", Money("EUR", 5_000), "t", dry_run=dry_run)
        with pytest.raises(MeterlineError, match="NOT_THE_SELLER"):
            await Refills(core.kit, core.balances).refill(sub, ENDPOINT_MONEY, MB, 0, 0, "r")
        assert (
            await core.balances.top_up(ENTERPRISE_CALLER, ENDPOINT, "", Money("EUR", 5_000), "t")
        ).remaining == 5_000


@pytest.mark.parametrize("memory", ["ids", "books", "rebuilt"])
async def test_a_repeated_top_up_answers_what_was_there_after_the_first(memory, valkey_url, sqlite_url):
    async with world(paid(), valkey_url, sqlite_url) as core:

        async def top_up(**fields: Any) -> Balance:
            return await core.balances.top_up(OPERATOR_CALLER, ENDPOINT, "", Money("EUR", 10_000), "t", **fields)

        first = await top_up()
        assert (first.remaining, first.reserved) == (10_000, 0)
        await core.use(2 * MB, "a")
        await adjust(core, ENDPOINT_MONEY, 50_000)
        await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.CREATE, 0, 0, 10 * MB))
        if memory == "books":
            await core.fold()
        if memory == "rebuilt":
            await core.client.flushall()
        assert await top_up() == await top_up(dry_run=True) == replace(first, reserved=10_000)
        now = (await core.balances.of_owner(OPERATOR_CALLER, ENDPOINT, ""))[-1]
        assert (now.remaining, now.reserved) == (56_000, 20_000)
        await core.use(28 * MB, "b", mode=2)
        assert (await top_up()).state is BalanceState.ACTIVE


async def test_a_transfer_moves_money_at_once_and_never_overdraws(valkey_url, sqlite_url):
    async with world(two_endpoints(), valkey_url, sqlite_url) as core:
        await adjust(core, ENTERPRISE_MONEY, 10_000)
        assert (await transfer(core, ENTERPRISE, ENDPOINT, 7_000)).done.answer == [3_000, 7_000]
        assert (await transfer(core, ENDPOINT, OTHER, 2_000, caller=ENTERPRISE_CALLER)).done.answer == [5_000, 2_000]
        await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.CREATE, 0, 0, 2 * MB))
        with pytest.raises(MeterlineError, match=r"BALANCE_TOO_SMALL.* at most 1000 "):
            await transfer(core, ENDPOINT, ENTERPRISE, 1_001)  # 4,000 are reserved
        assert await money(core, ENTERPRISE, ENDPOINT, OTHER) == [3_000, 5_000, 2_000]
        moved = await transfer(core, OTHER, ENTERPRISE, 2_000)
        await core.fold()
        for name, change in ((ENTERPRISE_MONEY, 2_000), ("bal_2.money", -2_000)):
            entry = (await core.books.entries(name, PageRequest(1)))[0]
            assert (entry.kind, entry.change, entry.cause_id) == (MovementKind.TRANSFER, change, moved.id("trf"))
        sums = await core.ledger.all_balances()
        assert [sums[name][1] for name in (ENTERPRISE_MONEY, ENDPOINT_MONEY, "bal_2.money")] == [5_000, 5_000, 0]


async def test_many_transfers_by_two_processes_move_exactly_what_is_there(valkey_url, sqlite_url):
    async with (
        world(two_endpoints(), valkey_url, sqlite_url) as one,
        world(two_endpoints(), valkey_url, sqlite_url) as two,
    ):
        await adjust(one, ENTERPRISE_MONEY, 20_000)
        answers = await asyncio.gather(
            *(
                transfer(core, ENTERPRISE, name, 1_000)
                for _ in range(15)
                for core in (one, two)
                for name in (ENDPOINT, OTHER)
            ),
            return_exceptions=True,
        )
        assert sum(isinstance(answer, Corrected) for answer in answers) == 20
        left, first, second = await money(one, ENTERPRISE, ENDPOINT, OTHER)
        assert (left, first + second) == (0, 20_000)


async def test_transfers_stay_within_one_enterprise_and_one_currency(valkey_url, sqlite_url):
    async with world(two_endpoints(), valkey_url, sqlite_url) as core:
        await adjust(core, RESELLER_MONEY, 10_000)
        for giver, taker, caller, reason in (
            (RESELLER, ENDPOINT, OPERATOR_CALLER, "NOT_ONE_ENTERPRISE"),
            (RESELLER, ENTERPRISE, OPERATOR_CALLER, "NOT_ONE_ENTERPRISE"),
            (RESELLER, ENDPOINT, ENTERPRISE_CALLER, "ACCOUNT_NOT_FOUND"),
            (ENDPOINT, ENDPOINT, OPERATOR_CALLER, "FIELD_INVALID"),
            (ENTERPRISE, ENDPOINT, STRANGER, "NOT_FOUND"),
            (ENTERPRISE, ENDPOINT, replace(ENTERPRISE_CALLER, role=Role.CHARGER), "ROLE_NOT_PERMITTED"),
        ):
            with pytest.raises(MeterlineError, match=reason):
                await transfer(core, giver, taker, 1, caller=caller)
        with pytest.raises(MeterlineError, match="CURRENCY_MISMATCH"):
            await core.corrections.transfer(
                OPERATOR_CALLER, ("", ENTERPRISE), (ENDPOINT, ""), Money("USD", 1), reason="x", request_id="u"
            )


@pytest.mark.parametrize("kind", ["adjust", "transfer"])
async def test_a_repeat_gets_the_same_answer_also_from_the_books(kind, valkey_url, sqlite_url):
    async with world(two_endpoints(), valkey_url, sqlite_url) as core:
        await adjust(core, ENTERPRISE_MONEY, 10_000)

        async def ask(amount: int) -> Corrected:
            if kind == "adjust":
                return await adjust(core, ENTERPRISE_MONEY, amount, request_id="r")
            return await transfer(core, ENTERPRISE, ENDPOINT, amount, request_id="r")

        first = await ask(3_000)
        after = await money(core, ENTERPRISE, ENDPOINT)
        assert await ask(3_000) == replace(first, replayed=True)
        with pytest.raises(MeterlineError, match="REQUEST_ID_REUSED"):
            await ask(4_000)
        await core.client.flushall()
        assert await ask(3_000) == replace(first, replayed=True)
        await core.fold()
        await core.client.delete(*[key async for key in core.client.scan_iter("*d:*")])  # the memory of ids is over
        assert await ask(3_000) == replace(first, replayed=True)
        with pytest.raises(MeterlineError, match="REQUEST_ID_REUSED"):
            await ask(4_000)
        assert await money(core, ENTERPRISE, ENDPOINT) == after


async def test_what_was_corrected_is_audited_with_who_and_why(valkey_url, database_url, sqlite_url):
    ledger = "" if database_url.startswith("sqlite") else sqlite_url
    async with world(two_endpoints(), valkey_url, database_url, ledger) as core:
        await adjust(core, ENTERPRISE_MONEY, 10_000, request_id="first")
        await transfer(core, ENTERPRISE, ENDPOINT, 4_000, caller=ENTERPRISE_CALLER)
        used = await core.use(MB, "x")
        await core.refunds.refund(RESELLER_CALLER, used.usage_record_id, 0, reason="outage", request_id="r")
        await core.fold()
        async with core.ledger.database.reading() as connection:
            rows = (await connection.execute(sa.select(audit).order_by(audit.c.created_ms, audit.c.id))).all()
        assert [(row.actor, row.method.rpartition("/")[2], row.resource_id, row.owner_path) for row in rows] == [
            ("key_o", "AdjustBalance", ENTERPRISE_MONEY, f"acc_o/{RESELLER}/{ENTERPRISE}/"),
            ("key_e", "TransferBalance", ENTERPRISE_MONEY, f"acc_o/{RESELLER}/{ENTERPRISE}/"),
            ("key_r", "CreateRefund", used.usage_record_id, f"acc_o/{RESELLER}/"),  # not the enterprise's to see
        ]
        assert (rows[0].before, rows[0].after) == (
            {"remaining": 0},
            {"remaining": 10_000, "change": 10_000, "reason": "goodwill"},
        )
        assert rows[0].request_id == "first"
        assert rows[1].after == {
            ENTERPRISE_MONEY: 6_000, ENDPOINT_MONEY: 4_000, "amount_micros": 4_000, "reason": "pocket money",
        }  # fmt: skip
        assert [step["amount_micros"] for step in rows[2].after["steps"]] == [2_000, 2_000]
