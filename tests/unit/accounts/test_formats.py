"""Numbers and codes of the trade: right, wrong, and at the border."""

import pytest

from services.accounts.usecases.formats import (
    countries,
    currencies,
    plain_phone,
    plain_vat,
    wrong_country,
    wrong_currency,
    wrong_email,
    wrong_phone,
    wrong_time_zone,
    wrong_vat,
)


@pytest.mark.parametrize("code", ["BE", "US", "AQ", "XK"])
def test_countries_of_iso_3166_are_known(code):
    assert wrong_country(code) == ""


@pytest.mark.parametrize("code", ["EU", "ZZ", "XA", "UK", "QO"])
def test_what_only_looks_like_a_country_is_not_one(code):
    assert wrong_country(code)


def test_there_are_the_249_countries_of_iso_3166_and_kosovo():
    assert len(countries()) == 250


@pytest.mark.parametrize("code", ["EUR", "USD", "JPY", "BHD", "XOF"])
def test_currencies_in_use_are_known(code):
    assert wrong_currency(code) == ""


@pytest.mark.parametrize("code", ["DEM", "BEF", "XAU", "XXX", "ABC"])
def test_past_and_made_up_currencies_are_not(code):
    assert wrong_currency(code)
    assert code not in currencies()


@pytest.mark.parametrize(
    ("name", "right"), [("UTC", True), ("Europe/Brussels", True), ("Mars/Base", False), ("../etc", False)]
)
def test_time_zones_are_those_of_iana(name, right):
    assert (wrong_time_zone(name) == "") is right


@pytest.mark.parametrize("number", ["+3225476111", "+32 2 547 61 11", "+1 650-253-0000"])
def test_a_phone_number_is_kept_in_e164(number):
    assert wrong_phone(number) == ""
    assert plain_phone(number) in {"+3225476111", "+16502530000"}


@pytest.mark.parametrize("number", ["", "02 547 61 11", "+32", "+999123456789", "+320", "phone", "+32254761112222"])
def test_a_number_outside_its_countrys_plan_is_wrong(number):
    assert wrong_phone(number)


@pytest.mark.requirement("R146")
@pytest.mark.parametrize(
    ("number", "country", "right"),
    [
        ("BE0866977981", "BE", True),
        ("BE 0866.977.981", "BE", True),
        ("BE0866977982", "BE", False),  # check digits
        ("0866977981", "BE", False),  # no prefix
        ("EL094259216", "GR", True),
        ("094259216", "GR", False),
        ("DE136695976", "BE", True),  # registered in another member state
        ("CHE107787577IVA", "CH", True),
        ("CHE107787577IVA", "DE", True),
        ("123456789", "US", True),
    ],
)
def test_vat_numbers_of_the_eu_are_checked_and_others_are_kept(number, country, right):
    assert (wrong_vat(number, country) == "") is right
    if right and number.startswith("BE"):
        assert plain_vat(number) == "BE0866977981"


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("a@b.eu", True),
        ("a.b+c@x.co.uk", True),
        ("a@b", False),
        ("a b@c.de", False),
        ("@c.de", False),
        ("a@@b.de", False),
        ("a@b..de", False),
    ],
)
def test_an_email_address_has_a_local_part_and_a_domain(text, right):
    assert (wrong_email(text) == "") is right
