"""Service profiles, roaming profiles and APN groups [000] [001]."""

from dataclasses import dataclass, replace
from enum import IntEnum

from services.catalog.domain.coverage import listed
from services.catalog.domain.items import Item
from services.catalog.domain.services import Scope, in_words, outside
from services.common.errors import FailedPreconditionError, invalid


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceProfile(Item):
    """Services and access types. DEFAULT has the scope of its account, whatever that is.

    Attributes:
        description: free text.
        services: sorted, each once.
    """

    description: str = ""
    services: Scope = ()

    def with_services(self, services: Scope) -> "ServiceProfile":
        """The same profile with other services."""
        return replace(self, services=services)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoamingProfile(Item):
    """Networks on which a device may roam. DEFAULT has the coverage of its account, whatever that is.

    Attributes:
        description: free text.
        network_ids: sorted.
    """

    description: str = ""
    network_ids: tuple[str, ...] = ()

    def with_networks(self, network_ids: tuple[str, ...]) -> "RoamingProfile":
        """The same profile with other networks."""
        return replace(self, network_ids=network_ids)


class IpAllocation(IntEnum):
    """How an APN gives addresses; numbers as in the contract."""

    DYNAMIC = 1
    STATIC = 2


@dataclass(frozen=True, slots=True)
class Apn:
    """An access point name (3GPP TS 23.003, 9.1)."""

    name: str
    ip_allocation: IpAllocation = IpAllocation.DYNAMIC


@dataclass(frozen=True, slots=True, kw_only=True)
class ApnGroup(Item):
    """One or more APNs of any kind, mixed [002]."""

    apns: tuple[Apn, ...] = ()


def require_within_scope(services: Scope, scope: Scope) -> None:
    """Raise FAILED_PRECONDITION SERVICE_OUTSIDE_SCOPE for what the commercial agreement does not grant (R008)."""
    if excess := outside(services, scope):
        raise FailedPreconditionError(
            "SERVICE_OUTSIDE_SCOPE",
            f"Not granted to the account: {in_words(excess)}. It may use {in_words(scope) or 'nothing'}.",
            metadata={"outside": in_words(excess)},
        )


def require_within_coverage(network_ids: tuple[str, ...], covered: tuple[str, ...]) -> None:
    """Raise FAILED_PRECONDITION NETWORK_NOT_IN_COVERAGE for a network that the account does not cover (R017)."""
    if strange := frozenset(network_ids) - frozenset(covered):
        raise FailedPreconditionError(
            "NETWORK_NOT_IN_COVERAGE",
            f"Not in the coverage of the account: {listed(strange)}.",
            metadata={"network_ids": listed(strange)},
        )


def require_distinct_apns(apns: tuple[Apn, ...]) -> None:
    """Raise INVALID_ARGUMENT APN_TWICE; APN names have no case (TS 23.003, 9.1)."""
    seen: set[str] = set()
    for index, apn in enumerate(apns):
        if apn.name.lower() in seen:
            raise invalid(f"apn_group.apns[{index}].name", f"{apn.name} stands twice", "APN_TWICE")
        seen.add(apn.name.lower())
