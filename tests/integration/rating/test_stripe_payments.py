"""Payments by Stripe, against a server that speaks its endpoints: each answer, and each way to get none."""

import logging
import traceback

import pytest
import pytest_asyncio
from starlette.responses import JSONResponse

from services.common.errors import InvalidArgumentError
from services.common.money import Money
from services.rating.domain.payments import Confirmed, Declined, PaymentMethod, UnknownOutcomeError
from services.rating.payments.stripe import StripeProvider
from tests.integration.rating.stripe_server import SECRET_KEY, Dropped, StripeServer, not_stripe, refusal, stripe_server

TEN_EUR = Money("EUR", 10_000_000)
VISA = PaymentMethod(account_id="acc_1", provider="stripe", token="pm_card_visa", customer="cus_1")


def paying_with(token: str) -> PaymentMethod:
    return PaymentMethod(account_id="acc_1", provider="stripe", token=token, customer="cus_1")


@pytest_asyncio.fixture
async def server():
    async with stripe_server() as running:
        yield running


@pytest_asyncio.fixture
async def stripe(server):
    provider = StripeProvider(SECRET_KEY, server.url)
    yield provider
    await provider.aclose()


def statuses(server: StripeServer) -> list[str]:
    return [intent["status"] for intent in server.intents.values()]


async def test_a_charge_is_one_confirmed_payment_intent_while_the_customer_is_away(stripe, server):
    assert await stripe.charge("pay_1", VISA, TEN_EUR) == Confirmed(next(iter(server.intents)))
    assert server.forms == [
        {
            "amount": "1000",
            "currency": "eur",
            "customer": "cus_1",
            "payment_method": "pm_card_visa",
            "automatic_payment_methods[enabled]": "true",
            "automatic_payment_methods[allow_redirects]": "never",
            "confirm": "true",
            "off_session": "true",
            "metadata[meterline_payment]": "pay_1",
        }
    ]


async def test_a_repeat_under_its_key_collects_once(stripe, server):
    first = await stripe.charge("pay_1", VISA, TEN_EUR)
    assert await stripe.charge("pay_1", VISA, TEN_EUR) == first
    assert await stripe.charge("pay_2", VISA, TEN_EUR) != first
    assert statuses(server) == ["succeeded", "succeeded"]


@pytest.mark.parametrize(
    ("token", "code"),
    [
        ("pm_card_visa_chargeDeclined", "generic_decline"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "insufficient_funds"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card"),
        ("pm_card_authenticationRequired", "authentication_required"),
        ("pm_action", "authentication_required"),
    ],
)
async def test_what_is_declined_is_cancelled_so_that_nobody_can_pay_it_later(stripe, server, token, code):
    declined = await stripe.charge("pay_1", paying_with(token), TEN_EUR)
    assert declined == Declined(code, next(iter(server.intents)))
    assert statuses(server) == ["canceled"]
    assert await stripe.charge("pay_1", paying_with(token), TEN_EUR) == declined
    if token != "pm_action":  # of that, nothing of the reason remains at Stripe
        assert await stripe.find("pay_1", paying_with(token), TEN_EUR) == declined


async def test_a_decline_whose_cancellation_got_no_answer_is_not_settled_yet(stripe, server):
    card = paying_with("pm_card_visa_chargeDeclined")
    server.before = [None, Dropped]
    with pytest.raises(UnknownOutcomeError):
        await stripe.charge("pay_1", card, TEN_EUR)
    assert statuses(server) == ["requires_payment_method"]
    assert await stripe.find("pay_1", card, TEN_EUR) == Declined("generic_decline", next(iter(server.intents)))
    assert statuses(server) == ["canceled"]


async def test_a_declined_intent_that_somebody_paid_meanwhile_is_confirmed(stripe, server):
    card = paying_with("pm_card_visa_chargeDeclined")
    await stripe.charge("pay_1", card, TEN_EUR)
    intent = next(iter(server.intents.values()))
    intent["status"] = "succeeded"
    assert await stripe.charge("pay_1", card, TEN_EUR) == Confirmed(intent["id"])


async def test_a_payment_in_progress_is_unknown_until_stripe_says_more_than_its_first_answer(stripe, server):
    account = paying_with("pm_usBankAccount")
    for ask in (stripe.charge, stripe.find):
        with pytest.raises(UnknownOutcomeError, match="processing"):
            await ask("pay_1", account, TEN_EUR)
    intent = next(iter(server.intents.values()))
    intent["status"] = "succeeded"
    assert await stripe.charge("pay_1", account, TEN_EUR) == Confirmed(intent["id"])
    assert await stripe.find("pay_1", account, TEN_EUR) == Confirmed(intent["id"])
    assert len(server.intents) == 1


async def test_what_stripe_does_not_know_is_a_decline_and_leaves_nothing(stripe, server):
    assert await stripe.charge("pay_1", paying_with("pm_missing"), TEN_EUR) == Declined("resource_missing")
    server.before = [refusal(400, "invalid_request_error", "amount_too_large")]
    assert await stripe.charge("pay_2", VISA, TEN_EUR) == Declined("amount_too_large")
    assert server.intents == {}


@pytest.mark.parametrize(
    "answer",
    [
        refusal(401, "invalid_request_error", "api_key_expired"),
        refusal(403, "invalid_request_error", "more_permissions_required"),
        refusal(409, "invalid_request_error", "idempotency_key_in_use"),
        refusal(429, "invalid_request_error", "rate_limit"),
        refusal(500, "api_error", None),
        refusal(503, "api_error", None),
        not_stripe,
        lambda: JSONResponse({"ok": True}),
        Dropped,
    ],
)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_without_an_answer_the_outcome_is_unknown_and_the_repeat_collects_once(stripe, server, answer, when):
    setattr(server, when, [answer, refusal(503, "api_error", None)])
    with pytest.raises(UnknownOutcomeError):
        await stripe.charge("pay_1", VISA, TEN_EUR)
    server.before, server.after = [], []
    assert isinstance(await stripe.charge("pay_1", VISA, TEN_EUR), Confirmed)
    assert statuses(server) == ["succeeded"]


async def test_a_server_error_that_stripe_saved_under_the_key_does_not_hide_the_money(stripe, server):
    confirmed = await stripe.charge("pay_1", VISA, TEN_EUR)
    server.save_as_server_error("pay_1")
    assert await stripe.charge("pay_1", VISA, TEN_EUR) == confirmed
    assert server.asked[-2:] == ["POST /v1/payment_intents", "GET /v1/payment_intents"]


async def test_in_an_outage_each_charge_asks_at_most_once_more(stripe, server):
    for number in range(101):
        await stripe.charge(f"pay_{number}", VISA, TEN_EUR)
    server.save_as_server_error("pay_0")
    server.asked.clear()
    with pytest.raises(UnknownOutcomeError, match="not among the last 100"):
        await stripe.charge("pay_0", VISA, TEN_EUR)
    assert len(server.asked) == 2


async def test_a_slow_answer_is_waited_for_only_so_long_and_found_later(server):
    provider = StripeProvider(SECRET_KEY, server.url, answer_s=0.2)
    server.stall_s = 1.0
    with pytest.raises(UnknownOutcomeError, match="APIConnectionError"):
        await provider.charge("pay_1", VISA, TEN_EUR)
    server.stall_s = 0.0
    assert isinstance(await provider.find("pay_1", VISA, TEN_EUR), Confirmed)
    await provider.aclose()


async def test_a_charge_that_takes_too_long_in_all_is_given_up(server, monkeypatch):
    monkeypatch.setattr("services.rating.payments.stripe.CALL_S_MAX", 0.2)
    provider = StripeProvider(SECRET_KEY, server.url)
    server.stall_s = 1.0
    with pytest.raises(UnknownOutcomeError, match="no answer in"):
        await provider.charge("pay_1", VISA, TEN_EUR)
    await provider.aclose()


async def test_nobody_listening_is_unknown():
    provider = StripeProvider(SECRET_KEY, "http://127.0.0.1:9")
    for ask in (provider.charge, provider.find):
        with pytest.raises(UnknownOutcomeError):
            await ask("pay_1", VISA, TEN_EUR)
    await provider.aclose()


async def test_a_payment_is_found_among_many_of_its_customer_or_was_never_there(stripe, server):
    first = await stripe.charge("pay_0", VISA, TEN_EUR)
    for number in range(1, 251):
        await stripe.charge(f"pay_{number}", VISA, TEN_EUR)
    server.asked.clear()
    assert await stripe.find("pay_0", VISA, TEN_EUR) == first
    assert len(server.asked) == 3
    assert await stripe.find("pay_251", VISA, TEN_EUR) is None


async def test_beyond_what_is_looked_through_nothing_is_said_to_be_missing(stripe, monkeypatch):
    for number in range(3):
        await stripe.charge(f"pay_{number}", VISA, TEN_EUR)
    monkeypatch.setattr("services.rating.payments.stripe.LOOKED_AT_MAX", 2)
    with pytest.raises(UnknownOutcomeError, match="not among the last 2"):
        await stripe.find("pay_0", VISA, TEN_EUR)


async def test_a_key_that_comes_back_with_another_amount_is_not_answered(stripe, server):
    await stripe.charge("pay_1", VISA, TEN_EUR)
    with pytest.raises(UnknownOutcomeError, match="IdempotencyError"):
        await stripe.charge("pay_1", VISA, Money("EUR", 20_000_000))
    with pytest.raises(UnknownOutcomeError, match="another amount"):
        await stripe.find("pay_1", VISA, Money("EUR", 20_000_000))
    assert statuses(server) == ["succeeded"]


async def test_the_secret_key_is_in_no_log_and_no_error(server, caplog, monkeypatch):
    wrong = "sk_test_wrongAndSecret"
    monkeypatch.setattr("stripe.log", "debug")
    with caplog.at_level(logging.DEBUG):
        for key, url in ((wrong, server.url), (SECRET_KEY, server.url), (SECRET_KEY, "http://127.0.0.1:9")):
            provider = StripeProvider(key, url)
            try:
                await provider.charge("pay_1", VISA, TEN_EUR)
            except UnknownOutcomeError as error:
                told = "".join(traceback.format_exception(error)) + repr(error)
                assert wrong not in told
                assert SECRET_KEY not in told
            await provider.aclose()
    assert any(record.name == "stripe" for record in caplog.records)
    others = [record.getMessage() for record in caplog.records if record.name != "uvicorn.access"]
    assert not [said for said in others if SECRET_KEY in said]


@pytest.mark.parametrize(
    ("token", "customer", "told"),
    [
        ("tok_ok", "cus_1", "pm_"),
        ("pm_", "cus_1", "pm_"),
        ("pm_1/../cancel", "cus_1", "pm_"),
        ("4242424242424242", "cus_1", "pm_"),
        ("pm_1", "", "cus_"),
        ("pm_1", "acct_1", "cus_"),
    ],
)
async def test_what_cannot_be_of_stripe_is_refused_with_what_to_send(stripe, token, customer, told):
    stripe.check(VISA)
    method = PaymentMethod(account_id="acc_1", token=token, customer=customer)
    with pytest.raises(InvalidArgumentError, match=told):
        stripe.check(method)
