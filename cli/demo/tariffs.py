"""Prices of real price lists: which entry of ``data/tariffs.json`` gives which price, unit and increment.

Each row names its entry and the words of that entry's facts or worked examples in which the figure stands; a test holds
the words against the file. Units are decimal (1 MB = 1,000,000 bytes) unless the provider says otherwise.
"""

from dataclasses import dataclass
from decimal import Decimal

from google.type.money_pb2 import Money

from meterline.catalog.v1.tariffs_pb2 import Rate, Tariff
from meterline.type.v1.service_pb2 import Service
from services.common.money import MICROS, NANOS_A_MICRO

KB, MB, GB = 1_000, 1_000_000, 1_000_000_000
PACKET = 128
DATA = (Service.SERVICE_DATA, Service.SERVICE_NB_IOT)
SMS = (Service.SERVICE_SMS_MO, Service.SERVICE_SMS_MT)
SMS_MO = (Service.SERVICE_SMS_MO,)
SMS_MT = (Service.SERVICE_SMS_MT,)


@dataclass(frozen=True, slots=True)
class Price:
    """A price of a real price list.

    Attributes:
        source: id of the entry in ``data/tariffs.json``; empty for what that list does not price and the demo includes.
        words: where it stands in that entry.
        services: what it prices.
        amount: price of ``per`` units, in units of the tariff's currency.
        per: bytes or messages.
        increment: bytes or messages up to a multiple of which usage is rounded.
        minimum: least bytes charged.
        region: a region of networks.REGIONS; empty for everywhere else.
    """

    source: str
    words: str
    services: "tuple[Service.ValueType, ...]"
    amount: str
    per: int = 1
    increment: int = 1
    minimum: int = 0
    region: str = ""


@dataclass(frozen=True, slots=True)
class PriceList:
    """A tariff of the demo.

    Attributes:
        name: of the tariff.
        currency: ISO 4217.
        prices: its rates.
    """

    name: str
    currency: str
    prices: tuple[Price, ...]


INCLUDED_SMS = Price("", "", SMS, "0")
"""Messages at no price of their own, said explicitly: where no rate is stated, usage is refused."""

# What the operator sells at: bulk, by the gigabyte.
STARLINK = PriceList(
    "Bulk data (Starlink Priority 2022)",
    "USD",
    (
        Price("starlink-priority-2022", "0.25 USD/GB", DATA, "0.25", GB, KB, region="Europe"),
        Price("starlink-priority-2022", "2.00/GB", DATA, "2.00", GB, KB, region="Worldwide"),
        Price("starlink-priority-2022", "1.00/GB", DATA, "1.00", GB, KB),
        Price("ting-buckets", "0.0025", SMS, "0.0025"),
    ),
)
STELLENBOSCH = PriceList(
    "Campus data (Stellenbosch)",
    "ZAR",
    (
        Price("stellenbosch-tod", "0.01 ZAR/MB", DATA, "0.01", MB, region="Africa"),
        Price("stellenbosch-tod", "0.02 ZAR/MB", DATA, "0.02", MB),
        Price("mtn-za-adhoc", "0.02 ZAR ex VAT", SMS, "0.02"),
    ),
)
TELEKOM_HU = PriceList(
    "GPRS World Limit (Magyar Telekom)",
    "HUF",
    (Price("telekom-hu-world-limit", "1.0329 HUF/MB", DATA, "1.0329", MB), INCLUDED_SMS),
)

# What resellers sell at.
TING = PriceList(
    "Beyond XL (Ting)",
    "USD",
    (
        Price("ting-buckets", "10 per GB", DATA, "10", GB, KB),
        Price("ting-buckets", "0.0025", SMS, "0.0025"),
    ),
)
HOLOGRAM = PriceList(
    "Self-Service PAYG (Hologram)",
    "USD",
    (
        Price("hologram-self-service", "0.03 USD/MB", DATA, "0.03", MB, KB),
        Price("hologram-self-service", "0.19", SMS_MO, "0.19"),
        Price("hologram-self-service", '"sms_mt": "0"', SMS_MT, "0"),
    ),
)
CAMPBELL = PriceList(
    "Cellular data service (Campbell Scientific)",
    "USD",
    (
        Price("campbell-cellular-pool", "0.10 USD/MB", DATA, "0.10", MB, region="Europe"),
        Price("campbell-cellular-pool", "1.00 USD/MB", DATA, "1.00", MB),
        Price("hologram-self-service", "0.19", SMS, "0.19"),
    ),
)
ONOMONDO = PriceList(
    "Per-operator rates (Onomondo)",
    "EUR",
    (
        Price("onomondo-fees", "0.0025 EUR/MB", DATA, "0.0025", MB),
        INCLUDED_SMS,
    ),
)
VODACOM_POSTPAID = PriceList(
    "Roaming postpaid (Vodacom Lesotho)",
    "LSL",
    (
        Price("vodacom-lesotho-roaming", "1.25 LSL/MB", DATA, "1.25", MB, KB),
        INCLUDED_SMS,
    ),
)
GOOGLE_FI = PriceList(
    "Flexible (Google Fi)",
    "USD",
    (
        Price("google-fi-flexible", "10 USD/GB", DATA, "10", GB, MB),
        Price("ting-buckets", "0.0025", SMS, "0.0025"),
    ),
)

# What enterprises charge their devices at.
TWILIO = PriceList(
    "Programmable Wireless (Twilio)",
    "USD",
    (
        Price("twilio-programmable-wireless", "0.10 USD/MB", DATA, "0.10", MB, 100 * KB),
        Price("hologram-self-service", "0.19", SMS, "0.19"),
    ),
)
LYCA = PriceList(
    "Out of bundle (Lyca Ireland)",
    "EUR",
    (
        Price("lyca-ie-bundles", "0.09 EUR/MB", DATA, "0.09", MB, KB),
        INCLUDED_SMS,
    ),
)
VODACOM_PREPAID = PriceList(
    "Roaming out of bundle (Vodacom Lesotho)",
    "LSL",
    (
        Price("vodacom-lesotho-roaming", "5 LSL/MB", DATA, "5", MB, 10 * KB),
        INCLUDED_SMS,
    ),
)
SOFTBANK = PriceList(
    "Packet Hodai (SoftBank)",
    "JPY",
    (
        Price("softbank-packet", "0.084 JPY/packet", DATA, "0.084", PACKET, PACKET),
        INCLUDED_SMS,
    ),
)
PAYG1 = PriceList(
    "Pay as you go 1 (Vodafone UK)",
    "GBP",
    (
        Price("vodafone-uk-payg1", "20p per 5 MB", DATA, "0.20", 5 * MB, 5 * MB, region="Europe"),
        Price("tuff-multinet", "5.00 GBP/MB", DATA, "5.00", MB, KB),
        Price("vodafone-uk-payg1", '"sms": "20p"', SMS_MO, "0.20"),
        Price("tuff-multinet", "SMS 35p", SMS_MT, "0.35"),
    ),
)

PRICE_LISTS = (
    STARLINK,
    STELLENBOSCH,
    TELEKOM_HU,
    TING,
    HOLOGRAM,
    CAMPBELL,
    ONOMONDO,
    VODACOM_POSTPAID,
    GOOGLE_FI,
    TWILIO,
    LYCA,
    VODACOM_PREPAID,
    SOFTBANK,
    PAYG1,
)


def money(amount: Decimal | str, currency: str) -> Money:
    """An amount that is a whole number of micros as the contract writes it."""
    micros = Decimal(amount) * MICROS
    if micros != int(micros):
        raise ValueError(f"{amount} {currency} is not a whole number of micros")
    units, rest = divmod(int(micros), MICROS)
    return Money(currency_code=currency, units=units, nanos=rest * NANOS_A_MICRO)


def tariff(prices: PriceList, name: str, zones: dict[str, str]) -> Tariff:
    """The tariff as the catalog takes it.

    Args:
        prices: the price list.
        name: of the tariff.
        zones: id of the rate zone of each region.
    """
    sources = sorted({price.source for price in prices.prices if price.source})
    rates = [
        Rate(
            rate_zone_id=zones[price.region] if price.region else "",
            services=price.services,
            price=money(price.amount, prices.currency),
            per_quantity=price.per,
            increment=price.increment,
            minimum=price.minimum,
        )
        for price in prices.prices
    ]
    return Tariff(
        name=name,
        currency=prices.currency,
        rates=rates,
        description=f"Prices from data/tariffs.json: {', '.join(sources)}.",
    )
