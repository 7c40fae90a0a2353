"""What the use cases need of the world."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from services.common.identity import AccountKind, Principal
from services.common.pages import Page, PageRequest
from services.endpoints.domain.assignments import Assignment, Members
from services.endpoints.domain.endpoints import Endpoint, EndpointState
from services.endpoints.domain.plans import Plan
from services.endpoints.domain.sims import Sim, SimStatus


class Account(Protocol):
    """What is needed of an account, as accounts tells it."""

    @property
    def id(self) -> str:
        """Its id."""
        ...

    @property
    def kind(self) -> AccountKind:
        """What it is."""
        ...

    @property
    def state(self) -> str:
        """Name of its state, for example `TERMINATED`."""
        ...

    @property
    def path(self) -> tuple[str, ...]:
        """Ids from the OPERATOR down to it, itself included."""
        ...

    @property
    def currency(self) -> str:
        """ISO 4217 code of the currency that it is charged in."""
        ...

    @property
    def parent_id(self) -> str:
        """The account above; empty for the OPERATOR."""
        ...

    @property
    def enterprise_id(self) -> str:
        """The enterprise that it is or is a partition of; empty above enterprises."""
        ...


class Accounts(Protocol):
    """The account tree."""

    async def get(self, account_id: str) -> Account:
        """Return an account, or raise NOT_FOUND."""
        ...


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a new endpoint of an enterprise gets unless told otherwise; empty is none."""

    plan_id: str = ""
    apn_group_id: str = ""


class Catalog(Protocol):
    """Plans and profiles."""

    async def plans(self, plan_ids: Collection[str]) -> Mapping[str, Plan]:
        """Return the newest published version of each plan that exists, or what it has instead."""
        ...

    async def plan_version(self, plan_id: str, version: int) -> Plan:
        """Return a version of a plan, or raise NOT_FOUND."""
        ...

    async def defaults(self, enterprise_id: str) -> Defaults:
        """Return what new endpoints of an enterprise get."""
        ...

    async def require_apn_group(self, caller: Principal, apn_group_id: str) -> None:
        """Raise NOT_FOUND unless the caller sees the APN group."""
        ...


@dataclass(frozen=True, slots=True)
class SimFilter:
    """Which SIMs to list; empty or None means any."""

    account_id: str = ""
    iccid: str = ""
    imsi: str = ""
    msisdn: str = ""
    status: SimStatus | None = None


@dataclass(frozen=True, slots=True)
class EndpointFilter:
    """Which endpoints to list; empty or None means any that is not deleted."""

    account_id: str = ""
    state: EndpointState | None = None
    iccid: str = ""
    imsi: str = ""
    msisdn: str = ""
    tag: str = ""


@dataclass(frozen=True, slots=True)
class AssignmentFilter:
    """Which assignments to list; empty means any."""

    endpoint_id: str = ""
    account_id: str = ""
    include_removed: bool = False


class Sims(Protocol):
    """The SIM inventory."""

    async def get(self, caller: Principal, sim_id: str) -> Sim:
        """Return a SIM that the caller sees, or raise NOT_FOUND."""
        ...

    async def lock(self, sim_ids: Collection[str]) -> Mapping[str, Sim]:
        """Return those of the SIMs that exist; nobody else changes them until the write ends."""
        ...

    async def page(self, caller: Principal, wanted: SimFilter, request: PageRequest) -> Page[Sim]:
        """Return a page of the SIMs that the caller sees, oldest first."""
        ...

    async def taken(self, column: str, numbers: Collection[str]) -> frozenset[str]:
        """Return those of the numbers (`iccid`, `imsi` or `msisdn`) that a SIM has; no others come until the end."""
        ...

    async def add(self, sims: Sequence[Sim]) -> None:
        """Store new SIMs."""
        ...

    async def replace(self, before: Sequence[Sim], after: Sequence[Sim]) -> None:
        """Store SIMs with another holder, or whose link changed."""
        ...


class Endpoints(Protocol):
    """The endpoints."""

    async def get(self, caller: Principal, endpoint_id: str) -> Endpoint:
        """Return an endpoint that the caller sees, or raise NOT_FOUND."""
        ...

    async def lock(self, caller: Principal, endpoint_id: str) -> Endpoint:
        """As `get`; nobody else changes it or its assignments until the write ends."""
        ...

    async def page(self, caller: Principal, wanted: EndpointFilter, request: PageRequest) -> Page[Endpoint]:
        """Return a page of the endpoints that the caller sees, oldest first."""
        ...

    async def batch(self, endpoint_ids: Collection[str]) -> Sequence[Endpoint]:
        """Return those of the endpoints that exist, without their base plans, in no order."""
        ...

    async def add(self, endpoints: Sequence[Endpoint]) -> None:
        """Store new endpoints; not their base assignments."""
        ...

    async def replace(self, before: Endpoint, after: Endpoint) -> None:
        """Store a changed endpoint; not its base assignment."""
        ...


class Assignments(Protocol):
    """The plan assignments."""

    async def get(self, caller: Principal, assignment_id: str) -> Assignment:
        """Return an assignment that the caller sees, or raise NOT_FOUND."""
        ...

    async def page(self, caller: Principal, wanted: AssignmentFilter, request: PageRequest) -> Page[Assignment]:
        """Return a page of the assignments that the caller sees, oldest first."""
        ...

    async def of_endpoints(self, endpoint_ids: Collection[str]) -> Sequence[Assignment]:
        """Return what is in force or pending of the endpoints, oldest first."""
        ...

    async def of_accounts(self, account_ids: Collection[str]) -> Sequence[Assignment]:
        """Return what is in force or pending of the accounts themselves, oldest first."""
        ...

    async def former_bases(
        self, of: Literal["endpoint_id", "account_id"], ids: Collection[str], since_ms: int
    ) -> Sequence[Assignment]:
        """Return base plans of endpoints, or of accounts themselves, that were replaced since then, in that order."""
        ...

    async def versions(self, of: Literal["endpoint_id", "account_id"], ids: Collection[str]) -> Mapping[str, int]:
        """Count the changes of all assignments, removed ones too, of endpoints or of accounts themselves.

        Those of endpoints that share volumes count for their enterprise, too. The counts only grow. Read before what
        they count, they never claim more than what is read then.
        """
        ...

    async def members(self, account_ids: Collection[str], now_ms: int) -> Mapping[str, Sequence[Members]]:
        """Count the endpoints of enterprises that share a base plan's volumes, by enterprise."""
        ...

    async def lock_account(self, account_id: str) -> Sequence[Assignment]:
        """As `of_accounts` for one; nobody else assigns to it until the write ends."""
        ...

    async def add(self, assignments: Sequence[Assignment]) -> None:
        """Store new assignments."""
        ...

    async def replace(self, before: Sequence[Assignment], after: Sequence[Assignment]) -> None:
        """Store changed assignments; ABORTED if somebody else changed one meanwhile."""
        ...


class Store(Protocol):
    """All that is kept, in one transaction."""

    @property
    def sims(self) -> Sims:
        """The SIM inventory."""
        ...

    @property
    def endpoints(self) -> Endpoints:
        """The endpoints."""
        ...

    @property
    def assignments(self) -> Assignments:
        """The plan assignments."""
        ...
