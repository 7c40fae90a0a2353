"""Verbs of API keys, and who a caller is."""

from dataclasses import dataclass, replace

from services.accounts.domain.accounts import AccountState
from services.accounts.domain.keys import ApiKey, Credential, new_credential, read_credential
from services.accounts.ports import Store
from services.common.errors import FailedPreconditionError, invalid
from services.common.identity import READERS, Principal, Role
from services.common.ids import new_id
from services.common.pages import Page, PageRequest


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key as a caller asks for it.

    Attributes:
        account_id: the account in whose context calls with it run.
        name: what it is for.
        role: what it may do.
        expires_ms: when it stops working, milliseconds since 1970; None if it does not.
    """

    account_id: str
    name: str
    role: Role
    expires_ms: int | None = None


async def create_key(store: Store, caller: Principal, wanted: NewKey, now_ms: int) -> tuple[ApiKey, Credential]:
    """Create a key for the caller's account or one below; only an ADMIN does, whom no role is above.

    Raises:
        NotFoundError: the caller does not see the account.
        PermissionDeniedError: the caller is not an ADMIN.
        FailedPreconditionError: ACCOUNT_TERMINATED.
        InvalidArgumentError: it would be expired.
    """
    account = await store.accounts.get(caller, wanted.account_id)
    caller.require_role(Role.ADMIN)
    account = await store.accounts.hold(account)
    if account.state is AccountState.TERMINATED:
        raise FailedPreconditionError(
            "ACCOUNT_TERMINATED",
            f"Account {account.id} is TERMINATED, which is final; no key works for it. Take another account.",
            resource=("account", account.id),
        )
    if wanted.expires_ms is not None and wanted.expires_ms <= now_ms:
        raise invalid("api_key.expire_time", "is in the past; take a later time, or leave it out for a key that stays")
    key = ApiKey(
        id=new_id("key", at_ms=now_ms),
        owner_path=account.path,
        name=wanted.name,
        role=wanted.role,
        expires_ms=wanted.expires_ms,
        created_ms=now_ms,
    )
    credential = new_credential(key.id)
    await store.keys.add(key, credential.digest)
    return key, credential


async def get_key(store: Store, caller: Principal, key_id: str) -> ApiKey:
    """Return a key of an account that the caller sees."""
    caller.require_role(*READERS)
    return await store.keys.get(caller, key_id)


async def list_keys(store: Store, caller: Principal, account_id: str, request: PageRequest) -> Page[ApiKey]:
    """Return a page of the keys of accounts that the caller sees, oldest first."""
    caller.require_role(*READERS)
    return await store.keys.page(caller, account_id, request)


async def revoke_key(store: Store, caller: Principal, key_id: str, now_ms: int) -> ApiKey:
    """Revoke a key for ever; once more is a success."""
    key = await store.keys.get(caller, key_id)
    caller.require_role(Role.ADMIN)
    if key.revoked_ms is not None:
        return key
    revoked = replace(key, revoked_ms=now_ms)
    await store.keys.replace(key, revoked)
    return revoked


async def authenticate(store: Store, text: str, now_ms: int) -> Principal | None:
    """Return who sends a credential; None if it is unknown, expired, revoked, or of an account that has ended."""
    credential = read_credential(text)
    found = await store.keys.find(credential.key_id) if credential else None
    if credential is None or found is None:
        return None
    key, digest = found
    if not credential.opens(digest) or not key.works(now_ms):
        return None
    (account,) = await store.accounts.find([key.account_id])
    if account.state is AccountState.TERMINATED:
        return None
    return Principal(key.id, account.id, account.kind, account.path, key.role, expires_ms=key.expires_ms)
