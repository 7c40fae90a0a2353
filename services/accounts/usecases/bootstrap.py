"""What the first start makes: the OPERATOR, its company and the key with which everything else is created."""

from dataclasses import replace

from services.accounts.domain.accounts import Account, AccountState
from services.accounts.domain.companies import Company, CompanyType
from services.accounts.domain.keys import ApiKey, Credential
from services.accounts.ports import Store
from services.common.identity import AccountKind, Role
from services.common.ids import derived_id

OPERATOR_ID = derived_id("acc", "operator")
"""Id of the one OPERATOR of an installation."""
_COMPANY_ID = derived_id("com", "operator")
_KEY_NAME = "bootstrap"


async def set_up(store: Store, name: str, currency: str, credential: Credential | None, now_ms: int) -> Account:
    """Make what is not there yet; a key that the environment no longer names is revoked.

    The operator's company has a name only; whoever runs the installation completes it.

    Args:
        store: in a write.
        name: of the OPERATOR, at the first start.
        currency: of the OPERATOR, ISO 4217, at the first start.
        credential: what the environment names as the operator's key; None if it names none.
        now_ms: milliseconds since 1970.
    """
    await store.lock_installation()
    found = await store.accounts.find([OPERATOR_ID])
    operator = found[0] if found else await _operator(store, name, currency, now_ms)
    if credential is not None:
        await _key(store, operator, credential, now_ms)
    return operator


async def _operator(store: Store, name: str, currency: str, now_ms: int) -> Account:
    path = (OPERATOR_ID,)
    company = Company(
        id=_COMPANY_ID,
        owner_path=path,
        name=name,
        type=CompanyType.OPERATOR,
        created_ms=now_ms,
        updated_ms=now_ms,
    )
    operator = Account(
        id=OPERATOR_ID,
        kind=AccountKind.OPERATOR,
        path=path,
        company_id=company.id,
        name=name,
        state=AccountState.ACTIVE,
        currency=currency,
        created_ms=now_ms,
        updated_ms=now_ms,
    )
    await store.companies.add(company)
    await store.accounts.add(operator)
    return operator


async def _key(store: Store, operator: Account, credential: Credential, now_ms: int) -> None:
    for key in await store.keys.bootstrap_keys():
        if key.id != credential.key_id:
            await store.keys.replace(key, replace(key, revoked_ms=now_ms))
    found = await store.keys.find(credential.key_id)
    if found is None:
        key = ApiKey(
            id=credential.key_id,
            owner_path=operator.path,
            name=_KEY_NAME,
            role=Role.ADMIN,
            created_ms=now_ms,
            bootstrap=True,
        )
        await store.keys.add(key, credential.digest)
    elif found[0].bootstrap and not credential.opens(found[1]):
        await store.keys.replace(found[0], found[0], credential.digest)
