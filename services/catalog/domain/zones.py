"""Rate zones: named groupings of networks [001]."""

from collections.abc import Iterable
from dataclasses import dataclass

from services.catalog.domain.items import Item
from services.catalog.domain.networks import in_countries


@dataclass(frozen=True, slots=True, kw_only=True)
class RateZone(Item):
    """Networks that share a price or an add-on's reach.

    Attributes:
        network_ids: networks named one by one, sorted.
        country_codes: countries that stand for all their networks, those imported later too; sorted.
    """

    network_ids: tuple[str, ...] = ()
    country_codes: tuple[str, ...] = ()

    def reach(self, countries_by_network: Iterable[tuple[str, str]]) -> "ZoneReach":
        """Resolve the countries.

        Args:
            countries_by_network: pairs of network id and country code, of all networks.
        """
        networks = frozenset(self.network_ids) | in_countries(countries_by_network, self.country_codes)
        return ZoneReach(networks, self.country_codes)


@dataclass(frozen=True, slots=True)
class ZoneReach:
    """Where a zone holds: the networks of today, and the countries that bring those of tomorrow."""

    network_ids: frozenset[str]
    country_codes: tuple[str, ...] = ()
