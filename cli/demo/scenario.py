"""The demo's tree: who sells to whom, at which of the real price lists, and whose devices use the network.

    operator
    |- Atlas Connect (reseller, USD, postpaid)
    |   |- Nordic Mobile (nested reseller, USD, postpaid)
    |   |   |- Fjord Fleet        enterprise; a base benefit, no NB-IoT in its service profile
    |   |   `- Polar Meters       enterprise; DEFAULT PREPAID PLAN with add-ons; a shared pool as account add-on
    |   |- Rhein Trackers         enterprise, EUR; devices may roam in Europe only
    |   `- Thames Alarms          enterprise; sells in GBP what it buys in USD
    |- Cape Wireless (reseller, ZAR, prepaid: its wallet runs out)
    |   `- Maseru Taxis           enterprise, LSL; prepaid devices with money, or with an add-on only
    `- Duna Telemetry             enterprise directly under the operator, HUF; it hits its credit limit

Amounts that limit somebody are stated for 100,000 records and scale with the number of records.
"""

from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Decimal

from cli.demo import tariffs
from cli.demo.tariffs import DATA, GB, MB, SMS, PriceList
from meterline.accounts.v1.accounts_pb2 import AccountKind
from meterline.catalog.v1.plans_pb2 import Activation, ChargingMode
from meterline.type.v1.service_pb2 import Service

SCALE_RECORDS = 100_000
PREPAID, POSTPAID = ChargingMode.CHARGING_MODE_PREPAID, ChargingMode.CHARGING_MODE_POSTPAID
OPERATOR = "operator"


def scaled(amount: int | str, records: int) -> Decimal:
    """An amount for ``SCALE_RECORDS`` records, for this many: whole hundredths, at least one."""
    return max((Decimal(amount) * records / SCALE_RECORDS).quantize(Decimal("0.01"), ROUND_CEILING), Decimal("0.01"))


@dataclass(frozen=True, slots=True)
class Addon:
    """An add-on plan after a real one.

    Attributes:
        name: of the plan.
        source: id of the entry in ``data/tariffs.json``.
        benefits: services and volume, in bytes or messages.
        priority: lowest is consumed first.
        regions: where it may be used; empty for everywhere.
        on_usage: its validity starts at the first use, not at assignment.
        validity_days: 0 for without end.
        scales: the volumes are for ``SCALE_RECORDS`` records.
    """

    name: str
    source: str
    benefits: "tuple[tuple[tuple[Service.ValueType, ...], int], ...]"
    priority: int
    regions: tuple[str, ...] = ()
    on_usage: bool = False
    validity_days: int = 0
    scales: bool = False

    @property
    def activation(self) -> "Activation.ValueType":
        """As the contract says it."""
        return Activation.ACTIVATION_ON_USAGE if self.on_usage else Activation.ACTIVATION_ON_SUBSCRIPTION

    def volume(self, quantity: int, records: int) -> int:
        """A benefit's volume for this many records."""
        return max(quantity * records // SCALE_RECORDS, 1) if self.scales else quantity


@dataclass(frozen=True, slots=True)
class Fleet:
    """The devices of an enterprise and what it gives them.

    Attributes:
        share: of endpoints and of records, in percent.
        home: regions in which the devices live.
        prices: at which the enterprise charges them; None for DEFAULT PREPAID PLAN, which has no tariff.
        mode: whether a device needs a balance first.
        benefit: services and bytes that the base plan includes in each cycle.
        services: the service profile; empty for DEFAULT.
        roams_in: regions of the roaming profile; empty for DEFAULT.
        addons: each with n: every n-th device has it.
        money: a top-up, and n: every n-th device gets it.
    """

    share: int
    home: tuple[str, ...]
    prices: PriceList | None
    mode: "ChargingMode.ValueType" = POSTPAID
    benefit: "tuple[tuple[Service.ValueType, ...], int] | None" = None
    services: "tuple[Service.ValueType, ...]" = ()
    roams_in: tuple[str, ...] = ()
    addons: tuple[tuple[Addon, int], ...] = ()
    money: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """An account of the demo.

    Attributes:
        name: unique in the demo.
        parent: name of the account above, or ``OPERATOR``.
        country: ISO 3166 code of the company's seat.
        city: of the company's seat.
        buys: the price list at which the parent charges it; its currency is the account's.
        mode: whether it needs a wallet first.
        wallet: paid in, in its currency, for ``SCALE_RECORDS`` records.
        credit_limit: in its currency, for ``SCALE_RECORDS`` records; None for none.
        addons: that the parent gives to the account.
        fleet: its devices; None for a reseller.
    """

    name: str
    parent: str
    country: str
    city: str
    buys: PriceList
    mode: "ChargingMode.ValueType" = POSTPAID
    wallet: str = ""
    credit_limit: str | None = None
    addons: tuple[Addon, ...] = field(default=())
    fleet: Fleet | None = None

    @property
    def kind(self) -> "AccountKind.ValueType":
        """Reseller or enterprise."""
        return AccountKind.ACCOUNT_KIND_ENTERPRISE if self.fleet else AccountKind.ACCOUNT_KIND_RESELLER


PASSPORT = Addon("120 MB Passport (AT&T)", "att-passport", ((DATA, 120 * MB),), 10, ("Europe", "North America"))
WEEK = Addon(
    "1 GB in 7 days (Airalo)", "airalo-validity", ((DATA, GB),), 20, ("Europe",), on_usage=True, validity_days=7
)
BOLT_ON = Addon(
    "Daily bolt-on B (TUFF MultiNet)",
    "tuff-multinet",
    ((DATA, 500 * MB), (SMS, 200)),
    30,
    ("Europe",),
    on_usage=True,
    validity_days=1,
)
TEN_MB = Addon("10 MB (Vodacom Lesotho)", "vodacom-lesotho-roaming", ((DATA, 10 * MB),), 10, ("Africa",))
POOL = Addon("10 GB shared (melita.io)", "melita-rollover-bundle", ((DATA, 10 * GB),), 10, ("Europe",), scales=True)

MEMBERS = (
    Member("Atlas Connect", OPERATOR, "BE", "Brussels", tariffs.STARLINK),
    Member("Nordic Mobile", "Atlas Connect", "SE", "Stockholm", tariffs.TING),
    Member(
        "Fjord Fleet",
        "Nordic Mobile",
        "NO",
        "Oslo",
        tariffs.HOLOGRAM,
        fleet=Fleet(
            23,
            ("Europe", "North America"),
            tariffs.TWILIO,
            benefit=((Service.SERVICE_DATA,), MB),  # ting-buckets: "1 MB/month free"
            services=(Service.SERVICE_DATA, *SMS),
        ),
    ),
    Member(
        "Polar Meters",
        "Nordic Mobile",
        "FI",
        "Helsinki",
        tariffs.CAMPBELL,
        addons=(POOL,),
        fleet=Fleet(20, ("Europe",), None, PREPAID, addons=((PASSPORT, 1), (WEEK, 2), (BOLT_ON, 3), (WEEK, 5))),
    ),
    Member(
        "Rhein Trackers",
        "Atlas Connect",
        "DE",
        "Cologne",
        tariffs.ONOMONDO,
        fleet=Fleet(17, ("Europe", "Middle East and Asia"), tariffs.LYCA, roams_in=("Europe",)),
    ),
    Member(
        "Thames Alarms",
        "Atlas Connect",
        "GB",
        "London",
        tariffs.GOOGLE_FI,
        fleet=Fleet(10, ("Europe", "Latin America"), tariffs.PAYG1, addons=((BOLT_ON, 4),)),
    ),
    Member("Cape Wireless", OPERATOR, "ZA", "Cape Town", tariffs.STELLENBOSCH, PREPAID, wallet="50"),
    Member(
        "Maseru Taxis",
        "Cape Wireless",
        "LS",
        "Maseru",
        tariffs.VODACOM_POSTPAID,
        fleet=Fleet(10, ("Africa",), tariffs.VODACOM_PREPAID, PREPAID, addons=((TEN_MB, 2),), money=("200", 10)),
    ),
    Member(
        "Duna Telemetry",
        OPERATOR,
        "HU",
        "Budapest",
        tariffs.TELEKOM_HU,
        credit_limit="18380",  # telekom-hu-world-limit: "18380 HUF, data stopped at limit"
        fleet=Fleet(20, ("Middle East and Asia", "Asia-Pacific"), tariffs.SOFTBANK),
    ),
)
ENTERPRISES = tuple(member for member in MEMBERS if member.fleet)


def shared_out(total: int) -> dict[str, int]:
    """Share ``total`` out to the enterprises by their fleets' shares: whole numbers that add up to it."""
    shares = {member.name: member.fleet.share for member in ENTERPRISES if member.fleet}
    whole = sum(shares.values())
    given = {name: total * share // whole for name, share in shares.items()}
    for name in sorted(shares, key=lambda name: -(total * shares[name] % whole))[: total - sum(given.values())]:
        given[name] += 1
    return given
