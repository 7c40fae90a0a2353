"""Which payment provider a process gets, and that no message tells a secret."""

import pytest
from pydantic import ValidationError

from services.common.clock import SystemClock
from services.common.errors import FailedPreconditionError
from services.rating.payments.choosing import provider_for
from services.rating.ports import PaymentProvider
from services.rating.settings import RatingSettings
from services.runtime.database import Database

REQUIRED = {
    "METERLINE_SERVICE_SECRET": "s" * 48,
    "METERLINE_RATING_DATABASE_URL": "sqlite+aiosqlite:///ledger.sqlite",
    "METERLINE_RATING_JOURNAL_URL": "sqlite+aiosqlite:///journal.sqlite",
}
LIVE_KEY = "sk_live_51HarbourLighthouseKeeper"


def provider_with(monkeypatch: pytest.MonkeyPatch, **environment: str) -> PaymentProvider:
    for name, value in {
        **REQUIRED,
        **{f"METERLINE_RATING_{name}": value for name, value in environment.items()},
    }.items():
        monkeypatch.setenv(name, value)
    settings = RatingSettings()  # type: ignore[call-arg] # the environment gives them
    return provider_for(settings, Database(REQUIRED["METERLINE_RATING_DATABASE_URL"]), SystemClock())


def test_who_says_nothing_gets_the_sandbox(monkeypatch):
    assert provider_with(monkeypatch).name == "sandbox"


def test_the_sandbox_says_at_the_start_that_it_pretends(monkeypatch, capsys):
    provider_with(monkeypatch, PAYMENT_PROVIDER="sandbox")
    said = capsys.readouterr()
    assert "payments are pretended" in said.out + said.err


@pytest.mark.parametrize(
    ("key", "base_url"),
    [
        (LIVE_KEY, "https://api.stripe.com"),
        ("rk_live_1", "https://api.stripe.com/"),
        ("sk_test_1", "http://127.0.0.1:12111"),
    ],
)
def test_stripe_is_used_with_a_secret_key(monkeypatch, key, base_url):
    provider = provider_with(monkeypatch, PAYMENT_PROVIDER="stripe", STRIPE_API_KEY=key, STRIPE_BASE_URL=base_url)
    assert provider.name == "stripe"


@pytest.mark.parametrize(
    ("key", "base_url", "reason"),
    [
        ("", "https://api.stripe.com", "STRIPE_API_KEY_MISSING"),
        ("pk_live_51Harbour", "https://api.stripe.com", "STRIPE_API_KEY_INVALID"),
        (f"{LIVE_KEY}\n", "https://api.stripe.com", "STRIPE_API_KEY_INVALID"),
        (f"Bearer {LIVE_KEY}", "https://api.stripe.com", "STRIPE_API_KEY_INVALID"),
        (LIVE_KEY, "http://api.stripe.com", "STRIPE_BASE_URL_INSECURE"),
    ],
)
def test_stripe_without_what_it_needs_is_told_at_the_start_and_not_at_the_first_payment(
    monkeypatch, key, base_url, reason
):
    with pytest.raises(FailedPreconditionError) as told:
        provider_with(monkeypatch, PAYMENT_PROVIDER="stripe", STRIPE_API_KEY=key, STRIPE_BASE_URL=base_url)
    assert told.value.reason == reason
    assert "METERLINE_RATING_STRIPE_" in told.value.message
    assert not key or key.strip() not in repr(told.value)


def test_wrong_settings_are_told_without_the_secrets_among_them(monkeypatch):
    with pytest.raises(ValidationError) as told:
        provider_with(monkeypatch, PAYMENT_PROVIDER="striped", STRIPE_API_KEY=LIVE_KEY)
    assert "METERLINE_RATING_PAYMENT_PROVIDER" in str(told.value)
    assert LIVE_KEY not in str(told.value)
    monkeypatch.setenv("METERLINE_SERVICE_SECRET", "short-secret")
    with pytest.raises(ValidationError) as told:
        RatingSettings()  # type: ignore[call-arg] # the environment gives them
    assert "short-secret" not in str(told.value)
