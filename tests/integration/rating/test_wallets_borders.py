"""Wallets at their borders: whose money a rule may take, which balance it watches, and what holds up what."""

import asyncio
from dataclasses import replace

import pytest

from services.common.errors import MeterlineError
from services.common.identity import AccountKind, Principal, Role
from services.common.money import Money
from services.rating.domain.payments import PaymentMethod, PaymentState
from services.rating.domain.refills import month_of
from tests.integration.rating.test_wallets import EUR, TEN, Till, till
from tests.integration.rating.world import OPERATOR_CALLER
from tests.unit.rating.terms import ENDPOINT, ENTERPRISE, RESELLER

SUB = Principal("key_s", "acc_s", AccountKind.SUB_ACCOUNT, ("acc_o", RESELLER, ENTERPRISE, "acc_s"), Role.ADMIN)


@pytest.fixture
def journal_url(sqlite_url):
    return sqlite_url


@pytest.fixture
def ledger_url(database_url, tmp_path):
    return f"sqlite+aiosqlite:///{tmp_path / 'wallet_ledger.sqlite'}" if "sqlite" in database_url else database_url


def more(here: Till, count: int) -> list[str]:
    """Further endpoints like the first."""
    core = here.core
    names = [f"ep_n{number:02}" for number in range(count)]
    for name in names:
        core.terms.endpoints[name] = replace(core.terms.endpoints[ENDPOINT], id=name)
    core.terms.change()
    return names


async def test_a_rule_watches_the_money_of_its_owner(valkey_url, journal_url, ledger_url):
    async with till(valkey_url, journal_url, ledger_url) as here:
        rule = await here.rule(await here.method())
        assert rule.balance_id == "bal_1.money"
        await here.core.balances.top_up(OPERATOR_CALLER, ENDPOINT, "", TEN, "enough")
        await here.core.fold()
        assert await here.wallets.store.low_rules(here.core.clock.now_ms(), "", 10) == []


async def test_two_endpoints_of_an_enterprise_have_rules(valkey_url, journal_url, ledger_url):
    async with till(valkey_url, journal_url, ledger_url) as here:
        (other,) = more(here, 1)
        method = await here.method()
        await here.rule(method)
        await here.rule(method, endpoint_id=other)


async def test_a_sub_account_takes_nothing_from_the_wallet_of_its_enterprise(valkey_url, journal_url, ledger_url):
    async with till(valkey_url, journal_url, ledger_url) as here:
        here.core.terms.change(replace(here.core.terms.endpoints[ENDPOINT], account_id="acc_s"))
        await here.core.balances.top_up(OPERATOR_CALLER, "", ENTERPRISE, Money("EUR", 100 * EUR), "wallet")
        with pytest.raises(MeterlineError, match="NOT_THE_PAYER"):
            await here.wallets.owner(SUB, ENDPOINT, "")
        await here.tick()
        assert await here.money(ENTERPRISE) == 100 * EUR


async def test_rules_that_cannot_act_hold_up_no_other(valkey_url, journal_url, ledger_url):
    async with till(valkey_url, journal_url, ledger_url) as here:
        method = await here.method()
        names = more(here, 21)
        rules = [await here.rule(method, endpoint_id=name, monthly_count_max=1) for name in names]
        async with here.wallets.store.transaction() as connection:  # twenty have used up their month
            for rule in rules[:20]:
                used = replace(rule, month=month_of(here.core.clock.now_ms()), month_count=1, version=2)
                await here.wallets.store.change(used, connection)
        for _ in range(3):
            await here.tick()
        assert await here.money(names[20]) == TEN.micros


async def test_a_provider_that_does_not_answer_holds_up_no_other_payment(valkey_url, journal_url, ledger_url):
    async with till(valkey_url, journal_url, ledger_url) as here:
        slow, quick = await here.method("tok_delay_60s"), await here.method()
        (other,) = more(here, 1)
        await here.rule(slow)
        work = asyncio.create_task(here.cashier.run())
        await asyncio.sleep(1.5)
        await here.rule(quick, endpoint_id=other)
        await asyncio.sleep(3)
        work.cancel()
        assert await here.money(other) == TEN.micros


async def test_a_rule_made_twice_at_once_is_refused_once(valkey_url, journal_url, ledger_url):
    async with till(valkey_url, journal_url, ledger_url) as here:
        method = await here.method()
        made = await asyncio.gather(*(here.rule(method) for _ in range(8)), return_exceptions=True)
        failures = [each for each in made if isinstance(each, BaseException)]
        assert len(failures) == 7
        assert {getattr(each, "reason", repr(each)[:80]) for each in failures} == {"OWNER_HAS_RULE"}


async def test_a_method_deleted_while_a_payment_begins_is_kept_or_the_payment_refused(
    valkey_url, journal_url, ledger_url
):
    async with till(valkey_url, journal_url, ledger_url) as here:
        owner = await here.wallets.owner(OPERATOR_CALLER, ENDPOINT, "")

        async def forget(method: PaymentMethod) -> None:
            async with here.wallets.store.transaction() as connection:
                await here.wallets.remove_method(here.writing(connection), method.id)

        async def begin(method: PaymentMethod) -> None:
            async with here.wallets.store.transaction() as connection:
                found = await here.wallets.method_for(OPERATOR_CALLER, method.id, owner, connection)
                await here.wallets.add_payment(here.writing(connection), owner, found, TEN)

        for _ in range(10):
            method = await here.method()
            await asyncio.gather(begin(method), forget(method), return_exceptions=True)
        await here.tick()
        stuck = [each for each in await here.payments() if each.state is PaymentState.UNKNOWN]
        assert stuck == []


async def test_a_payment_made_elsewhere_is_waited_for(valkey_url, journal_url, ledger_url):
    async with till(valkey_url, journal_url, ledger_url) as here:
        method = await here.method("tok_delay_500ms")
        owner = await here.wallets.owner(OPERATOR_CALLER, ENDPOINT, "")
        async with here.wallets.store.transaction() as connection:
            made = await here.wallets.add_payment(here.writing(connection), owner, method, TEN)
        other = asyncio.create_task(here.cashier.advance(made))
        await asyncio.sleep(0.1)
        settled = await here.cashier.settle(made.id)
        await other
        assert settled.state is PaymentState.CREDITED
