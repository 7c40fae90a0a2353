"""Services and access types, and the algebra of what an account or a profile may use [001]."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from services.common.errors import invalid


class Unit(IntEnum):
    """In what a volume is counted; numbers as in the contract."""

    BYTES = 1
    MESSAGES = 2
    SECONDS = 3
    MONEY = 4


class Service(IntEnum):
    """A network service; the closed set of [001], numbers as in the contract."""

    DATA = 1
    SMS_MO = 2
    SMS_MT = 3
    NB_IOT = 4

    @property
    def unit(self) -> Unit:
        """In what its volumes are counted."""
        return Unit.BYTES if self in {Service.DATA, Service.NB_IOT} else Unit.MESSAGES


class AccessType(IntEnum):
    """A radio generation; numbers as in the contract."""

    G2 = 1
    G3 = 2
    G4 = 3
    G5 = 4


@dataclass(frozen=True, slots=True)
class ServiceAccess:
    """A service with the access types over which it may be used, sorted."""

    service: Service
    access_types: tuple[AccessType, ...]


Scope = tuple[ServiceAccess, ...]
"""Services, each once, sorted: what may be used."""

ALL_SERVICES: Scope = tuple(ServiceAccess(service, tuple(AccessType)) for service in Service)
"""The scope of an OPERATOR that has not set one."""


def _sets(scope: Iterable[ServiceAccess]) -> dict[Service, frozenset[AccessType]]:
    return {access.service: frozenset(access.access_types) for access in scope}


def _scope(sets: dict[Service, frozenset[AccessType]]) -> Scope:
    return tuple(ServiceAccess(service, tuple(sorted(sets[service]))) for service in sorted(sets) if sets[service])


def canonical(accesses: Iterable[ServiceAccess], field: str) -> Scope:
    """Sort a list of services; INVALID_ARGUMENT SERVICE_TWICE where one stands twice.

    Args:
        accesses: as the caller listed them.
        field: path of the list in the request, for the error.
    """
    listed = list(accesses)
    for index, access in enumerate(listed):
        if any(access.service is earlier.service for earlier in listed[:index]):
            raise invalid(f"{field}[{index}].service", f"{access.service.name} stands twice", "SERVICE_TWICE")
    return _scope(_sets(listed))


def outside(inner: Scope, outer: Scope) -> Scope:
    """What of `inner` is not in `outer`; empty means that it lies within."""
    bounds = _sets(outer)
    return _scope({s: types - bounds.get(s, frozenset()) for s, types in _sets(inner).items()})


def intersection(scopes: Iterable[Scope]) -> Scope:
    """What all of the scopes permit; of none, everything."""
    common = _sets(ALL_SERVICES)
    for scope in scopes:
        sets = _sets(scope)
        common = {service: types & sets.get(service, frozenset()) for service, types in common.items()}
    return _scope(common)


def in_words(scope: Scope) -> str:
    """Write a scope for a message: `DATA over 2G 4G, SMS_MO over 2G`."""
    return ", ".join(
        f"{access.service.name} over {' '.join(f'{kind.name[1]}G' for kind in access.access_types)}" for access in scope
    )
