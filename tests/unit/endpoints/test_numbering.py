import hypothesis.strategies as st
import pytest
from hypothesis import given
from stdnum import luhn

from services.endpoints.usecases.numbering import wrong_iccid, wrong_imsi, wrong_msisdn

bodies = st.builds("89{}".format, st.text("0123456789", min_size=16, max_size=17))


@given(body=bodies, digit=st.integers(0, 9))
def test_an_iccid_has_one_good_check_digit_and_a_wrong_one_is_told_the_right_one(body, digit):
    right = luhn.calc_check_digit(body)
    wrong = wrong_iccid(f"{body}{digit}")
    assert (wrong == "") == (str(digit) == right)
    assert not wrong or right in wrong


@pytest.mark.parametrize(
    ("iccid", "good"),
    [
        ("893200000000000000", True),  # 18 digits: without a check digit
        ("8944500102198304826", True),  # 19 digits with a good check digit
        ("8944500102198304827", False),
        ("1234567890123456789", False),
    ],
)
def test_eighteen_digits_carry_no_check_digit_and_nineteen_do(iccid, good):
    assert (wrong_iccid(iccid) == "") is good


@pytest.mark.parametrize(
    ("imsi", "good"),
    [
        ("206011234567890", True),  # Belgium
        ("001011234567890", True),  # test network
        ("901281234567890", True),  # international, shared code
        ("20601123456789", True),  # 14 digits
        ("000011234567890", False),
    ],
)
def test_an_imsi_begins_with_a_known_network(imsi, good):
    assert (wrong_imsi(imsi) == "") is good


@pytest.mark.parametrize(
    ("msisdn", "good"),
    [
        ("", True),
        ("32460000000", True),
        ("882161234567890", True),  # international networks
        ("883130001234567", True),
        ("99912345678", False),  # no such country
        ("3211", False),
        ("324600000000000", False),
    ],
)
def test_an_msisdn_is_a_possible_number_of_its_country(msisdn, good):
    assert (wrong_msisdn(msisdn) == "") is good
