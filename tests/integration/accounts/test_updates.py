"""Changing accounts and companies."""

import asyncio

import pytest

from meterline.accounts.v1 import accounts_pb2, companies_pb2, identity_pb2
from services.common.errors import MeterlineError
from tests import factories
from tests.integration.accounts.world import ENTERPRISE, RESELLER, SUB_ACCOUNT, World


@pytest.mark.requirement("R163", "R164", "R166", "R167", "R170", "R186")
async def test_an_update_changes_what_its_mask_names(world: World):
    operator = world.operator
    account = await operator.create(ENTERPRISE, operator.account_id, notes="old", device_types=["meter"])
    world.clock.advance(5)
    request = factories.update_account(
        account.id,
        ("name", "notes", "credit_limit", "application_types", "external_account_number"),
        name="new",
        application_types=["water", "gas"],
        external_account_number="A1",
        credit_limit=factories.money(5),
        device_types=["ignored"],
    )
    after = await operator(operator.accounts.UpdateAccount, request)
    assert (after.name, after.notes, list(after.application_types)) == ("new", "", ["water", "gas"])
    assert (after.external_account_number, list(after.device_types)) == ("A1", ["meter"])
    assert (after.credit_limit, after.etag) == (factories.money(5), "2")
    assert after.update_time.ToMilliseconds() == account.update_time.ToMilliseconds() + 5
    assert await operator.get(account.id) == after
    unlimited = await operator(operator.accounts.UpdateAccount, factories.update_account(account.id, ("credit_limit",)))
    assert not unlimited.HasField("credit_limit")
    assert (
        await operator(operator.accounts.UpdateAccount, factories.update_account(account.id, name="new")) == unlimited
    )


async def test_what_was_read_may_be_sent_back(small_world: World):
    world, operator = small_world, small_world.operator
    account = await operator.create(ENTERPRISE, operator.account_id, credit_limit=factories.money(3))
    for caller in (operator, await world.as_(account.id)):
        seen = await caller.get(account.id)
        seen.notes = f"by {caller.account_id}"
        after = await caller(caller.accounts.UpdateAccount, accounts_pb2.UpdateAccountRequest(account=seen))
        assert after.notes == seen.notes


async def test_of_two_updates_that_decided_on_the_same_state_one_wins(world: World):
    operator = world.operator
    account = await operator.create(RESELLER, operator.account_id)
    requests = [factories.update_account(account.id, ["name"], name=name, etag="1") for name in ("a", "b")]
    answers = await asyncio.gather(*(operator.refused(operator.accounts.UpdateAccount, r) for r in requests))
    assert sorted(answers) == ["ABORTED ETAG_MISMATCH", "OK"]
    assert (await operator.get(account.id)).etag == "2"


async def test_kind_parent_and_currency_never_change(small_world: World):
    operator = small_world.operator
    account = await operator.create(ENTERPRISE, operator.account_id)
    other = await operator.create(RESELLER, operator.account_id)
    request = factories.update_account(account.id, kind=RESELLER, parent_id=other.id, currency="USD")
    with pytest.raises(MeterlineError) as caught:
        await operator(operator.accounts.UpdateAccount, request)
    assert [(v.field, v.reason) for v in caught.value.violations] == [
        ("account.kind", "FIELD_IMMUTABLE"),
        ("account.parent_id", "FIELD_IMMUTABLE"),
        ("account.currency", "FIELD_IMMUTABLE"),
    ]
    same = factories.update_account(account.id, kind=ENTERPRISE, parent_id=operator.account_id, currency="EUR")
    assert (await operator(operator.accounts.UpdateAccount, same)).etag == "1"


@pytest.mark.requirement("R122", "R185", "R186")
async def test_terms_are_set_from_above_only(small_world: World):
    world, operator = small_world, small_world.operator
    reseller = await operator.create(RESELLER, operator.account_id)
    enterprise = await operator.create(ENTERPRISE, reseller.id)
    sub = await operator.create(SUB_ACCOUNT, enterprise.id)
    own, above = await world.as_(enterprise.id), await world.as_(reseller.id)
    for fields in (
        {"credit_limit": factories.money(10**6)},
        {"billing_cycle_day": 9},
        {"time_zone": "Asia/Tokyo"},
        {"company_id": reseller.company_id},
    ):
        request = factories.update_account(enterprise.id, **fields)
        assert await own.refused(own.accounts.UpdateAccount, request) == "PERMISSION_DENIED SET_FROM_ABOVE"
        assert await above.refused(above.accounts.UpdateAccount, request) == "OK"
        ours = factories.update_account(reseller.id, **fields)
        if "company_id" not in fields:
            assert await above.refused(above.accounts.UpdateAccount, ours) == "PERMISSION_DENIED SET_FROM_ABOVE"
    limit = factories.update_account(operator.account_id, credit_limit=factories.money(1))
    assert await operator.refused(operator.accounts.UpdateAccount, limit) == "PERMISSION_DENIED SET_FROM_ABOVE"
    zone = factories.update_account(operator.account_id, time_zone="Europe/Brussels")
    assert await operator.refused(operator.accounts.UpdateAccount, zone) == "OK"
    partition = factories.update_account(sub.id, notes="mine")
    assert await own.refused(own.accounts.UpdateAccount, partition) == "PERMISSION_DENIED ACCOUNT_KIND_NOT_PERMITTED"
    viewer = await world.as_(reseller.id, identity_pb2.ROLE_VIEWER)
    renamed = factories.update_account(enterprise.id, name="x")
    assert await viewer.refused(viewer.accounts.UpdateAccount, renamed) == "PERMISSION_DENIED ROLE_NOT_PERMITTED"


@pytest.mark.requirement("R142", "R144", "R145", "R146")
async def test_a_company_is_created_read_and_changed(world: World):
    operator = world.operator
    described = factories.company(
        phone_number="+32 2 547 61 11",
        vat_number="be 0866.977.981",
        email="a@b.be",
        registration_number="7",
        tax_number="8",
    )
    created = await operator(operator.companies.CreateCompany, companies_pb2.CreateCompanyRequest(company=described))
    assert (created.phone_number, created.vat_number) == ("+3225476111", "BE0866977981")
    assert (created.email, created.registration_number, created.tax_number) == ("a@b.be", "7", "8")
    assert created.owner_account_id == operator.account_id
    assert (
        await operator(operator.companies.GetCompany, companies_pb2.GetCompanyRequest(company_id=created.id)) == created
    )
    request = companies_pb2.UpdateCompanyRequest(company=companies_pb2.Company(id=created.id, etag="1", name="New"))
    request.company.address.city = "Ghent"
    request.update_mask.paths.extend(["name", "address.city"])
    after = await operator(operator.companies.UpdateCompany, request)
    assert (after.name, after.address.city, after.address.street) == ("New", "Ghent", described.address.street)
    refused = await operator.refused(operator.companies.UpdateCompany, request)
    assert refused == "ABORTED ETAG_MISMATCH"
    found = companies_pb2.ListCompaniesRequest(query="nEW")
    assert [c.id for c in (await operator(operator.companies.ListCompanies, found)).companies] == [created.id]


@pytest.mark.requirement("R144", "R145", "R146")
async def test_each_missing_or_wrong_field_of_a_company_is_named(small_world: World):
    operator = small_world.operator

    async def violations(company: companies_pb2.Company) -> list[str]:
        request = companies_pb2.CreateCompanyRequest(company=company)
        return await operator.violations(operator.companies.CreateCompany, request)

    absent = companies_pb2.CreateCompanyRequest()
    assert await operator.violations(operator.companies.CreateCompany, absent) == ["company"]
    assert await violations(companies_pb2.Company()) == [
        "company.address",
        "company.name",
        "company.phone_number",
        "company.type",
    ]
    nowhere = factories.company()
    nowhere.address.Clear()
    nowhere.address.SetInParent()
    expected = ["company.address.city", "company.address.country", "company.address.number", "company.address.street"]
    assert await violations(nowhere) == expected
    blank = factories.company(address=factories.address(city=" "), name=" ")
    assert await violations(blank) == ["company.address.city", "company.name"]
    wrong = factories.company(phone_number="12", vat_number="BE1", email="x", address=factories.address(country="ZZ"))
    assert await violations(wrong) == [
        "company.address.country",
        "company.email",
        "company.phone_number",
        "company.vat_number",
    ]


async def test_companies_are_written_by_the_providers_side_that_created_them(small_world: World):
    world, operator = small_world, small_world.operator
    reseller = await operator.create(RESELLER, operator.account_id)
    enterprise = await operator.create(ENTERPRISE, reseller.id)
    own, customer = await world.as_(reseller.id), await world.as_(enterprise.id)
    renamed = companies_pb2.UpdateCompanyRequest(company=companies_pb2.Company(id=reseller.company_id, name="x"))
    refused = await own.refused(own.companies.UpdateCompany, renamed)
    assert refused == "PERMISSION_DENIED COMPANY_OF_ANOTHER"
    created = companies_pb2.CreateCompanyRequest(company=factories.company())
    refused = await customer.refused(customer.companies.CreateCompany, created)
    assert refused == "PERMISSION_DENIED ACCOUNT_KIND_NOT_PERMITTED"
    theirs = companies_pb2.UpdateCompanyRequest(company=companies_pb2.Company(id=enterprise.company_id, name="x"))
    refused = await customer.refused(customer.companies.UpdateCompany, theirs)
    assert refused == "PERMISSION_DENIED ACCOUNT_KIND_NOT_PERMITTED"


async def test_the_operators_company_is_completed_once_it_is_changed(small_world: World):
    operator = small_world.operator
    company_id = (await operator.get(operator.account_id)).company_id
    renamed = companies_pb2.UpdateCompanyRequest(company=companies_pb2.Company(id=company_id, name="Telco"))
    found = await operator.violations(operator.companies.UpdateCompany, renamed)
    assert found[0] == "company.address.city"
    assert "company.phone_number" in found
    whole = factories.company(id=company_id, type=companies_pb2.COMPANY_TYPE_OPERATOR)
    completed = companies_pb2.UpdateCompanyRequest(company=whole)
    assert (await operator(operator.companies.UpdateCompany, completed)).name == whole.name
