"""Rules that watch a bundle, and payments whose balance is gone: volume for money, and money that is never lost."""

from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from services.common.clock import DAY_MS, MINUTE_MS
from services.common.errors import MeterlineError
from services.common.money import Money
from services.rating.domain.payments import Payment, PaymentMethod, PaymentState
from services.rating.domain.refills import RefillState, Rule, Source, state_of
from services.rating.domain.terms import Benefit
from services.rating.storage.tables import events
from services.rating.usecases.paying import Cashier
from tests.integration.rating.settling import require_settled
from tests.integration.rating.test_balances import assigned
from tests.integration.rating.test_charging import ENTERPRISE_CALLER
from tests.integration.rating.test_wallets import EUR, TEN, Till, till, till_of
from tests.integration.rating.world import OPERATOR_CALLER, StillTerms, world
from tests.unit.rating.terms import (
    ENDPOINT,
    ENTERPRISE,
    GB,
    MB,
    catalog,
    chain,
    endpoint,
    given,
    plan,
    tariff,
)

BUNDLE = "bal_base.b1"
YEAR_MS = 365 * DAY_MS
WHOLESALE = plan("pln_wholesale", tariff_id="tar_free")
PLAN = plan(
    "pln_bundle", prepaid=True, refillable=True, validity_ms=YEAR_MS,
    benefits=(Benefit("b1", frozenset({1}), GB, (), recurring=False),),
)  # fmt: skip
PRODUCT = {
    "threshold_micros": 0, "threshold_quantity": 100 * MB,
    "refill_quantity": GB, "refill_validity_ms": YEAR_MS, "refill_maximum": 0,
}  # fmt: skip


def bundled() -> StillTerms:
    """An endpoint with a bundle of 1 GB for a year; its enterprise has a wallet."""
    prepaid = plan("pln_prepaid", prepaid=True, tariff_id="tar_free")
    return StillTerms(
        [endpoint(assigned("base", PLAN))],
        chain(given("e", prepaid.key), given("r", WHOLESALE.key)),
        catalog(
            [PLAN, prepaid, WHOLESALE],
            [tariff("tar_free", 0)],
        ),
    )


@pytest.fixture
def ledger_url(request, database_url, tmp_path):
    return f"sqlite+aiosqlite:///{tmp_path / 'wallet_ledger.sqlite'}" if "sqlite" in database_url else database_url


@pytest.fixture
async def here(valkey_url, sqlite_url, ledger_url):
    async with world(bundled(), valkey_url, sqlite_url, ledger_url) as core:
        await core.use(850 * MB, "first")
        await core.fold()
        yield till_of(core)


async def watching(here: Till, method: PaymentMethod | None, **fields: Any) -> Rule:
    return await here.rule(method, **{"balance_id": BUNDLE, **PRODUCT, **fields})


async def bundle(here: Till) -> tuple[int, int]:
    (found,) = [each for each in await here.core.balances.of_owner(OPERATOR_CALLER, ENDPOINT, "") if each.id == BUNDLE]
    return found.remaining, found.expires_ms


async def payload(here: Till, kind: str) -> dict[str, Any]:
    async with here.core.ledger.database.reading() as connection:
        found: Any = await connection.scalar(sa.select(events.c.payload).where(events.c.type == kind))
    return dict(found)


@pytest.mark.requirement("R297", "R300", "R301", "R306")
async def test_a_bundle_below_its_threshold_is_paid_for_and_refilled_once(here):
    rule = await watching(here, await here.method())
    await here.tick()
    assert await here.payments() == [], "150 MB are left"
    await here.core.use(51 * MB, "second")
    here.core.clock.advance(DAY_MS)
    await here.tick()
    (payment,) = await here.payments()
    assert (payment.state, payment.balance_id, payment.refill_quantity) == (PaymentState.CREDITED, BUNDLE, GB)
    assert await bundle(here) == (GB + 99 * MB, here.core.clock.now_ms() + YEAR_MS)
    assert (await here.money(), await here.taken()) == (0, 1), "what was paid buys volume, no money"
    assert state_of(await here.present(rule), here.core.clock.now_ms()) is RefillState.COOLING_OFF
    assert await payload(here, "wallet.charged") == {
        "auto_refill_rule_id": rule.id, "holder_id": ENDPOINT, "endpoint_id": ENDPOINT, "balance_id": BUNDLE,
        "quantity": GB, "amount_micros": TEN.micros, "currency": "EUR",
    }  # fmt: skip
    await require_settled(here.core)


@pytest.mark.requirement("R302", "R303")
async def test_the_wallet_of_the_enterprise_pays_for_a_bundle_what_it_has(here):
    await here.core.use(100 * MB, "second")
    await watching(here, None)
    await here.tick()
    (payment,) = await here.payments()
    assert (payment.state, payment.decline_code) == (PaymentState.DECLINED, "BALANCE_TOO_SMALL")
    assert (await bundle(here))[0] == 50 * MB
    await here.core.balances.top_up(OPERATOR_CALLER, "", ENTERPRISE, Money("EUR", 15 * EUR), "stock")
    await here.tick(11 * MINUTE_MS)
    assert ((await bundle(here))[0], await here.money(ENTERPRISE)) == (GB + 50 * MB, 5 * EUR)
    await require_settled(here.core)


@pytest.mark.parametrize("source", ["method", "wallet"])
@pytest.mark.parametrize("dies", ["before it is noted", "before the refill", "after it"])
async def test_whoever_dies_on_the_way_takes_and_refills_once(dies, source, here, monkeypatch):
    await here.core.use(100 * MB, "second")
    await here.core.balances.top_up(OPERATOR_CALLER, "", ENTERPRISE, Money("EUR", 15 * EUR), "stock")
    rule = await watching(here, await here.method() if source == "method" else None)

    class Killed(BaseException):
        pass

    async def killed(*_: Any, **__: Any) -> Any:
        raise Killed

    await here.cashier._refill(rule)
    (payment,) = await here.payments()
    real = type(here.cashier.refills).refill

    async def refills_and_dies(*args: Any) -> Any:
        await real(*args)
        raise Killed

    with monkeypatch.context() as patch:
        if dies == "before it is noted":
            patch.setattr(Cashier, "_settled", killed)
        else:
            patch.setattr(
                type(here.cashier.refills), "refill", killed if dies == "before the refill" else refills_and_dies
            )
        with pytest.raises(Killed):
            await here.cashier.advance(payment)
    await here.tick(2 * MINUTE_MS)
    (payment,) = await here.payments()
    assert (payment.state, (await bundle(here))[0]) == (PaymentState.CREDITED, GB + 50 * MB)
    of_wallet = source == "wallet"
    assert (await here.taken(), await here.money(ENTERPRISE)) == (not of_wallet, (5 if of_wallet else 15) * EUR)
    await require_settled(here.core)


@pytest.mark.parametrize("source", ["method", "wallet"])
async def test_what_was_paid_for_a_bundle_that_is_gone_goes_to_the_wallet_once(source, here, monkeypatch):
    await here.core.use(100 * MB, "second")
    await here.core.balances.top_up(OPERATOR_CALLER, "", ENTERPRISE, Money("EUR", 15 * EUR), "stock")
    rule = await watching(here, await here.method() if source == "method" else None)
    await here.cashier._refill(rule)
    here.core.terms.endpoints.pop(ENDPOINT)
    here.core.terms.change()
    await here.tick()
    (payment,) = await here.payments()
    assert (payment.state, payment.redirected_from, payment.endpoint_id) == (PaymentState.CREDITED, BUNDLE, "")
    assert await here.money(ENTERPRISE) == (25 if source == "method" else 15) * EUR
    await here.tick(60 * MINUTE_MS)
    assert state_of(await here.present(rule), here.core.clock.now_ms()) is RefillState.STOPPED
    assert (await here.told())[-1] == "wallet.failed", "that it stopped is told"
    assert await here.money(ENTERPRISE) == (25 if source == "method" else 15) * EUR


async def test_what_was_added_before_the_endpoint_went_is_not_given_again(here, monkeypatch):
    await here.core.use(100 * MB, "second")
    rule = await watching(here, await here.method())
    await here.cashier._refill(rule)
    (payment,) = await here.payments()
    real = Cashier._settled

    async def dies(cashier: Cashier, changed: Payment) -> Payment:
        if changed.state is PaymentState.CREDITED:
            raise KeyboardInterrupt
        return await real(cashier, changed)

    with monkeypatch.context() as patch:
        patch.setattr(Cashier, "_settled", dies)
        with pytest.raises(KeyboardInterrupt):
            await here.cashier.advance(payment)
    here.core.terms.endpoints.pop(ENDPOINT)
    here.core.terms.change()
    await here.tick(2 * MINUTE_MS)
    (payment,) = await here.payments()
    assert (payment.state, payment.redirected_from) == (PaymentState.CREDITED, "")
    assert await here.money(ENTERPRISE) == 0


async def test_a_transfer_that_happened_before_the_endpoint_went_is_told_as_such(
    valkey_url, sqlite_url, ledger_url, monkeypatch
):
    async with till(valkey_url, sqlite_url, ledger_url) as here:
        await here.core.balances.top_up(OPERATOR_CALLER, "", ENTERPRISE, Money("EUR", 15 * EUR), "stock")
        rule = await here.rule(None)
        await here.cashier._refill(rule)
        (payment,) = await here.payments()

        async def dies(*_: Any) -> Any:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Cashier, "_settled", dies)
            with pytest.raises(KeyboardInterrupt):
                await here.cashier.advance(payment)
        assert await here.money(ENTERPRISE) == 5 * EUR
        here.core.terms.endpoints.pop(ENDPOINT)
        here.core.terms.change()
        await here.tick(2 * MINUTE_MS)
        (payment,) = await here.payments()
        assert payment.state is PaymentState.CREDITED
        assert await here.money(ENTERPRISE) == 5 * EUR


async def test_rules_of_bundles_are_checked(here):
    method = await here.method()
    for fields, reason in (
        ({"threshold_micros": EUR}, "threshold"),
        ({"threshold_quantity": 0}, "threshold_quantity"),
        ({"refill_quantity": 0}, "product.quantity"),
        ({"refill_maximum": MB}, "product.maximum"),
        ({"balance_id": "bal_base.b9"}, "BALANCE_NOT_FOUND"),
        ({"balance_id": ""}, "threshold"),
    ):
        with pytest.raises(MeterlineError, match=reason):
            await watching(here, method, **fields)
    with pytest.raises(MeterlineError, match="CURRENCY_MISMATCH"):
        await watching(here, None, currency="USD")
    rule = await watching(here, method)
    assert (rule.source, rule.account_id) == (Source.PAYMENT_METHOD, ENTERPRISE)
    with pytest.raises(MeterlineError, match="OWNER_HAS_RULE"):
        await watching(here, method)


async def test_an_account_does_not_say_itself_what_its_bundle_costs(here):
    accounts = list(here.core.terms.accounts)
    base = assigned("own", PLAN)
    here.core.terms.change(chain=[replace(accounts[0], base=base, version=9), *accounts[1:]])
    await here.core.use(MB, "more")
    await here.core.fold()
    method = await here.method()
    fields = {"endpoint_id": "", "account_id": ENTERPRISE, "balance_id": "bal_own.b1"}
    wanted = Rule(
        **{
            "currency": "EUR",
            "amount_micros": EUR,
            "source": Source.PAYMENT_METHOD,
            "method_id": method.id,
            **PRODUCT,
            **fields,
        }
    )
    owner = await here.wallets.owner(OPERATOR_CALLER, "", ENTERPRISE)
    async with here.wallets.store.transaction() as connection:
        with pytest.raises(MeterlineError, match="NOT_THE_SELLER"):
            await here.rules.add(here.writing(connection, ENTERPRISE_CALLER), wanted, owner)
        made = await here.rules.add(here.writing(connection, OPERATOR_CALLER), wanted, owner)
    assert made.balance_id == "bal_own.b1"
