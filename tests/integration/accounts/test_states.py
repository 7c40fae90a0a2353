"""The state verbs through a real server: who, cascades, races."""

import asyncio

import pytest

from meterline.accounts.v1 import accounts_pb2, identity_pb2
from meterline.type.v1 import audit_pb2
from services.accounts.domain.accounts import AccountState
from services.accounts.domain.states import MATRIX
from tests import factories
from tests.integration.accounts.world import ENTERPRISE, RESELLER, SUB_ACCOUNT, World

VERBS = ("promote", "activate", "suspend", "resume", "terminate")


def name_of(account: accounts_pb2.Account) -> str:
    cause = accounts_pb2.SuspensionCause.Name(account.suspension_cause).removeprefix("SUSPENSION_CAUSE_")
    state = accounts_pb2.AccountState.Name(account.state).removeprefix("ACCOUNT_STATE_")
    return f"{state} by {cause}" if account.suspension_cause else state


async def states(world: World, *account_ids: str) -> list[str]:
    return [name_of(await world.operator.get(account_id)) for account_id in account_ids]


@pytest.mark.requirement("R131", "R132", "R133", "R134", "R136", "R137", "R138", "R139", "R140")
async def test_a_life_from_draft_to_the_end_with_partitions_that_follow(world: World):
    operator = world.operator
    enterprise = (await operator.create(ENTERPRISE, operator.account_id, activate=False)).id
    sub = (await operator.create(SUB_ACCOUNT, enterprise, activate=False)).id
    assert await states(world, enterprise, sub) == ["DRAFT", "DRAFT"]
    refused = await operator.refused(operator.method("promote"), change(sub))
    assert refused == "FAILED_PRECONDITION ACCOUNT_STATE_NOT_ALLOWED_BY_PARENT"
    await operator.do("promote", enterprise)
    assert await states(world, enterprise, sub) == ["LEAD", "NEW"]
    await operator.do("activate", enterprise)
    for verb in ("promote", "activate"):
        await operator.do(verb, sub)
    late = (await operator.create(SUB_ACCOUNT, enterprise, activate=False)).id
    assert await states(world, enterprise, sub, late) == ["ACTIVE", "ACTIVE", "NEW"]
    await operator.do("suspend", enterprise)
    assert await states(world, enterprise, sub, late) == ["SUSPENDED by SELF", "SUSPENDED by PARENT", "NEW"]
    refused = await operator.refused(operator.method("resume"), change(sub))
    assert refused == "FAILED_PRECONDITION ACCOUNT_STATE_NOT_ALLOWED_BY_PARENT"
    await operator.do("resume", enterprise)
    assert await states(world, enterprise, sub, late) == ["ACTIVE", "SUSPENDED by PARENT", "NEW"]
    await operator.do("suspend", enterprise)
    await operator.do("resume", enterprise, cascade=True)
    assert await states(world, enterprise, sub, late) == ["ACTIVE", "ACTIVE", "NEW"]
    await operator.do("terminate", enterprise)
    assert await states(world, enterprise, sub, late) == ["TERMINATED"] * 3
    for verb in VERBS:
        refused = await operator.refused(operator.method(verb), change(enterprise))
        assert refused == "FAILED_PRECONDITION ACCOUNT_STATE_INVALID"
    born = factories.create_account(SUB_ACCOUNT, enterprise)
    refused = await operator.refused(operator.accounts.CreateAccount, born)
    assert refused == "FAILED_PRECONDITION ACCOUNT_STATE_NOT_ALLOWED_BY_PARENT"


def change(account_id: str) -> accounts_pb2.ChangeAccountStateRequest:
    return accounts_pb2.ChangeAccountStateRequest(account_id=account_id)


@pytest.mark.requirement("R122")
async def test_only_an_admin_above_moves_an_account(small_world: World):
    world, operator = small_world, small_world.operator
    reseller = await operator.create(RESELLER, operator.account_id)
    enterprise = await operator.create(ENTERPRISE, reseller.id)
    sub = await operator.create(SUB_ACCOUNT, enterprise.id)
    denied = {
        (operator, operator.account_id): "OWN_ACCOUNT_STATE",
        (await world.as_(reseller.id), reseller.id): "OWN_ACCOUNT_STATE",
        (await world.as_(enterprise.id), enterprise.id): "ACCOUNT_KIND_NOT_PERMITTED",
        (await world.as_(enterprise.id), sub.id): "ACCOUNT_KIND_NOT_PERMITTED",
        (await world.as_(reseller.id, identity_pb2.ROLE_MANAGER), enterprise.id): "ROLE_NOT_PERMITTED",
        (await world.as_(reseller.id, identity_pb2.ROLE_VIEWER), enterprise.id): "ROLE_NOT_PERMITTED",
    }
    for (caller, account_id), reason in denied.items():
        for verb in VERBS:
            refused = await caller.refused(caller.method(verb), change(account_id))
            assert refused == f"PERMISSION_DENIED {reason}"
    stranger = await world.as_((await operator.create(RESELLER, operator.account_id)).id)
    assert await stranger.refused(stranger.method("suspend"), change(enterprise.id)) == "NOT_FOUND ACCOUNT_NOT_FOUND"
    admin = await world.as_(reseller.id)
    assert name_of(await admin.do("suspend", enterprise.id)) == "SUSPENDED by SELF"


async def test_an_account_ends_only_after_the_customers_below_it(world: World):
    operator = world.operator
    reseller = await operator.create(RESELLER, operator.account_id)
    enterprise = await operator.create(ENTERPRISE, reseller.id)
    refused = await operator.refused(operator.method("terminate"), change(reseller.id))
    assert refused == "FAILED_PRECONDITION ACCOUNT_HAS_CHILDREN"
    await operator.do("terminate", enterprise.id)
    await operator.do("terminate", reseller.id)
    born = factories.create_account(ENTERPRISE, reseller.id)
    refused = await operator.refused(operator.accounts.CreateAccount, born)
    assert refused == "FAILED_PRECONDITION ACCOUNT_STATE_NOT_ALLOWED_BY_PARENT"


async def test_a_verb_is_audited_with_who_why_and_what_it_changed(small_world: World):
    operator = small_world.operator
    enterprise = await operator.create(ENTERPRISE, operator.account_id)
    await operator.do("suspend", enterprise.id, reason="unpaid", request_id="r-1")
    await operator.do("suspend", enterprise.id, reason="unpaid", request_id="r-1")  # a repeat, not a second suspension
    request = audit_pb2.ListAuditEntriesRequest(resource_id=enterprise.id)
    entries = (await operator(operator.audit.ListAuditEntries, request)).audit_entries
    assert [entry.method.rpartition("/")[2] for entry in entries] == ["SuspendAccount", "CreateAccount"]
    newest = entries[0]
    assert (newest.actor, newest.account_id) == ((await operator.me()).actor, operator.account_id)
    assert (newest.before["state"], newest.after["state"]) == ("ACTIVE", "SUSPENDED")
    assert (newest.after["state_reason"], newest.request_id) == ("unpaid", "r-1")


@pytest.mark.requirement("R131", "R141")
async def test_the_matrix_holds_whatever_happens_at_the_same_time(world: World):
    operator = world.operator
    enterprise = (await operator.create(ENTERPRISE, operator.account_id)).id
    subs = [(await operator.create(SUB_ACCOUNT, enterprise, activate=False)).id for _ in range(3)]

    async def attempt(verb: str, account_id: str) -> None:
        answer = await operator.refused(operator.method(verb), change(account_id))
        assert answer == "OK" or answer.startswith("FAILED_PRECONDITION"), answer

    for _ in range(4):
        verbs = [(verb, sub) for sub in subs for verb in ("promote", "activate", "resume")]
        verbs += [("suspend", enterprise), ("resume", enterprise), ("suspend", subs[0])]
        creation = operator.refused(operator.accounts.CreateAccount, factories.create_account(SUB_ACCOUNT, enterprise))
        await asyncio.gather(creation, *(attempt(*verb) for verb in verbs))
        parent = AccountState((await operator.get(enterprise)).state)
        listed = accounts_pb2.ListAccountsRequest(parent_id=enterprise)
        found = (await operator(operator.accounts.ListAccounts, listed)).accounts
        assert {AccountState(account.state) for account in found} <= MATRIX[parent]
