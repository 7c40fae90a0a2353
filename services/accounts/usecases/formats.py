"""What is wrong with numbers, codes and addresses of the trade; an empty answer is nothing."""

import re
from functools import cache

import phonenumbers
from babel import Locale
from babel.numbers import get_territory_currencies
from stdnum.eu import vat

from services.common.timezones import time_zones

_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s.]+(\.[^@\s.]+)+")
_ALPHA_2 = re.compile(r"[A-Z]{2}")
_NOT_COUNTRIES = frozenset({"AC", "CP", "CQ", "DG", "EA", "EU", "EZ", "IC", "QO", "TA", "UN", "XA", "XB", "ZZ"})
"""What CLDR lists beside the countries of ISO 3166-1; XK (Kosovo) stays, its networks are real."""
_GREECE = {"GR": "EL"}


@cache
def countries() -> frozenset[str]:
    """Alpha-2 codes of ISO 3166-1, as CLDR knows them."""
    return frozenset(filter(_ALPHA_2.fullmatch, map(str, Locale("en").territories))) - _NOT_COUNTRIES


@cache
def currencies() -> frozenset[str]:
    """ISO 4217 codes of what is legal tender somewhere now."""
    return frozenset(currency for country in countries() for currency in get_territory_currencies(country))


@cache
def _vat_prefixes() -> frozenset[str]:
    return frozenset(_GREECE.get(code.upper(), code.upper()) for code in vat.MEMBER_STATES)


def wrong_country(code: str) -> str:
    """ISO 3166-1 alpha-2."""
    return "" if code in countries() else f"{code!r} is not a country of ISO 3166-1"


def wrong_currency(code: str) -> str:
    """ISO 4217."""
    return "" if code in currencies() else f"{code!r} is not a currency of ISO 4217 that is in use"


def wrong_time_zone(name: str) -> str:
    """IANA time zone database."""
    return "" if name in time_zones() else f"{name!r} is not a time zone of the IANA database"


def wrong_phone(number: str) -> str:
    """E.164, and in use by the numbering plan of its country."""
    try:
        parsed = phonenumbers.parse(number, None)
    except phonenumbers.NumberParseException:
        return "is not a phone number in E.164 form, such as +3225476111"
    if not phonenumbers.is_valid_number(parsed):
        return "is not a number of its country's numbering plan"
    return ""


def plain_phone(number: str) -> str:
    """A right phone number without spaces and signs."""
    return phonenumbers.format_number(phonenumbers.parse(number, None), phonenumbers.PhoneNumberFormat.E164)


def wrong_email(address: str) -> str:
    """`local@domain`; whether it is read, nobody can tell from its form."""
    return "" if _EMAIL.fullmatch(address) else "is not an e-mail address"


def wrong_vat(number: str, country: str) -> str:
    """Form and check digits of the EU member states; other countries' numbers are kept as they are.

    Args:
        number: VAT number with its country prefix.
        country: ISO 3166-1 code of the company's country.
    """
    prefix = number[:2].upper()
    if prefix in _vat_prefixes():
        return "" if vat.is_valid(number) else f"is not a VAT number of {prefix}: form or check digits are wrong"
    if _GREECE.get(country, country) in _vat_prefixes() and not prefix.isalpha():
        return f"needs its country prefix, for example {_GREECE.get(country, country)}{number}"
    return ""


def plain_vat(number: str) -> str:
    """A right VAT number without spaces and signs, where its form is known."""
    return str(vat.compact(number)) if number[:2].upper() in _vat_prefixes() else number
