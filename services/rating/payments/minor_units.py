"""Amounts as payment providers count them: whole minor units, by Stripe's published rules.

See https://docs.stripe.com/currencies: most currencies have two decimals; the exceptions stand here.
"""

from services.common.errors import invalid
from services.common.money import MICROS, Money

_NO_DECIMALS = frozenset(
    {"BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF"}
)
_THREE_DECIMALS = frozenset({"BHD", "JOD", "KWD", "OMR", "TND"})
_AMBIGUOUS = frozenset({"UGX"})
"""Stripe lists the shilling as having no decimals and also asks for two: a wrong guess is a hundredfold charge."""


def to_minor_units(amount: Money) -> int:
    """Whole minor units of an amount, such as cents.

    Raises:
        InvalidArgumentError: the amount is not above zero, has a fraction that the currency does not have, or
            is in a currency whose minor unit is not certain.
    """
    if amount.currency in _AMBIGUOUS:
        raise invalid("amount", f"{amount.currency} cannot be collected; use another currency", "CURRENCY_NOT_PAYABLE")
    if amount.micros <= 0:
        raise invalid("amount", "must be above zero", "AMOUNT_NOT_PAYABLE")
    unit = _micros_a_minor_unit(amount.currency)
    minor, rest = divmod(amount.micros, unit)
    step = _step(amount.currency)
    if rest or minor % step:
        smallest = Money(amount.currency, step * unit)
        raise invalid("amount", f"{amount} is not a multiple of {smallest}; round it", "AMOUNT_NOT_PAYABLE")
    return minor


def _micros_a_minor_unit(currency: str) -> int:
    if currency in _NO_DECIMALS:
        return MICROS
    return MICROS // 1000 if currency in _THREE_DECIMALS else MICROS // 100


def _step(currency: str) -> int:
    """Minor units that an amount must be a multiple of: no fraction of a krona, no third decimal of a dinar."""
    if currency == "ISK":
        return 100
    return 10 if currency in _THREE_DECIMALS else 1
