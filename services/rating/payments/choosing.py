"""Which payment provider a process uses."""

import re

from services.common.clock import Clock
from services.common.errors import FailedPreconditionError
from services.rating.payments.sandbox import SandboxProvider
from services.rating.payments.stripe import StripeProvider
from services.rating.ports import PaymentProvider
from services.rating.settings import RatingSettings
from services.runtime.database import Database
from services.runtime.telemetry import logger

_SECRET_KEY = re.compile(r"[sr]k_(?P<mode>\w+?)_\w+", re.ASCII)


def provider_for(settings: RatingSettings, ledger: Database, clock: Clock) -> PaymentProvider:
    """The provider that the settings name; whoever asks closes it.

    Raises:
        FailedPreconditionError: Stripe cannot be used with these settings. The message never tells the key.
    """
    if settings.payment_provider == "sandbox":
        logger("payments").warning("payments are pretended", provider="sandbox")
        return SandboxProvider(ledger, clock)
    api_key, base_url = settings.stripe_api_key.get_secret_value(), settings.stripe_base_url.rstrip("/")
    if not api_key:
        raise FailedPreconditionError(
            "STRIPE_API_KEY_MISSING",
            "METERLINE_RATING_PAYMENT_PROVIDER is stripe: set METERLINE_RATING_STRIPE_API_KEY to the secret key of the"
            " account at Stripe, or set the provider to sandbox.",
        )
    kind = _SECRET_KEY.fullmatch(api_key)
    if kind is None:
        raise FailedPreconditionError(
            "STRIPE_API_KEY_INVALID",
            "METERLINE_RATING_STRIPE_API_KEY is no secret key of Stripe: set one that begins with sk_ or rk_.",
        )
    if not base_url.startswith("https://") and kind["mode"] != "test":
        raise FailedPreconditionError(
            "STRIPE_BASE_URL_INSECURE",
            "METERLINE_RATING_STRIPE_BASE_URL must begin with https://, for the secret key is sent there.",
        )
    return StripeProvider(api_key, base_url)
