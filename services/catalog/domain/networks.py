"""Networks that devices can visit, and countries that stand for all networks in them."""

from collections.abc import Iterable
from dataclasses import dataclass

from services.catalog.domain.services import AccessType


@dataclass(frozen=True, slots=True)
class Network:
    """A public land mobile network.

    Attributes:
        mcc: mobile country code, three digits (ITU-T E.212).
        mnc: mobile network code, two or three digits (ITU-T E.212).
        country_code: ISO 3166-1 alpha-2, optionally with a subdivision: `BE`, `GE-AB`.
        country_name: in English.
        brand: what subscribers see.
        operator: the company behind it.
        access_types: generations that it offers; empty means not known.
        operational: whether it can be added to coverage.
    """

    mcc: str
    mnc: str
    country_code: str
    country_name: str = ""
    brand: str = ""
    operator: str = ""
    access_types: tuple[AccessType, ...] = ()
    operational: bool = True

    @property
    def id(self) -> str:
        """`net_` followed by MCC and MNC; MNC 01 and 001 are different networks, as E.212 has it."""
        return f"net_{self.mcc}{self.mnc}"

    @property
    def search_text(self) -> str:
        """What a search looks in, in one case."""
        numbers = f"{self.mcc}-{self.mnc} {self.mcc}{self.mnc}"
        return f"{self.brand}\n{self.operator}\n{self.country_name}\n{numbers}".casefold()


def is_in_country(country_code: str, wanted: str) -> bool:
    """Whether a network's country code lies in a country: `GE-AB` is in `GE` and in `GE-AB`, `GE` not in `GE-AB`."""
    return country_code == wanted or country_code.startswith(f"{wanted}-")


def in_countries(countries_by_network: Iterable[tuple[str, str]], wanted: Iterable[str]) -> frozenset[str]:
    """Ids of the networks in any of the countries.

    Args:
        countries_by_network: pairs of network id and country code.
        wanted: country codes.
    """
    codes = frozenset(wanted)
    if not codes:
        return frozenset()
    return frozenset(
        network_id
        for network_id, code in countries_by_network
        if code in codes or (len(code) > 2 and code[:2] in codes)
    )
