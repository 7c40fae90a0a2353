"""What a caller sees: its own account and what is below, and of paths its own part."""

import pytest

from meterline.accounts.v1 import accounts_pb2, companies_pb2
from meterline.type.v1 import audit_pb2
from services.common.errors import MeterlineError
from tests import factories
from tests.integration.accounts.world import ENTERPRISE, RESELLER, SUB_ACCOUNT, Caller, World


async def tree(world: World) -> dict[str, accounts_pb2.Account]:
    """operator > reseller > (nested > deep, enterprise > sub); operator > other > far."""
    operator = world.operator
    made: dict[str, accounts_pb2.Account] = {}
    for name, kind, parent in (
        ("reseller", RESELLER, ""),
        ("nested", RESELLER, "reseller"),
        ("deep", ENTERPRISE, "nested"),
        ("enterprise", ENTERPRISE, "reseller"),
        ("sub", SUB_ACCOUNT, "enterprise"),
        ("other", RESELLER, ""),
        ("far", ENTERPRISE, "other"),
    ):
        world.clock.advance(1)
        made[name] = await operator.create(kind, made[parent].id if parent else operator.account_id, name=name)
    return made


async def names(caller: Caller, **wanted) -> list[str]:
    response = await caller(caller.accounts.ListAccounts, accounts_pb2.ListAccountsRequest(**wanted))
    return [account.name for account in response.accounts]


@pytest.mark.requirement("R279", "R285", "R286")
async def test_a_caller_sees_its_own_subtree_only(world: World):
    made = await tree(world)
    below = {
        "reseller": ["reseller", "nested", "deep", "enterprise", "sub"],
        "nested": ["nested", "deep"],
        "enterprise": ["enterprise", "sub"],
        "sub": ["sub"],
        "far": ["far"],
    }
    for name, visible in below.items():
        caller = await world.as_(made[name].id)
        assert await names(caller) == visible
        for other, account in made.items():
            request = accounts_pb2.GetAccountRequest(account_id=account.id)
            expected = "OK" if other in visible else "NOT_FOUND ACCOUNT_NOT_FOUND"
            assert await caller.refused(caller.accounts.GetAccount, request) == expected


@pytest.mark.requirement("R286")
async def test_nothing_above_the_callers_account_is_shown(small_world: World):
    world = small_world
    made = await tree(world)
    caller = await world.as_(made["enterprise"].id)
    own, sub = await caller.get(made["enterprise"].id), await caller.get(made["sub"].id)
    assert (own.parent_id, list(own.path)) == ("", [own.id])
    assert (sub.parent_id, list(sub.path)) == (own.id, [own.id, sub.id])
    assert list((await caller.me()).account_path) == [own.id]
    entries = await caller(caller.audit.ListAuditEntries, audit_pb2.ListAuditEntriesRequest())
    assert {entry.resource_id for entry in entries.audit_entries} >= {own.id, sub.id}
    above = [world.operator.account_id, made["reseller"].id]
    for entry in entries.audit_entries:
        shown = f"{entry.before} {entry.after}"
        assert not any(account_id in shown for account_id in above)


async def test_lists_filter_by_parent_ancestor_kind_state_and_name(world: World):
    made = await tree(world)
    operator, reseller = world.operator, await world.as_(made["reseller"].id)
    assert await names(operator, parent_id=made["reseller"].id) == ["nested", "enterprise"]
    assert await names(operator, ancestor_id=made["reseller"].id) == ["nested", "deep", "enterprise", "sub"]
    assert await names(operator, kind=ENTERPRISE) == ["deep", "enterprise", "far"]
    assert await names(operator, kind=ENTERPRISE, ancestor_id=made["reseller"].id) == ["deep", "enterprise"]
    assert await names(operator, state=accounts_pb2.ACCOUNT_STATE_DRAFT) == []
    assert await names(operator, query="NEST") == ["nested"]
    assert await names(operator, query="%") == []
    for outside in (operator.account_id, made["other"].id):
        assert await names(reseller, parent_id=outside) == []
        assert await names(reseller, ancestor_id=outside) == []


async def test_audit_pages_follow_one_another_newest_first(world: World):
    made = await tree(world)
    operator, seen, token = world.operator, list[str](), ""
    while True:
        request = audit_pb2.ListAuditEntriesRequest(page_size=4, page_token=token)
        response = await operator(operator.audit.ListAuditEntries, request)
        seen += [entry.resource_id for entry in response.audit_entries if entry.resource_type == "account"]
        token = response.next_page_token
        if not token:
            break
    assert seen == [*(account.id for account in reversed(made.values())), operator.account_id]


async def test_names_are_found_in_any_case_of_any_alphabet(world: World):
    await world.operator.create(RESELLER, world.operator.account_id, name="ŽLUŤOUČKÝ Kůň")
    assert await names(world.operator, query="žluťoučký kŮŇ") == ["ŽLUŤOUČKÝ Kůň"]


async def test_pages_follow_one_another_without_gap_or_repeat(world: World):
    await tree(world)
    operator, seen, token = world.operator, list[str](), ""
    while True:
        request = accounts_pb2.ListAccountsRequest(page_size=3, page_token=token)
        response = await operator(operator.accounts.ListAccounts, request)
        assert len(response.accounts) <= 3
        seen += [account.name for account in response.accounts]
        token = response.next_page_token
        if not token:
            break
    assert seen == ["Operator", "reseller", "nested", "deep", "enterprise", "sub", "other", "far"]


@pytest.mark.parametrize(
    "token",
    ["x", "bnVsbA==", "WzFd", "WyJhIiwxXQ==", "Wy0xLCJhIl0=", "WzE4NDQ2NzQ0MDczNzA5NTUxNjE2LCJhIl0=", "W3RydWUsImEiXQ"],
)
async def test_a_token_of_no_list_is_refused(small_world: World, token):
    operator = small_world.operator
    entries = audit_pb2.ListAuditEntriesRequest(page_token=token)
    assert await operator.refused(operator.audit.ListAuditEntries, entries) == "INVALID_ARGUMENT PAGE_TOKEN_INVALID"
    accounts = accounts_pb2.ListAccountsRequest(page_token=token)
    assert await operator.refused(operator.accounts.ListAccounts, accounts) == "INVALID_ARGUMENT PAGE_TOKEN_INVALID"


@pytest.mark.requirement("R286")
async def test_a_company_is_seen_by_those_who_created_it_or_belong_to_it(world: World):
    made = await tree(world)
    created = companies_pb2.CreateCompanyRequest(company=factories.company(name="Free"))
    reseller = await world.as_(made["reseller"].id)
    free = await reseller(reseller.companies.CreateCompany, created)

    async def visible(name: str) -> set[str]:
        caller = await world.as_(made[name].id)
        found = await caller(caller.companies.ListCompanies, companies_pb2.ListCompaniesRequest())
        return {company.id for company in found.companies}

    companies = {name: account.company_id for name, account in made.items()}
    family = {companies[name] for name in ("reseller", "nested", "deep", "enterprise")}
    assert await visible("reseller") == {*family, free.id}
    assert await visible("nested") == {companies["nested"], companies["deep"]}
    assert await visible("enterprise") == await visible("sub") == {companies["enterprise"]}
    enterprise = await world.as_(made["enterprise"].id)
    hidden = companies_pb2.GetCompanyRequest(company_id=free.id)
    assert await enterprise.refused(enterprise.companies.GetCompany, hidden) == "NOT_FOUND COMPANY_NOT_FOUND"


async def test_internal_methods_do_not_exist_for_customers(small_world: World):
    operator = small_world.operator
    batch = accounts_pb2.BatchGetAccountsRequest(account_ids=[operator.account_id])
    assert await operator.refused(operator.accounts.BatchGetAccounts, batch) == "NOT_FOUND METHOD_NOT_FOUND"
    with pytest.raises(MeterlineError, match="NOT_FOUND"):
        await operator(operator.identity.Authenticate, identity_request(small_world.key))


def identity_request(credential: str):
    from meterline.accounts.v1.identity_pb2 import AuthenticateRequest

    return AuthenticateRequest(credential=credential)
