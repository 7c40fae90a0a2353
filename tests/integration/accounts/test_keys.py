"""API keys: made once, shown once, bound to an account, revoked for good."""

import asyncio
from pathlib import Path

import pytest

from meterline.accounts.v1 import identity_pb2
from meterline.type.v1 import audit_pb2
from services.common.errors import UnauthenticatedError, UnavailableError
from services.common.identity import AccountKind, Role
from services.runtime import keys
from services.runtime.channels import Channel
from services.runtime.directory import AccountDirectory
from services.runtime.identity import Authenticator
from services.runtime.keys import remote_key_resolver
from tests import factories
from tests.integration.accounts.world import ENTERPRISE, RESELLER, TOKENS, World, free_address, new_key

INVALID = "UNAUTHENTICATED CREDENTIAL_INVALID"


def create(account_id: str, role=identity_pb2.ROLE_ADMIN, **fields) -> identity_pb2.CreateApiKeyRequest:
    return identity_pb2.CreateApiKeyRequest(api_key=factories.api_key(account_id, role), **fields)


def revoke(key_id: str) -> identity_pb2.RevokeApiKeyRequest:
    return identity_pb2.RevokeApiKeyRequest(api_key_id=key_id)


@pytest.mark.requirement("R279")
async def test_a_key_binds_its_holder_to_an_account(world: World):
    operator = world.operator
    enterprise = await operator.create(ENTERPRISE, operator.account_id)
    created = await operator(operator.identity.CreateApiKey, create(enterprise.id, identity_pb2.ROLE_VIEWER))
    me = await (await world.caller(created.credential)).me()
    assert (me.actor, me.account_id, me.role) == (created.api_key.id, enterprise.id, identity_pb2.ROLE_VIEWER)
    assert me.context_level == identity_pb2.CONTEXT_LEVEL_ACCOUNT
    got = await operator(operator.identity.GetApiKey, identity_pb2.GetApiKeyRequest(api_key_id=created.api_key.id))
    assert got == created.api_key
    listed = await operator(operator.identity.ListApiKeys, identity_pb2.ListApiKeysRequest(account_id=enterprise.id))
    assert list(listed.api_keys) == [got]


async def test_a_secret_is_shown_once_and_kept_nowhere(small_world: World):
    operator = small_world.operator
    request = create(operator.account_id, request_id="once")
    first = await operator(operator.identity.CreateApiKey, request)
    again = await operator(operator.identity.CreateApiKey, request)
    assert (again.api_key, again.credential) == (first.api_key, "")
    secret = first.credential[-43:].encode()
    path = Path(small_world.database_url.partition(":///")[2])
    files = [*path.parent.glob(f"{path.name}*")]
    assert files
    assert not any(secret in file.read_bytes() for file in files)
    entries = await operator(operator.audit.ListAuditEntries, audit_pb2.ListAuditEntriesRequest())
    assert secret.decode() not in str(entries)


async def test_a_revoked_key_stops_at_once_and_for_ever(world: World):
    operator = world.operator
    caller = await world.as_(operator.account_id, identity_pb2.ROLE_VIEWER)
    await caller.me()
    first = await operator(operator.identity.RevokeApiKey, revoke(caller.key_id))
    assert await caller.refused(caller.identity.GetMe, identity_pb2.GetMeRequest()) == INVALID
    world.clock.advance(1000)
    assert await operator(operator.identity.RevokeApiKey, revoke(caller.key_id)) == first
    assert first.HasField("revoke_time")


async def test_only_an_admin_makes_keys_and_only_for_its_subtree(small_world: World):
    world, operator = small_world, small_world.operator
    mine = await operator.create(RESELLER, operator.account_id)
    other = await operator.create(RESELLER, operator.account_id)
    admin = await world.as_(mine.id)
    manager = await world.as_(mine.id, identity_pb2.ROLE_MANAGER)
    theirs = await world.as_(other.id)
    make, end = "CreateApiKey", "RevokeApiKey"

    async def refused(caller, method, request):
        return await caller.refused(getattr(caller.identity, method), request)

    assert await refused(admin, make, create(other.id)) == "NOT_FOUND ACCOUNT_NOT_FOUND"
    assert await refused(admin, make, create(operator.account_id)) == "NOT_FOUND ACCOUNT_NOT_FOUND"
    assert await refused(admin, end, revoke(theirs.key_id)) == "NOT_FOUND API_KEY_NOT_FOUND"
    viewer_key = create(mine.id, identity_pb2.ROLE_VIEWER)
    assert await refused(manager, make, viewer_key) == "PERMISSION_DENIED ROLE_NOT_PERMITTED"
    assert await refused(manager, end, revoke(admin.key_id)) == "PERMISSION_DENIED ROLE_NOT_PERMITTED"
    assert await refused(admin, make, create(mine.id, 0)) == "INVALID_ARGUMENT FIELD_REQUIRED"
    past = create(mine.id)
    past.api_key.expire_time.FromMilliseconds(world.clock.now_ms())
    assert await refused(admin, make, past) == "INVALID_ARGUMENT FIELD_INVALID"
    assert await refused(admin, end, revoke(manager.key_id)) == "OK"


async def test_every_bad_credential_gets_the_same_answer(small_world: World):
    world, operator = small_world, small_world.operator
    good = await world.as_(operator.account_id)
    wrong_secret = f"mk_{good.key_id.removeprefix('key_')}_{'x' * 43}"
    for authorization in (
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {new_key()}",
        f"Bearer {wrong_secret}",
        "Basic eDp5",
        "Bearer e.y.j",
        world.key,
    ):
        stranger = world.stranger(authorization)
        assert await stranger.refused(stranger.identity.GetMe, identity_pb2.GetMeRequest()) == INVALID


async def test_a_charger_reads_nothing_of_the_tree(small_world: World):
    world, operator = small_world, small_world.operator
    charger = await world.as_(operator.account_id, identity_pb2.ROLE_CHARGER)
    assert (await charger.me()).role == identity_pb2.ROLE_CHARGER
    refused = await charger.refused(charger.identity.ListApiKeys, identity_pb2.ListApiKeysRequest())
    assert refused == "PERMISSION_DENIED ROLE_NOT_PERMITTED"


async def test_services_resolve_keys_until_they_expire_or_their_account_ends(world: World):
    operator = world.operator
    reseller = await operator.create(RESELLER, operator.account_id)
    enterprise = await operator.create(ENTERPRISE, reseller.id)
    request = create(enterprise.id, identity_pb2.ROLE_CHARGER)
    request.api_key.expire_time.FromMilliseconds(world.clock.now_ms() + 60_000)
    brief = (await operator(operator.identity.CreateApiKey, request)).credential
    lasting = (await operator(operator.identity.CreateApiKey, create(enterprise.id))).credential
    resolve = remote_key_resolver(world.peer)
    principal = await resolve(brief)
    assert principal.account_path == (operator.account_id, reseller.id, enterprise.id)
    assert (principal.account_kind, principal.role) == (AccountKind.ENTERPRISE, Role.CHARGER)
    assert principal.expires_ms == world.clock.now_ms() + 60_000
    world.clock.advance(60_000)
    with pytest.raises(UnauthenticatedError):
        await resolve(brief)
    await operator.do("suspend", enterprise.id)
    assert (await resolve(lasting)).account_id == enterprise.id  # a suspended customer still reads its account
    await operator.do("terminate", enterprise.id)
    with pytest.raises(UnauthenticatedError):
        await resolve(lasting)
    refused = await operator.refused(operator.identity.CreateApiKey, create(enterprise.id))
    assert refused == "FAILED_PRECONDITION ACCOUNT_TERMINATED"


async def test_a_resolver_says_what_is_wrong_with_the_credential_or_the_way_to_accounts(small_world, monkeypatch):
    resolve = remote_key_resolver(small_world.peer)
    assert (await resolve(small_world.key)).account_kind is AccountKind.OPERATOR
    for credential in (new_key(), "mk_", "mk_" + "x" * 600):
        with pytest.raises(UnauthenticatedError):
            await resolve(credential)
    monkeypatch.setattr(keys, "DEADLINE_SECONDS", 0.2)
    async with Channel(free_address(), "rating", TOKENS) as nowhere:
        with pytest.raises(UnavailableError, match="IDENTITY_UNAVAILABLE"):
            await remote_key_resolver(nowhere)(small_world.key)


async def accepts(authenticator: Authenticator, metadata: list[tuple[str, str | bytes]]) -> bool:
    try:
        await authenticator.principal(metadata)
    except UnauthenticatedError:
        return False
    return True


async def test_other_services_forget_a_revoked_key_when_they_hear_of_it(small_world: World):
    world, operator = small_world, small_world.operator
    created = await operator(operator.identity.CreateApiKey, create(operator.account_id))
    metadata: list[tuple[str, str | bytes]] = [("authorization", f"Bearer {created.credential}")]
    authenticator = Authenticator(TOKENS, remote_key_resolver(world.peer))
    directory = AccountDirectory(world.peer, on_key_change=authenticator.forget)
    following = asyncio.create_task(directory.follow())
    try:
        assert await accepts(authenticator, metadata)
        await asyncio.sleep(0.2)  # the feed is open
        await operator(operator.identity.RevokeApiKey, revoke(created.api_key.id))
        async with asyncio.timeout(2):  # well below the five seconds for which answers are kept
            while await accepts(authenticator, metadata):
                await asyncio.sleep(0.02)
    finally:
        following.cancel()
