"""Money, moments and update masks at the edge."""

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.money_pb2 import Money as MoneyMessage
from hypothesis import given
from hypothesis import strategies as st

from meterline.accounts.v1 import accounts_pb2, companies_pb2
from services.accounts.convert.accounts import account_changes
from services.accounts.convert.companies import company_changes
from services.accounts.convert.values import milliseconds, money_from_proto, money_to_proto
from services.accounts.domain.companies import Address, Company, CompanyType
from services.accounts.usecases.changes import changed
from services.common.errors import InvalidArgumentError
from services.common.money import MAX_MICROS, Money


@given(st.integers(0, MAX_MICROS))
def test_money_goes_to_the_wire_and_back_to_the_micro(micros):
    assert money_from_proto(money_to_proto(Money("EUR", micros)), "f") == Money("EUR", micros)


@pytest.mark.parametrize(
    ("units", "nanos"),
    [(-1, 0), (0, -1000), (0, 1), (0, 999), (0, 1_000_000_000), (2**53 // 1_000_000 + 1, 0), (2**63 - 1, 0)],
)
def test_money_that_is_negative_finer_than_micros_or_too_large_is_refused(units, nanos):
    with pytest.raises(InvalidArgumentError):
        money_from_proto(MoneyMessage(currency_code="EUR", units=units, nanos=nanos), "f")


@pytest.mark.parametrize("seconds", [-1, 253_402_300_800, 2**63 - 1, -(2**63)])
def test_a_moment_outside_what_a_timestamp_holds_is_refused(seconds):
    with pytest.raises(InvalidArgumentError):
        milliseconds(Timestamp(seconds=seconds), "f")


def update(paths=(), **fields):
    return accounts_pb2.UpdateAccountRequest(account=accounts_pb2.Account(**fields), update_mask=FieldMask(paths=paths))


def test_without_a_mask_what_is_set_changes():
    assert account_changes(update(id="acc_1", name="N", notes="x", etag="3")) == {"name": "N", "notes": "x"}


def test_a_masked_field_that_is_not_set_is_cleared():
    changes = account_changes(update(["notes", "credit_limit", "billing_cycle_day"], name="N"))
    assert changes == {"notes": "", "credit_limit": None, "billing_cycle_day": 1}


def test_output_only_fields_in_a_mask_are_ignored():
    assert account_changes(update(["state", "path", "create_time", "id"], state=4)) == {}


@pytest.mark.parametrize("path", ["nome", "credit_limit.units", "name.x", "*", "", "__class__"])
def test_a_path_that_is_no_field_is_refused(path):
    with pytest.raises(InvalidArgumentError, match="FIELD_UNKNOWN"):
        account_changes(update([path], name="N"))


def test_an_address_changes_as_a_whole_or_in_part():
    company = Company(type=CompanyType.CUSTOMER, address=Address(country="BE", city="Brussels"))
    request = companies_pb2.UpdateCompanyRequest(
        company=companies_pb2.Company(address=companies_pb2.Address(city="Ghent"))
    )
    request.update_mask.paths.append("address.city")
    assert changed(company, company_changes(request)).address == Address(country="BE", city="Ghent")
    request.update_mask.paths[:] = ["address"]
    assert changed(company, company_changes(request)).address == Address(city="Ghent")
