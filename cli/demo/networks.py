"""The real networks of ``data/networks.json``: the operational ones, as the catalog takes them."""

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cli.output import Failure
from meterline.catalog.v1.networks_pb2 import Network
from meterline.type.v1.service_pb2 import AccessType

DATA = Path(__file__).parents[2] / "data"
REGIONS: Mapping[str, str] = {
    "2": "Europe",
    "3": "North America",
    "4": "Middle East and Asia",
    "5": "Asia-Pacific",
    "6": "Africa",
    "7": "Latin America",
    "9": "Worldwide",
}
"""The geographic meaning of an MCC's first digit (ITU-T E.212, annex A)."""
INTERNATIONAL = "XZ"
"""Country code of networks on ships, aircraft and satellites (MCC 901): "international waters" in UN/LOCODE."""
_GENERATIONS = (
    (re.compile(r"\b(GSM|CDMA ?(?!2000)|iDEN|TDMA)"), AccessType.ACCESS_TYPE_2G),
    (re.compile(r"\b(UMTS|UTMS|CDMA2000|TD-SCDMA)"), AccessType.ACCESS_TYPE_3G),
    (re.compile(r"LTE"), AccessType.ACCESS_TYPE_4G),
    (re.compile(r"\b(TD-)?5G\b"), AccessType.ACCESS_TYPE_5G),
)


@dataclass(frozen=True, slots=True)
class World:
    """The networks and where they are.

    Attributes:
        networks: operational networks, each (MCC, MNC) once, as the file orders them.
        by_country: networks by ISO 3166 code, subdivision included.
        regions: two-letter country codes by region; a country is in one region.
        left_out: operational entries that are not a network of their own: repeated, or without a usable code.
    """

    networks: Sequence[Network]
    by_country: Mapping[str, Sequence[Network]]
    regions: Mapping[str, Sequence[str]]
    left_out: int


def network_id(network: Network) -> str:
    """The id that the catalog derives."""
    return f"net_{network.mcc}{network.mnc}"


def access_types(bands: str) -> "list[AccessType.ValueType]":
    """The radio generations that a list of bands offers; none if it names none (a virtual network, a satellite)."""
    return [generation for pattern, generation in _GENERATIONS if pattern.search(bands)]


def load_world(path: Path = DATA / "networks.json") -> World:
    """Read the operational networks.

    Raises:
        Failure: the file is not there.
    """
    try:
        entries = json.loads(path.read_bytes())
    except OSError as error:
        raise Failure(f"cannot read {path}: {error.strerror}. The demo runs from the project's folder.") from error
    operational = [entry for entry in entries if entry["status"] == "Operational"]
    networks: dict[str, Network] = {}
    for entry in operational:
        if (network := _network(entry)) is not None:
            networks.setdefault(network_id(network), network)
    by_country: defaultdict[str, list[Network]] = defaultdict(list)
    countries: dict[str, str] = {}
    for network in networks.values():
        by_country[network.country_code].append(network)
        countries.setdefault(network.country_code[:2], REGIONS[network.mcc[0]])
    regions = {region: sorted(c for c, of in countries.items() if of == region) for region in REGIONS.values()}
    return World(list(networks.values()), by_country, regions, len(operational) - len(networks))


def _network(entry: Mapping[str, str | None]) -> Network | None:
    mcc, mnc = entry["mcc"] or "", entry["mnc"] or ""
    country = (entry["countryCode"] or "").partition("/")[0] or (INTERNATIONAL if mcc == "901" else "")
    if not re.fullmatch(r"[2-79]\d\d", mcc) or not re.fullmatch(r"\d{2,3}", mnc) or not country:
        return None
    return Network(
        mcc=mcc,
        mnc=mnc,
        country_code=country,
        country_name=entry["countryName"] or "International",
        brand=entry["brand"] or "",
        operator=entry["operator"] or "",
        access_types=access_types(entry["bands"] or ""),
        operational=True,
    )
