"""Payments and auto-refill: one payment in flight, credited once after it is confirmed, whatever crashes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from services.common.clock import DAY_MS, HOUR_MS, MINUTE_MS
from services.common.errors import AlreadyExistsError, MeterlineError
from services.common.identity import Principal
from services.common.money import MICROS, Money
from services.common.pages import PageRequest
from services.rating.domain.payments import Payment, PaymentMethod, PaymentState
from services.rating.domain.refills import RefillState, Rule, Source, state_of
from services.rating.payments.sandbox import SandboxProvider
from services.rating.storage.tables import events, sandbox_charges
from services.rating.storage.wallets import Wallets as Store
from services.rating.usecases.auto_refill import AutoRefill, Changes
from services.rating.usecases.paying import PAYER, Cashier
from services.rating.usecases.refills import Refills
from services.rating.usecases.wallets import METHOD, PAYMENT, RULE, Wallets
from tests.integration.rating.test_charging import ENTERPRISE_CALLER, STRANGER
from tests.integration.rating.test_refunds import paid
from tests.integration.rating.world import OPERATOR_CALLER, World, world
from tests.unit.rating.terms import ENDPOINT, ENTERPRISE

EUR = MICROS
TEN = Money("EUR", 10 * EUR)
ALL = PageRequest(100)


@dataclass
class Till:
    """What pays in a world, once as a process would have it."""

    core: World
    wallets: Wallets
    rules: AutoRefill
    cashier: Cashier

    def writing(self, connection: Any, caller: Principal = ENTERPRISE_CALLER) -> Any:
        return SimpleNamespace(
            connection=connection, caller=caller, now_ms=self.core.clock.now_ms(), record=lambda *_: None
        )

    async def method(self, pays: str = "tok_ok", account: str = ENTERPRISE) -> PaymentMethod:
        owner = await self.wallets.owner(OPERATOR_CALLER, "", account)
        async with self.wallets.store.transaction() as connection:
            return await self.wallets.add_method(
                self.writing(connection, OPERATOR_CALLER), PaymentMethod(account_id=account, token=pays), owner
            )

    async def rule(self, method: PaymentMethod | None, **fields: Any) -> Rule:
        wanted = Rule(
            endpoint_id=ENDPOINT, currency="EUR", threshold_micros=2 * EUR, amount_micros=TEN.micros,
            source=Source.PAYMENT_METHOD if method else Source.WALLET, method_id=method.id if method else "",
        )  # fmt: skip
        wanted = replace(wanted, **fields)
        owner = await self.wallets.owner(OPERATOR_CALLER, wanted.endpoint_id, wanted.account_id)
        async with self.wallets.store.transaction() as connection:
            return await self.rules.add(self.writing(connection), wanted, owner)

    async def pay(self, method: PaymentMethod, amount: Money = TEN) -> Payment:
        owner = await self.wallets.owner(OPERATOR_CALLER, ENDPOINT, "")
        async with self.wallets.store.transaction() as connection:
            made = await self.wallets.add_payment(self.writing(connection), owner, method, amount)
        return await self.cashier.settle(made.id)

    async def present(self, rule: Rule) -> Rule:
        found = await self.wallets.store.get(Rule, rule.id)
        assert found is not None
        return found

    async def payments(self) -> list[Payment]:
        return list(await self.wallets.store.list(Payment, "", {}, ALL))

    async def money(self, name: str = ENDPOINT) -> int:
        holder = (await self.core.cell.engine.holders([name])).get(name)
        return holder.money if holder else 0

    async def told(self) -> list[str]:
        async with self.core.ledger.database.reading() as connection:
            query = sa.select(events.c.type).where(events.c.type.startswith("wallet.")).order_by(events.c.id)
            return list((await connection.scalars(query)).all())

    async def taken(self) -> int:
        """How often the provider took money."""
        async with self.core.ledger.database.reading() as connection:
            found = sa.select(sa.func.count()).select_from(sandbox_charges).where(sandbox_charges.c.code == "")
            return (await connection.execute(found)).scalar_one()

    async def tick(self, later_ms: int = 0) -> None:
        """Look as a process does, once time has passed, twice: what is begun is made. The fold works beside it."""
        self.core.clock.advance(later_ms)
        await self.core.fold()
        async with asyncio.TaskGroup() as group:
            over = asyncio.Event()
            group.create_task(self._fold(over))
            await self.cashier.look()
            await self.cashier.look()
            over.set()

    async def _fold(self, over: asyncio.Event) -> None:
        while not over.is_set():
            await self.core.fold()
            await asyncio.sleep(0.01)


def till_of(core: World) -> Till:
    database = core.ledger.database
    wallets = Wallets(Store(database), core.balances, SandboxProvider(database, core.clock))
    refills = Refills(core.kit, core.balances)
    cashier = Cashier(wallets.store, wallets._provider, core.balances, refills, core.corrections, core.clock)
    return Till(core, wallets, AutoRefill(wallets, refills), cashier)


@asynccontextmanager
async def till(valkey_url: str, database_url: str, ledger_url: str) -> AsyncIterator[Till]:
    async with world(paid(), valkey_url, database_url, ledger_url) as core:
        await core.balances.top_up(OPERATOR_CALLER, ENDPOINT, "", Money("EUR", EUR), "first")
        await core.fold()
        yield till_of(core)


@pytest.fixture
def ledger_url(request, database_url, tmp_path):
    return f"sqlite+aiosqlite:///{tmp_path / 'wallet_ledger.sqlite'}" if "sqlite" in database_url else database_url


@pytest.fixture
def journal_url(sqlite_url):
    return sqlite_url


@pytest.mark.requirement("R302")
async def test_a_payment_is_credited_once_it_is_confirmed_and_a_declined_one_is_not(
    valkey_url, journal_url, ledger_url
):
    async with till(valkey_url, journal_url, ledger_url) as here:
        made = await here.pay(await here.method())
        assert (made.state, made.reference[:4] != "", await here.money()) == (PaymentState.CREDITED, True, 11 * EUR)
        refused = await here.pay(await here.method("tok_insufficient_funds"))
        assert (refused.state, refused.decline_code) == (PaymentState.DECLINED, "insufficient_funds")
        assert (await here.money(), refused.next_ms) == (11 * EUR, 0)
        assert await here.told() == ["wallet.charged", "wallet.failed"]


@pytest.mark.requirement("R297", "R301")
async def test_of_twenty_workers_one_refills(valkey_url, journal_url, ledger_url):
    async with till(valkey_url, journal_url, ledger_url) as here:
        rule = await here.rule(await here.method())
        workers = [till_of(here.core) for _ in range(20)]
        await asyncio.gather(*(worker.cashier.look() for worker in workers))
        await asyncio.gather(*(worker.cashier.look() for worker in workers))
        assert (await here.taken(), await here.money()) == (1, 11 * EUR)
        (payment,) = await here.payments()
        assert (payment.state, payment.rule_id) == (PaymentState.CREDITED, rule.id)
        assert await here.told() == ["wallet.low", "wallet.charged"]
        assert state_of(await here.present(rule), here.core.clock.now_ms()) is RefillState.COOLING_OFF


async def test_a_declined_rule_waits_twice_as_long_each_time_and_at_last_stops(valkey_url, journal_url, ledger_url):
    async with till(valkey_url, journal_url, ledger_url) as here:
        rule = await here.rule(await here.method("tok_declined"))
        waits = []
        for _ in range(10):
            await here.tick()
            present = await here.present(rule)
            waits.append((present.not_before_ms - here.core.clock.now_ms()) // MINUTE_MS)
            count = len(await here.payments())
            await here.tick(waits[-1] * MINUTE_MS - 1000)
            assert len(await here.payments()) == count, "it waits"
            here.core.clock.advance(1000)
        assert waits == [10, 20, 40, 80, 160, 320, 640, 1280, 1440, 1440]
        await here.tick(DAY_MS)
        present = await here.present(rule)
        assert (present.stop_reason, len(await here.payments()), await here.money()) == ("TOO_MANY_DECLINES", 10, EUR)


@pytest.mark.parametrize(
    ("token", "ends", "money"),
    [
        ("tok_timeout_then_confirmed", PaymentState.CREDITED, 11 * EUR),
        ("tok_timeout_then_declined", PaymentState.DECLINED, EUR),
    ],
)
async def test_a_payment_without_answer_is_asked_about_until_it_is_known(
    token, ends, money, valkey_url, journal_url, ledger_url
):
    async with till(valkey_url, journal_url, ledger_url) as here:
        made = await here.pay(await here.method(token))
        assert (made.state, await here.money()) == (PaymentState.UNKNOWN, EUR)
        for _ in range(6):
            await here.tick(HOUR_MS)
        (payment,) = await here.payments()
        assert (payment.state, await here.money()) == (ends, money)
        assert await here.taken() == (ends is PaymentState.CREDITED)


@pytest.mark.parametrize("dies", ["before the provider knows", "before it is noted", "before the credit", "after it"])
async def test_whoever_dies_on_the_way_credits_once(dies, valkey_url, journal_url, ledger_url, monkeypatch):
    async with till(valkey_url, journal_url, ledger_url) as here:
        rule = await here.rule(await here.method())

        class Killed(BaseException):
            pass

        async def killed(*_: Any, **__: Any) -> Any:
            raise Killed

        store, cashier = here.wallets.store, here.cashier
        await cashier._refill(rule)
        (payment,) = await here.payments()
        with monkeypatch.context() as patch:
            if dies == "before the provider knows":
                patch.setattr(type(cashier.provider), "charge", killed)
            elif dies == "before it is noted":
                patch.setattr(Cashier, "_settled", killed)
            elif dies == "before the credit":
                patch.setattr(type(cashier.balances), "top_up", killed)
            else:
                real = type(cashier.balances).top_up

                async def credits_and_dies(*args: Any, **fields: Any) -> Any:
                    await real(*args, **fields)
                    raise Killed

                patch.setattr(type(cashier.balances), "top_up", credits_and_dies)
            with pytest.raises(Killed):
                await cashier.advance(payment)
        found = await store.get(Payment, payment.id)
        assert found is not None
        assert found.next_ms > 0, "it is not forgotten"
        if dies in {"before the provider knows", "before it is noted"}:
            await here.tick()
            assert (await store.get(Payment, payment.id)) == found, "nobody else asks while its claim holds"
        await here.tick(2 * MINUTE_MS)
        (payment,) = await here.payments()
        assert (payment.state, await here.money(), await here.taken()) == (PaymentState.CREDITED, 11 * EUR, 1)
        await here.core.fold()
        entries = [each for content in await here.core.contents() for each in content.requests]
        assert [entry.micros for entry in entries] == [EUR, TEN.micros]


@pytest.mark.requirement("R303")
async def test_an_enterprises_wallet_refills_its_endpoints_and_never_more_than_it_has(
    valkey_url, journal_url, ledger_url
):
    async with till(valkey_url, journal_url, ledger_url) as here:
        rule = await here.rule(None)
        await here.tick()
        (payment,) = await here.payments()
        assert (payment.state, payment.decline_code) == (PaymentState.DECLINED, "BALANCE_TOO_SMALL")
        await here.core.balances.top_up(OPERATOR_CALLER, "", ENTERPRISE, Money("EUR", 15 * EUR), "stock")
        with pytest.raises(AlreadyExistsError):  # a first try of it that was still on its way comes too late
            await here.core.corrections.transfer(
                PAYER, ("", ENTERPRISE), (ENDPOINT, ""), TEN, reason=f"auto-refill {rule.id}", request_id=payment.id
            )
        assert await here.money(ENTERPRISE) == 15 * EUR
        await here.tick(11 * MINUTE_MS)
        assert (await here.money(), await here.money(ENTERPRISE)) == (11 * EUR, 5 * EUR)
        assert (await here.present(rule)).declines == 0
        assert await here.taken() == 0


async def test_a_rule_cools_off_and_keeps_to_its_month(valkey_url, journal_url, ledger_url):
    async with till(valkey_url, journal_url, ledger_url) as here:
        rule = await here.rule(
            await here.method(), threshold_micros=1000 * EUR, cool_off_ms=HOUR_MS, monthly_amount_max_micros=25 * EUR
        )
        await here.tick()
        await here.tick(HOUR_MS - 1)
        assert len(await here.payments()) == 1, "it cools off"
        await here.tick(1)
        await here.tick(2 * HOUR_MS)
        assert (len(await here.payments()), await here.money()) == (2, 21 * EUR)
        assert state_of(await here.present(rule), here.core.clock.now_ms()) is RefillState.MONTH_EXHAUSTED
        await here.tick(31 * DAY_MS)
        assert len(await here.payments()) == 3, "the next month"


async def test_a_rule_that_is_deleted_or_rests_begins_nothing_and_what_it_began_is_credited(
    valkey_url, journal_url, ledger_url
):
    async with till(valkey_url, journal_url, ledger_url) as here:
        method = await here.method()
        rule = await here.rule(method, enabled=False)
        await here.tick()
        assert await here.payments() == []
        owner = await here.wallets.owner(ENTERPRISE_CALLER, ENDPOINT, "")
        async with here.wallets.store.transaction() as connection:
            changes = Changes(replace(rule, enabled=True), {"enabled"}, "1")
            changed = await here.rules.change(here.writing(connection), changes, owner)
        assert (changed.enabled, changed.threshold_micros) == (True, rule.threshold_micros)
        await here.cashier.look()
        async with here.wallets.store.transaction() as connection:
            with pytest.raises(MeterlineError, match="METHOD_IN_USE"):
                await here.wallets.remove_method(here.writing(connection), method.id)
            await here.rules.remove(here.writing(connection), rule.id)
        await here.tick(HOUR_MS)
        assert (await here.money(), len(await here.payments())) == (11 * EUR, 1)


async def test_strangers_see_nothing_and_rules_are_checked(valkey_url, journal_url, ledger_url):
    async with till(valkey_url, journal_url, ledger_url) as here:
        method = await here.method()
        rule, payment = await here.rule(method), await here.pay(method)
        kinds: Any = ((PaymentMethod, METHOD, method), (Rule, RULE, rule), (Payment, PAYMENT, payment))
        for kind, what, thing in kinds:
            assert await here.wallets.get(ENTERPRISE_CALLER, kind, what, thing.id) == thing
            assert (await here.wallets.list(ENTERPRISE_CALLER, kind, {}, ALL)).rows
            assert not (await here.wallets.list(STRANGER, kind, {}, ALL)).rows
            with pytest.raises(MeterlineError, match="NOT_FOUND"):
                await here.wallets.get(STRANGER, kind, what, thing.id)
        with pytest.raises(MeterlineError, match="OWNER_HAS_RULE"):
            await here.rule(method)
        for fields, reason in (
            ({"currency": "USD"}, "CURRENCY_MISMATCH"),
            ({"amount_micros": EUR + 1}, "INVALID|AMOUNT"),
            ({"threshold_micros": 0}, "threshold"),
            ({"cool_off_ms": 1}, "cool_off"),
            ({"source": Source.WALLET}, "payment_method_id"),
            ({"method_id": ""}, "payment_method_id"),
        ):
            with pytest.raises(MeterlineError, match=reason):
                await here.rule(method, **fields)
        with pytest.raises(MeterlineError, match="METHOD_OF_ANOTHER_ACCOUNT"):
            await here.wallets.method_for(
                OPERATOR_CALLER,
                (await here.method(account="acc_r")).id,
                await here.wallets.owner(OPERATOR_CALLER, ENDPOINT, ""),
            )
        assert PAYER.service, "no customer's context credits payments"


@pytest.mark.parametrize("of_account", [False, True])
@pytest.mark.parametrize("gone", ["deleted", "terminated"])
async def test_nothing_is_paid_for_who_is_gone(of_account, gone, valkey_url, journal_url, ledger_url):
    async with till(valkey_url, journal_url, ledger_url) as here:
        owner = {"endpoint_id": "", "account_id": ENTERPRISE} if of_account else {}
        rule = await here.rule(await here.method(), cool_off_ms=MINUTE_MS, **owner)
        end(here.core, gone)
        await here.tick()
        stays = of_account and gone == "deleted"
        assert await here.taken() == (1 if stays else 0)
        assert (await here.present(rule)).stop_reason == ("" if stays else "OWNER_NOT_FOUND")
        await here.core.fold()
        with pytest.raises(MeterlineError, match="ENDPOINT_GONE"):
            await here.core.balances.top_up(OPERATOR_CALLER, ENDPOINT, "", TEN, "after")
        transfer = here.core.corrections.transfer
        with pytest.raises(MeterlineError, match="ENDPOINT_GONE"):
            await transfer(OPERATOR_CALLER, ("", ENTERPRISE), (ENDPOINT, ""), TEN, reason="r", request_id="after")


async def test_nothing_is_paid_for_while_the_account_is_suspended(valkey_url, journal_url, ledger_url):
    async with till(valkey_url, journal_url, ledger_url) as here:
        rule = await here.rule(await here.method())
        enterprise, *above = here.core.terms.accounts
        here.core.terms.change(chain=[replace(enterprise, active=False), *above])
        await here.tick()
        assert (await here.taken(), (await here.present(rule)).stop_reason) == (0, "")
        here.core.terms.change(chain=[enterprise, *above])
        await here.tick()
        assert (await here.taken(), await here.money()) == (1, 11 * EUR)


@pytest.mark.parametrize("repeated", [False, True])
async def test_money_for_an_endpoint_that_is_deleted_meanwhile_goes_to_the_wallet(
    repeated, valkey_url, journal_url, ledger_url
):
    async with till(valkey_url, journal_url, ledger_url) as here:
        payment = await here.pay(await here.method("tok_timeout_then_confirmed"))
        if repeated:  # it was credited before, by a process that died before it wrote so
            await here.core.balances.top_up(PAYER, ENDPOINT, "", TEN, payment.id)
        end(here.core, "deleted")
        for _ in range(6):
            await here.tick(HOUR_MS)
        (settled,) = await here.payments()
        assert settled.state is PaymentState.CREDITED
        assert (await here.money(), await here.money(ENTERPRISE)) == ((11 * EUR, 0) if repeated else (EUR, 10 * EUR))


async def test_what_was_asked_before_the_end_is_answered_after_it(valkey_url, journal_url, ledger_url):
    async with till(valkey_url, journal_url, ledger_url) as here:
        before = await here.core.balances.top_up(OPERATOR_CALLER, ENDPOINT, "", TEN, "before")
        end(here.core, "deleted")
        await here.core.fold()
        assert (
            await here.core.balances.top_up(OPERATOR_CALLER, ENDPOINT, "", TEN, "before")
        ).remaining == before.remaining
        assert await here.money() == 11 * EUR


def end(core: World, how: str) -> None:
    """The endpoint is deleted, or its enterprise terminated."""
    enterprise, *above = core.terms.accounts
    if how == "deleted":
        core.terms.change(replace(core.terms.endpoints[ENDPOINT], active=False, deleted=True))
    else:
        core.terms.change(chain=[replace(enterprise, active=False, terminated=True, version=9), *above])
