"""What the use cases need of the world."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.accounts.domain.accounts import Account, AccountState
from services.accounts.domain.companies import Company
from services.accounts.domain.keys import ApiKey
from services.accounts.domain.states import Family
from services.common.identity import AccountKind, Principal
from services.common.pages import Page, PageRequest


@dataclass(frozen=True, slots=True)
class AccountFilter:
    """Which accounts are wanted; what is empty or None does not limit.

    Attributes:
        parent_id: direct children of this account.
        ancestor_id: everything below this account.
        kind: of this kind.
        state: in this state.
        query: whose name contains this, any case.
    """

    parent_id: str = ""
    ancestor_id: str = ""
    kind: AccountKind | None = None
    state: AccountState | None = None
    query: str = ""


class Accounts(Protocol):
    """The account tree."""

    async def get(self, caller: Principal, account_id: str) -> Account:
        """Return an account that the caller sees, or raise NOT_FOUND."""
        ...

    async def find(self, account_ids: Collection[str]) -> Sequence[Account]:
        """Return those of the accounts that exist."""
        ...

    async def page(self, caller: Principal, wanted: AccountFilter, request: PageRequest) -> Page[Account]:
        """Return a page of the accounts that the caller sees, oldest first."""
        ...

    async def hold(self, account: Account) -> Account:
        """Return an account as it stays until the write ends; others may hold it too."""
        ...

    async def lock(self, account: Account) -> Family:
        """Return the family of an account; nobody else changes or enlarges it until the write ends."""
        ...

    async def has_live_children(self, account_id: str) -> bool:
        """Whether a RESELLER or ENTERPRISE that is not TERMINATED is directly below."""
        ...

    async def add(self, account: Account) -> None:
        """Store a new account."""
        ...

    async def replace(self, before: Account, after: Account) -> None:
        """Store a changed account."""
        ...


class Companies(Protocol):
    """The companies."""

    async def get(self, caller: Principal, company_id: str) -> Company:
        """Return a company that the caller sees, or raise NOT_FOUND."""
        ...

    async def lock(self, caller: Principal, company_id: str) -> Company:
        """Return a company that nobody else changes until the write ends, or raise NOT_FOUND."""
        ...

    async def page(self, caller: Principal, query: str, request: PageRequest) -> Page[Company]:
        """Return a page of the companies that the caller sees, oldest first."""
        ...

    async def add(self, company: Company) -> None:
        """Store a new company."""
        ...

    async def replace(self, before: Company, after: Company) -> None:
        """Store a changed company."""
        ...


class Keys(Protocol):
    """The API keys, and the digests of their secrets."""

    async def get(self, caller: Principal, key_id: str) -> ApiKey:
        """Return a key of an account that the caller sees, or raise NOT_FOUND."""
        ...

    async def find(self, key_id: str) -> tuple[ApiKey, bytes] | None:
        """Return a key and the digest of its secret, if it exists."""
        ...

    async def page(self, caller: Principal, account_id: str, request: PageRequest) -> Page[ApiKey]:
        """Return a page of the keys of accounts that the caller sees, oldest first; of one account if named."""
        ...

    async def bootstrap_keys(self) -> Sequence[ApiKey]:
        """Return the keys that came with the environment and are not revoked."""
        ...

    async def add(self, key: ApiKey, digest: bytes) -> None:
        """Store a new key."""
        ...

    async def replace(self, before: ApiKey, after: ApiKey, digest: bytes | None = None) -> None:
        """Store a changed key, and its new digest if it has one."""
        ...


class Store(Protocol):
    """Everything that accounts keeps, in one transaction."""

    @property
    def accounts(self) -> Accounts:
        """The account tree."""
        ...

    @property
    def companies(self) -> Companies:
        """The companies."""
        ...

    @property
    def keys(self) -> Keys:
        """The API keys."""
        ...

    async def lock_installation(self) -> None:
        """Let no other process set the installation up until the write ends."""
        ...


@dataclass(frozen=True, slots=True)
class Defaults:
    """The default elements of an enterprise; an empty id is one that it lacks."""

    service_profile_id: str = ""
    roaming_profile_id: str = ""
    apn_group_id: str = ""
    plan_id: str = ""


class Catalog(Protocol):
    """What accounts asks of the catalogue."""

    async def require_reachable(self) -> None:
        """Raise UNAVAILABLE while there is no connection: to be asked before a transaction is opened."""
        ...

    async def provision_defaults(self, account: Account) -> Defaults:
        """Create the DEFAULT elements of a new enterprise; a repeat changes nothing."""
        ...

    async def defaults(self, account_id: str) -> Defaults:
        """Return which defaults an enterprise has."""
        ...
