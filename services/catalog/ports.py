"""What the use cases need of the world: stores of objects, and the account tree."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from services.catalog.domain.coverage import Coverage, CoverageChange
from services.catalog.domain.items import Item
from services.catalog.domain.networks import Network
from services.catalog.domain.plans import Plan, PlanState, PlanType
from services.catalog.domain.profiles import ApnGroup, RoamingProfile, ServiceProfile
from services.catalog.domain.services import Scope
from services.catalog.domain.tariffs import Tariff
from services.catalog.domain.zones import RateZone
from services.common.identity import AccountKind
from services.common.pages import Page, PageRequest

T = TypeVar("T", bound=Item)


class AccountLike(Protocol):
    """What the catalogue needs of an account."""

    @property
    def kind(self) -> AccountKind:
        """What it is."""
        ...

    @property
    def path(self) -> tuple[str, ...]:
        """Ids from the OPERATOR down to it, itself included."""
        ...


class Accounts(Protocol):
    """The account tree, which the accounts service keeps."""

    async def get(self, account_id: str) -> AccountLike:
        """Return an account, or raise NOT_FOUND."""
        ...

    async def get_many(self, account_ids: Iterable[str]) -> Mapping[str, AccountLike]:
        """Return those of the accounts that exist."""
        ...


@dataclass(frozen=True, slots=True)
class ListFilter:
    """Which objects a caller asks for.

    Attributes:
        below: path of the account whose own objects and those below it the caller sees.
        account_id: only objects of this account; empty means all.
        designated_to: plans designated to one of these accounts are visible besides.
        type: only plans of this type.
        state: only plans in this state.
        query: only plans whose name contains this, any case.
    """

    below: tuple[str, ...]
    account_id: str = ""
    designated_to: tuple[str, ...] = ()
    type: PlanType | None = None
    state: PlanState | None = None
    query: str = ""


class Shelf(Protocol[T]):
    """The stored objects of one noun."""

    @property
    def kind(self) -> str:
        """The noun, as errors and the audit trail name it."""
        ...

    async def find(self, object_id: str) -> T | None:
        """Return an object (its newest version), if it exists."""
        ...

    async def find_many(self, object_ids: Iterable[str]) -> dict[str, T]:
        """Return those of the objects that exist."""
        ...

    async def find_managed(self, account_id: str) -> list[T]:
        """Return the system-managed objects of an account."""
        ...

    async def below(self, path: tuple[str, ...]) -> list[T]:
        """Return the objects of an account and of all accounts below it."""
        ...

    async def page(self, which: ListFilter, page: PageRequest) -> Page[T]:
        """Return a page of objects, oldest first."""
        ...

    async def holder_of_name(self, account_id: str, name: str) -> str:
        """Return the id of the object with this name in the account; empty if there is none."""
        ...

    async def put(self, before: T | None, after: T) -> None:
        """Store an object, record the change."""
        ...

    async def delete(self, item: T) -> None:
        """Delete an object that nothing references, record it."""
        ...

    def announce(self, object_ids: Iterable[str]) -> None:
        """Tell the watchers that what is derived from these objects has changed."""
        ...


class Versions(Shelf[T], Protocol[T]):
    """The stored objects of a noun that keeps its versions."""

    async def find_version(self, object_id: str, version: int) -> T | None:
        """Return a version of an object, if it exists."""
        ...

    async def find_versions(self, keys: Iterable[tuple[str, int]]) -> list[T]:
        """Return those of the versions that exist."""
        ...


class Tariffs(Versions[Tariff], Protocol):
    """The stored tariffs."""

    async def published(self, tariff_ids: Iterable[str] | None = None) -> list[Tariff]:
        """Return all published versions of tariffs (of all, if none is named), oldest first."""
        ...


class Networks(Protocol):
    """The stored networks."""

    async def find_many(self, network_ids: Iterable[str]) -> dict[str, Network]:
        """Return those of the networks that exist."""
        ...

    async def all(self) -> dict[str, Network]:
        """Return all networks, by id."""
        ...

    async def countries(self) -> list[tuple[str, str]]:
        """Return all pairs of network id and country code."""
        ...

    async def page(self, search: "NetworkSearch", page: PageRequest) -> Page[Network]:
        """Return a page of networks, by country code, MCC and MNC."""
        ...

    async def put(self, before: Mapping[str, Network], after: Iterable[Network]) -> None:
        """Store networks, record the changes. `before` has those that exist."""
        ...


@dataclass(frozen=True, slots=True)
class NetworkSearch:
    """Which networks a caller asks for.

    Attributes:
        within: ids that the caller may see; None means all.
        country_code: only this country, subdivisions included; empty means all.
        query: only those whose names or numbers contain this, any case.
        include_not_operational: also planned and closed ones.
    """

    within: tuple[str, ...] | None = None
    country_code: str = ""
    query: str = ""
    include_not_operational: bool = False


class Coverages(Protocol):
    """The stored coverage of accounts."""

    async def find(self, account_id: str) -> Coverage | None:
        """Return the coverage of an account, if it has any."""
        ...

    async def find_many(self, account_ids: Iterable[str]) -> list[Coverage]:
        """Return the coverage of those of the accounts that have any."""
        ...

    async def below(self, path: tuple[str, ...]) -> list[Coverage]:
        """Return the coverage of an account and of all accounts below it."""
        ...

    async def put(self, coverages: Iterable[tuple[Coverage, CoverageChange]]) -> None:
        """Store coverage, record what changed; the DEFAULT roaming profiles of the accounts follow."""
        ...


class Scopes(Protocol):
    """The stored service scopes of accounts."""

    async def effective(self, path: tuple[str, ...]) -> Scope:
        """Return what an account may use: what every scope set on its path permits."""
        ...

    async def below(self, path: tuple[str, ...]) -> dict[tuple[str, ...], Scope]:
        """Return the scopes set for an account and for accounts below it, by path."""
        ...

    async def put(self, path: tuple[str, ...], services: Scope) -> None:
        """Set the scope of an account, record it; the DEFAULT service profiles below follow."""
        ...


class References(Protocol):
    """Which plan or tariff names which object."""

    async def sources(self, target_id: str) -> list[str]:
        """Return ids of objects that reference an object, sorted."""
        ...


class Store(Protocol):
    """One transaction over all of the catalogue. Writes run one after another: its rules span objects."""

    @property
    def networks(self) -> Networks:
        """Networks."""
        ...

    @property
    def coverages(self) -> Coverages:
        """Coverage of accounts."""
        ...

    @property
    def scopes(self) -> Scopes:
        """Service scopes of accounts."""
        ...

    @property
    def service_profiles(self) -> Shelf[ServiceProfile]:
        """Service profiles."""
        ...

    @property
    def roaming_profiles(self) -> Shelf[RoamingProfile]:
        """Roaming profiles."""
        ...

    @property
    def apn_groups(self) -> Shelf[ApnGroup]:
        """APN groups."""
        ...

    @property
    def rate_zones(self) -> Shelf[RateZone]:
        """Rate zones."""
        ...

    @property
    def tariffs(self) -> Tariffs:
        """Tariffs."""
        ...

    @property
    def plans(self) -> Versions[Plan]:
        """Plans."""
        ...

    @property
    def references(self) -> References:
        """References between them."""
        ...
