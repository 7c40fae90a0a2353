"""Coverage: the networks that an account may use, always within its parent's [000]."""

from collections.abc import Mapping
from dataclasses import dataclass

from services.catalog.domain.networks import Network, in_countries
from services.common.errors import FailedPreconditionError, InvalidArgumentError

_NAMED_MAX = 10


@dataclass(frozen=True, slots=True)
class Coverage:
    """The networks of an account.

    Attributes:
        owner_path: path of the account, from the OPERATOR down.
        network_ids: sorted.
    """

    owner_path: tuple[str, ...]
    network_ids: tuple[str, ...] = ()

    @property
    def account_id(self) -> str:
        """The account."""
        return self.owner_path[-1]


@dataclass(frozen=True, slots=True)
class CoverageChange:
    """What a change of coverage added and removed, for the audit trail; sorted."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Selection:
    """Networks as a caller names them.

    Attributes:
        network_ids: one by one.
        country_codes: all in these countries.
        all_networks: all there are.
    """

    network_ids: tuple[str, ...] = ()
    country_codes: tuple[str, ...] = ()
    all_networks: bool = False

    def require_something(self) -> None:
        """Raise INVALID_ARGUMENT NETWORKS_REQUIRED if it names nothing."""
        if not (self.network_ids or self.country_codes or self.all_networks):
            raise InvalidArgumentError(
                "NETWORKS_REQUIRED", "Name networks by `network_ids`, `country_codes` or `all_networks`."
            )


def listed(network_ids: frozenset[str] | set[str]) -> str:
    """Name some of many networks in a message."""
    names = sorted(network_ids)
    more = f" and {len(names) - _NAMED_MAX} more" if len(names) > _NAMED_MAX else ""
    return ", ".join(names[:_NAMED_MAX]) + more


def networks_to_add(
    selection: Selection, networks: Mapping[str, Network], parent: frozenset[str] | None
) -> frozenset[str]:
    """Resolve what is to be added to a coverage.

    Args:
        selection: what the caller names.
        networks: all networks by id.
        parent: coverage of the parent account; None for the OPERATOR, who may cover any network.

    Raises:
        FailedPreconditionError: NETWORK_NOT_IN_PARENT_COVERAGE, NETWORK_NOT_OPERATIONAL, for networks named one by one.
    """
    named = frozenset(selection.network_ids)
    permitted = frozenset(networks) if parent is None else parent
    if strange := named - permitted:
        raise FailedPreconditionError(
            "NETWORK_NOT_IN_PARENT_COVERAGE",
            f"Not in the coverage of the parent account: {listed(strange)}. Add them there first.",
            metadata={"network_ids": listed(strange)},
        )
    operational = {key: network for key, network in networks.items() if network.operational and key in permitted}
    if closed := named - frozenset(operational):
        raise FailedPreconditionError(
            "NETWORK_NOT_OPERATIONAL",
            f"Planned or closed: {listed(closed)}. Only operational networks can be covered.",
            metadata={"network_ids": listed(closed)},
        )
    if selection.all_networks:
        return frozenset(operational)
    pairs = ((key, network.country_code) for key, network in operational.items())
    return named | in_countries(pairs, selection.country_codes)


def networks_to_remove(
    selection: Selection, networks: Mapping[str, Network], covered: frozenset[str]
) -> frozenset[str]:
    """Resolve what is to be removed from a coverage; what it does not have is left out."""
    if selection.all_networks:
        return covered
    pairs = ((key, networks[key].country_code) for key in covered)
    return covered & (frozenset(selection.network_ids) | in_countries(pairs, selection.country_codes))
