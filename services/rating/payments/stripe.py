"""Payments by Stripe: PaymentIntents that are confirmed while the customer is away.

A charge is created and confirmed in one call under an idempotency key, which Stripe remembers for at least 24 hours:
https://docs.stripe.com/api/idempotent_requests. What it remembers is its first answer, so that an answer which may
have changed since (`processing`), or which says nothing (a 500), is followed by a look at the PaymentIntent itself.
Error messages of Stripe and of the network never leave this module: only types, codes and request ids do.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import stripe

from services.common.errors import invalid
from services.common.money import Money
from services.rating.domain.payments import Confirmed, Declined, Outcome, PaymentMethod, UnknownOutcomeError
from services.rating.payments.minor_units import to_minor_units

BASE_URL = "https://api.stripe.com"
ANSWER_S_MAX = 25.0
"""Longest wait for one answer of Stripe."""
CALL_S_MAX = 45.0
"""Longest charge or find, all its questions together; below CLAIM_MS of a payment."""
PAGE_SIZE = 100
LOOKED_AT_MAX = 10_000
"""PaymentIntents of a customer that find looks through, newest first, a page at a time."""
CODE_LENGTH_MAX = 64
METADATA_KEY = "meterline_payment"

_TOKEN = re.compile(r"pm_\w{1,250}", re.ASCII)
_CUSTOMER = re.compile(r"cus_\w{1,250}", re.ASCII)
_MINIMUM = {
    "AED": 200, "ARS": 50, "AUD": 50, "BGN": 100, "BRL": 50, "CAD": 50, "CHF": 50, "COP": 50, "CZK": 1500, "DKK": 250,
    "EUR": 50, "GBP": 30, "HKD": 400, "HUF": 17500, "IDR": 50, "ILS": 50, "INR": 50, "JPY": 50, "KRW": 50, "MXN": 1000,
    "MYR": 200, "NOK": 300, "NZD": 50, "PHP": 50, "PLN": 200, "RON": 200, "RUB": 50, "SEK": 300, "SGD": 50, "THB": 1000,
    "USD": 50, "ZAR": 50,
}  # fmt: skip
"""Smallest charges in minor units, as https://docs.stripe.com/currencies has them. Of other currencies Stripe itself
says `amount_too_small`, which is a decline."""


class StripeProvider:
    """Collects money through an account at Stripe.

    Args:
        api_key: secret or restricted key that may write PaymentIntents.
        base_url: where the API is.
        answer_s: longest wait for one answer.
    """

    name = "stripe"

    def __init__(self, api_key: str, base_url: str = BASE_URL, answer_s: float = ANSWER_S_MAX) -> None:
        self._http = stripe.HTTPXClient(timeout=answer_s)
        # No retries in the library: an open payment is repeated by its worker, which survives a restart.
        client = stripe.StripeClient(
            api_key, base_addresses={"api": base_url}, http_client=self._http, max_network_retries=0
        )
        self._intents = client.v1.payment_intents

    async def charge(self, key: str, method: PaymentMethod, amount: Money) -> Outcome:
        """Collect money once for a key. Repeat it, unchanged, only within KEY_LIFE_MS of the first time.

        Raises:
            UnknownOutcomeError: Stripe did not say whether it took the money.
        """
        async with _answered():
            try:
                intent = await self._intents.create_async(
                    {
                        "amount": to_minor_units(amount),
                        "currency": amount.currency.lower(),
                        "customer": method.customer,
                        "payment_method": method.token,
                        "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
                        "confirm": True,
                        "off_session": True,
                        "metadata": {METADATA_KEY: key},
                    },
                    {"idempotency_key": key},
                )
            except (stripe.CardError, stripe.InvalidRequestError) as error:
                return await self._refused(error)
            except stripe.APIError as error:
                if (error.http_status or 0) < 500:
                    raise
                found = await self._look_for(key, method, PAGE_SIZE)
                if found is None:
                    raise
                return await self._outcome(found, amount)
            if intent.status == "processing":  # perhaps an answer from hours ago
                intent = await self._intents.retrieve_async(intent.id)
            return await self._outcome(intent, amount)

    async def find(self, key: str, method: PaymentMethod, amount: Money) -> Outcome | None:
        """What became of a charge, once its key may be forgotten. None if Stripe never had it.

        A charge that is still on its way to Stripe cannot be found: ask only when no call of it can be under way.

        Raises:
            UnknownOutcomeError: it is in progress, or Stripe did not say.
        """
        async with _answered():
            intent = await self._look_for(key, method, LOOKED_AT_MAX)
            return None if intent is None else await self._outcome(intent, amount)

    def check(self, method: PaymentMethod) -> None:
        """Refuse what is no PaymentMethod of a Customer; Stripe charges no other while the customer is away."""
        if not _TOKEN.fullmatch(method.token):
            raise invalid("token", "send the id of a Stripe PaymentMethod: pm_...", "TOKEN_UNKNOWN")
        if not _CUSTOMER.fullmatch(method.customer):
            raise invalid("customer", "send the id of the Stripe Customer that it is attached to: cus_...")

    def require_payable(self, amount: Money) -> None:
        """Refuse what is not whole minor units, or below Stripe's minimum for the currency."""
        minor, least = to_minor_units(amount), _MINIMUM.get(amount.currency, 1)
        if minor < least:
            smallest = Money(amount.currency, amount.micros * least // minor)
            raise invalid("amount", f"Stripe collects no less than {smallest}", "AMOUNT_NOT_PAYABLE")

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.close_async()  # type: ignore[no-untyped-call] # the library has no type for it

    async def _look_for(self, key: str, method: PaymentMethod, at_most: int) -> stripe.PaymentIntent | None:
        """The PaymentIntent of a key. By the list, which is complete at once; the search index lags behind."""
        looked_at = 0
        page = await self._intents.list_async({"customer": method.customer, "limit": PAGE_SIZE})
        async for intent in page.auto_paging_iter():
            if intent.metadata.to_dict().get(METADATA_KEY) == key:
                return intent
            looked_at += 1
            if looked_at == at_most:
                raise UnknownOutcomeError(f"Stripe: not among the last {at_most} PaymentIntents of the customer")
        return None

    async def _outcome(self, intent: stripe.PaymentIntent, amount: Money) -> Outcome:
        """What a PaymentIntent says; one that waits for somebody is ended, so that a decline stays one."""
        if (intent.amount, intent.currency.upper()) != (to_minor_units(amount), amount.currency):
            raise UnknownOutcomeError(f"Stripe: {intent.id} is of another amount")
        if intent.status == "succeeded":
            return Confirmed(intent.id)
        if intent.status == "processing":
            raise UnknownOutcomeError(f"Stripe: {intent.id} is processing")
        if intent.status == "requires_action":
            return await self._ended(intent.id, "authentication_required")
        error = intent.last_payment_error
        code = getattr(error, "decline_code", None) or getattr(error, "code", None) or intent.cancellation_reason
        return await self._ended(intent.id, code or intent.status)

    async def _refused(self, error: stripe.CardError | stripe.InvalidRequestError) -> Outcome:
        said = error.error
        if said is None:
            raise error
        code = said.decline_code or said.code or said.type or "refused"
        if said.payment_intent is None:
            return Declined(_code(code))
        return await self._ended(said.payment_intent.id, code)

    async def _ended(self, intent_id: str, code: str) -> Outcome:
        """Cancel a PaymentIntent that was not paid: nobody can pay it later, when nobody expects it any more."""
        try:
            intent = await self._intents.cancel_async(intent_id)
        except stripe.InvalidRequestError:  # it is ended already, one way or the other
            intent = await self._intents.retrieve_async(intent_id)
        if intent.status == "canceled":
            return Declined(_code(code), intent.id)
        if intent.status == "succeeded":
            return Confirmed(intent.id)
        raise UnknownOutcomeError(f"Stripe: {intent.id} was declined ({_code(code)}) and is {intent.status}")


@asynccontextmanager
async def _answered() -> AsyncIterator[None]:
    """Turn everything that is no answer into UnknownOutcomeError, without the words of others."""
    try:
        async with asyncio.timeout(CALL_S_MAX):
            yield
    except TimeoutError:
        raise UnknownOutcomeError(f"Stripe: no answer in {CALL_S_MAX:.0f} s") from None
    except AttributeError:  # how an object of the library says that a field is missing
        raise UnknownOutcomeError("Stripe: the answer has another shape than a PaymentIntent") from None
    except stripe.StripeError as error:
        said = (type(error).__name__, error.http_status, error.error.code if error.error else None, error.request_id)
        raise UnknownOutcomeError("Stripe: " + " ".join(str(word) for word in said if word)) from None


def _code(text: str) -> str:
    return text[:CODE_LENGTH_MAX]
