"""The numbers of a SIM: ICCID (ITU-T E.118), IMSI (ITU-T E.212), MSISDN (ITU-T E.164)."""

import phonenumbers
from stdnum import imsi as stdnum_imsi
from stdnum import luhn

ICCID_CHECKED_DIGITS_MIN = 19
"""From here on the last digit is the check digit; 18 digits are a number without it."""


def wrong_iccid(iccid: str) -> str:
    """Say what is wrong with an ICCID of 18 to 20 digits, or nothing."""
    if not iccid.startswith("89"):
        return "must begin with 89, the telecommunication industry (ITU-T E.118)"
    if len(iccid) >= ICCID_CHECKED_DIGITS_MIN and not luhn.is_valid(iccid):
        return f"has a wrong check digit; after {iccid[:-1]} it is {luhn.calc_check_digit(iccid[:-1])} (Luhn)"
    return ""


def wrong_imsi(imsi: str) -> str:
    """Say what is wrong with an IMSI of 14 or 15 digits, or nothing."""
    return "" if stdnum_imsi.is_valid(imsi) else "must begin with the MCC and MNC of a known network (ITU-T E.212)"


def wrong_msisdn(msisdn: str) -> str:
    """Say what is wrong with an MSISDN, or nothing; it may be left out."""
    if not msisdn:
        return ""
    try:
        possible = phonenumbers.is_possible_number(phonenumbers.parse(f"+{msisdn}"))
    except phonenumbers.NumberParseException:
        possible = False
    return "" if possible else "must be a country code and a national number of possible length (ITU-T E.164)"
