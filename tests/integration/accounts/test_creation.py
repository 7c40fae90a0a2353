"""Creating accounts: who may, where, and all or nothing."""

import asyncio

import pytest

from meterline.accounts.v1 import accounts_pb2, companies_pb2, identity_pb2
from services.common.errors import MeterlineError, UnavailableError
from services.common.ids import new_id
from tests import factories
from tests.integration.accounts.world import ENTERPRISE, RESELLER, SUB_ACCOUNT, World

ACTIVE, DRAFT = accounts_pb2.ACCOUNT_STATE_ACTIVE, accounts_pb2.ACCOUNT_STATE_DRAFT


@pytest.mark.requirement("R001", "R143", "R154", "R250", "R253", "R255", "R256", "R264")
async def test_a_tree_grows_and_each_enterprise_is_born_ready(world: World):
    operator = world.operator
    reseller = await operator.create(RESELLER, operator.account_id, currency="GBP")
    nested = await operator.create(RESELLER, reseller.id)
    enterprise = await operator.create(ENTERPRISE, nested.id)
    sub = await operator.create(SUB_ACCOUNT, enterprise.id)
    assert list(sub.path) == [operator.account_id, reseller.id, nested.id, enterprise.id, sub.id]
    assert [account.state for account in (reseller, nested, enterprise, sub)] == [ACTIVE] * 4
    assert {account.currency for account in (reseller, nested, enterprise, sub)} == {"GBP"}
    (provisioned,) = world.catalog.provisioned.values()
    assert (provisioned.account_id, provisioned.currency) == (enterprise.id, "GBP")
    assert list(provisioned.account_path) == list(enterprise.path)
    readiness = accounts_pb2.GetAccountReadinessRequest(account_id=enterprise.id)
    assert (await operator(operator.accounts.GetAccountReadiness, readiness)).ready
    assert await operator.get(sub.id) == sub


@pytest.mark.requirement("R001")
async def test_an_enterprise_whose_defaults_fail_is_not_created_nor_its_company(world: World):
    operator = world.operator
    request = factories.create_account(ENTERPRISE, operator.account_id)
    request.request_id = "once"
    world.catalog.failure = UnavailableError("CATALOG_AWAY", "Try again.")
    assert await operator.refused(operator.accounts.CreateAccount, request) == "UNAVAILABLE CATALOG_UNAVAILABLE"
    assert await operator.ids() == [operator.account_id]
    found = await operator(operator.companies.ListCompanies, companies_pb2.ListCompaniesRequest())
    assert [company.name for company in found.companies] == ["Operator"]
    world.catalog.failure = None
    created = await operator(operator.accounts.CreateAccount, request)  # the failed attempt did not use the id up
    assert await operator.ids() == [operator.account_id, created.id]


async def test_a_repeat_gets_the_first_answer_and_creates_nothing(world: World):
    operator = world.operator
    request = factories.create_account(ENTERPRISE, operator.account_id)
    request.request_id = "once"
    answers = await asyncio.gather(*(operator(operator.accounts.CreateAccount, request) for _ in range(5)))
    assert len({answer.id for answer in answers}) == 1
    assert len(await operator.ids()) == 2
    request.account.name = "another"
    assert await operator.refused(operator.accounts.CreateAccount, request) == "ALREADY_EXISTS REQUEST_ID_REUSED"


@pytest.mark.requirement("R122", "R155", "R265")
async def test_only_the_providers_side_creates_and_only_below_itself(small_world: World):
    world, operator = small_world, small_world.operator
    mine = await operator.create(RESELLER, operator.account_id)
    other = await operator.create(RESELLER, operator.account_id)
    reseller = await world.as_(mine.id)
    customer = await reseller.create(ENTERPRISE, mine.id)
    nested = await reseller.create(RESELLER, mine.id)
    await reseller.create(ENTERPRISE, nested.id)
    sub = await reseller.create(SUB_ACCOUNT, customer.id)
    enterprise = await world.as_(customer.id)

    async def refused(caller, kind, parent_id):
        return await caller.refused(caller.accounts.CreateAccount, factories.create_account(kind, parent_id))

    assert await refused(reseller, ENTERPRISE, other.id) == "NOT_FOUND ACCOUNT_NOT_FOUND"
    assert await refused(reseller, ENTERPRISE, operator.account_id) == "NOT_FOUND ACCOUNT_NOT_FOUND"
    for kind in (SUB_ACCOUNT, ENTERPRISE, RESELLER):
        assert await refused(enterprise, kind, customer.id) == "PERMISSION_DENIED ACCOUNT_KIND_NOT_PERMITTED"
    assert await refused(operator, ENTERPRISE, customer.id) == "FAILED_PRECONDITION PARENT_IS_LEAF"
    assert await refused(operator, RESELLER, sub.id) == "FAILED_PRECONDITION PARENT_IS_LEAF"
    assert await refused(operator, SUB_ACCOUNT, mine.id) == "FAILED_PRECONDITION SUB_ACCOUNT_NEEDS_ENTERPRISE"
    assert await refused(operator, SUB_ACCOUNT, sub.id) == "FAILED_PRECONDITION SUB_ACCOUNT_NEEDS_ENTERPRISE"
    operator_kind = accounts_pb2.ACCOUNT_KIND_OPERATOR
    assert await refused(operator, operator_kind, operator.account_id) == "INVALID_ARGUMENT OPERATOR_IS_UNIQUE"
    assert await refused(operator, ENTERPRISE, new_id("acc")) == "NOT_FOUND ACCOUNT_NOT_FOUND"
    viewer = await world.as_(mine.id, identity_pb2.ROLE_VIEWER)
    assert await refused(viewer, ENTERPRISE, mine.id) == "PERMISSION_DENIED ROLE_NOT_PERMITTED"
    manager = await world.as_(mine.id, identity_pb2.ROLE_MANAGER)
    assert await refused(manager, ENTERPRISE, mine.id) == "OK"


@pytest.mark.requirement("R116", "R117", "R143", "R161")
async def test_an_account_belongs_to_one_company_that_its_creator_sees(small_world: World):
    world, operator = small_world, small_world.operator
    reseller = await operator.create(RESELLER, operator.account_id)
    caller = await world.as_(reseller.id)
    hidden = await operator(
        operator.companies.CreateCompany, companies_pb2.CreateCompanyRequest(company=factories.company())
    )
    both = factories.create_account(ENTERPRISE, reseller.id, company_id=hidden.id)
    assert await caller.refused(caller.accounts.CreateAccount, both) == "NOT_FOUND COMPANY_NOT_FOUND"
    assert (await operator(operator.accounts.CreateAccount, both)).company_id == hidden.id
    both.company.CopyFrom(factories.company())
    assert await operator.refused(operator.accounts.CreateAccount, both) == "INVALID_ARGUMENT COMPANY_REQUIRED"
    neither = factories.create_account(ENTERPRISE, reseller.id)
    neither.ClearField("company")
    assert await operator.refused(operator.accounts.CreateAccount, neither) == "INVALID_ARGUMENT COMPANY_REQUIRED"
    incomplete = factories.create_account(ENTERPRISE, reseller.id)
    incomplete.company.address.ClearField("city")
    incomplete.company.phone_number = ""
    found = await operator.violations(operator.accounts.CreateAccount, incomplete)
    assert found == ["company.address.city", "company.phone_number"]


@pytest.mark.requirement("R118", "R119", "R120", "R185", "R187")
async def test_a_partition_reads_its_parents_terms_through(world: World):
    operator = world.operator
    enterprise = await operator.create(
        ENTERPRISE,
        operator.account_id,
        credit_limit=factories.money(100),
        billing_cycle_day=28,
        time_zone="Europe/Brussels",
    )
    sub = await operator.create(SUB_ACCOUNT, enterprise.id, notes="West Coast", application_types=["meters"])
    assert sub.credit_limit == factories.money(100)
    assert (sub.company_id, sub.billing_cycle_day, sub.time_zone) == (enterprise.company_id, 28, "Europe/Brussels")
    update = factories.update_account(enterprise.id, credit_limit=factories.money(7, nanos=500_000_000))
    await operator(operator.accounts.UpdateAccount, update)
    assert (await operator.get(sub.id)).credit_limit == factories.money(7, nanos=500_000_000)
    other = factories.create_account(SUB_ACCOUNT, enterprise.id, currency="USD", billing_cycle_day=3)
    found = await operator.violations(operator.accounts.CreateAccount, other)
    assert found == ["account.billing_cycle_day", "account.currency"]
    own = factories.update_account(sub.id, credit_limit=factories.money(1))
    assert await operator.refused(operator.accounts.UpdateAccount, own) == "INVALID_ARGUMENT FIELD_INHERITED"


@pytest.mark.requirement("R162", "R163", "R164", "R182")
@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": ""}, "account.name"),
        ({"name": " \t"}, "account.name"),
        ({"name": "x" * 201}, "account.name"),
        ({"name": "a\0b"}, "account.name"),
        ({"kind": 0}, "account.kind"),
        ({"kind": 9}, "account.kind"),
        ({"parent_id": ""}, "account.parent_id"),
        ({"parent_id": "acc_1"}, "account.parent_id"),
        ({"currency": "eur"}, "account.currency"),
        ({"currency": "XXX"}, "account.currency"),
        ({"currency": "DEM"}, "account.currency"),
        ({"time_zone": "Mars/Base"}, "account.time_zone"),
        ({"billing_cycle_day": 29}, "account.billing_cycle_day"),
        ({"billing_cycle_day": -1}, "account.billing_cycle_day"),
        ({"external_account_number": "A-1"}, "account.external_account_number"),
        ({"credit_limit": factories.money(-1)}, "account.credit_limit"),
        ({"credit_limit": factories.money(1, nanos=1)}, "account.credit_limit.nanos"),
        ({"credit_limit": factories.money(2**62)}, "account.credit_limit"),
        ({"credit_limit": factories.money(1, "USD")}, "account.credit_limit"),
        ({"device_types": ["a", "a"]}, "account.device_types"),
    ],
)
async def test_a_wrong_field_is_named_and_nothing_is_created(small_world: World, fields, field):
    operator = small_world.operator
    request = factories.create_account(ENTERPRISE, operator.account_id)
    described = accounts_pb2.Account(**fields)
    for name in fields:
        request.account.ClearField(name)
    request.account.MergeFrom(described)
    assert await operator.violations(operator.accounts.CreateAccount, request) == [field]
    assert await operator.ids() == [operator.account_id]
    assert not small_world.catalog.provisioned


@pytest.mark.requirement("R228", "R236", "R241", "R250")
async def test_activation_lists_exactly_what_is_missing(small_world: World):
    world, operator = small_world, small_world.operator
    request = factories.create_account(ENTERPRISE, operator.account_id)
    request.skip_defaults = True
    with pytest.raises(MeterlineError) as caught:
        await operator(operator.accounts.CreateAccount, request)
    assert caught.value.reason == "ACCOUNT_NOT_READY"
    assert await operator.ids() == [operator.account_id]
    world.catalog.lacking = {"apn_group_id", "plan_id"}
    draft = await operator.create(ENTERPRISE, operator.account_id, activate=False)
    assert draft.state == DRAFT
    await operator.do("promote", draft.id)
    readiness = accounts_pb2.GetAccountReadinessRequest(account_id=draft.id)
    answer = await operator(operator.accounts.GetAccountReadiness, readiness)
    assert (answer.ready, list(answer.missing)) == (False, ["APN_GROUP_DEFAULT", "PRICE_PLAN_DEFAULT"])
    with pytest.raises(MeterlineError) as caught:
        await operator.do("activate", draft.id)
    assert caught.value.metadata == {"missing": "APN_GROUP_DEFAULT,PRICE_PLAN_DEFAULT"}
    world.catalog.lacking = set()
    assert (await operator.do("activate", draft.id)).state == ACTIVE


async def test_output_only_fields_of_a_request_are_ignored(small_world: World):
    operator = small_world.operator
    request = factories.create_account(
        RESELLER,
        operator.account_id,
        id=new_id("acc"),
        state=accounts_pb2.ACCOUNT_STATE_TERMINATED,
        path=["x"],
        etag="9",
    )
    created = await operator(operator.accounts.CreateAccount, request)
    assert created.id != request.account.id
    assert (created.state, created.etag) == (ACTIVE, "1")
