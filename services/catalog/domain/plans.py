"""Plans: the commercial configuration of endpoints and accounts, base and add-on [001] [004]."""

from dataclasses import dataclass
from enum import IntEnum

from services.catalog.domain.components import UseRounding
from services.catalog.domain.items import Item
from services.catalog.domain.services import Service, Unit
from services.catalog.domain.timebands import TimeBand

DEFAULT_POSTPAID_PLAN = "DEFAULT POSTPAID PLAN"
DEFAULT_PREPAID_PLAN = "DEFAULT PREPAID PLAN"
RESERVED_NAMES = (DEFAULT_POSTPAID_PLAN, DEFAULT_PREPAID_PLAN)


class PlanType(IntEnum):
    """Base or add-on; exactly these two [001]. Numbers as in the contract, here and below."""

    BASE = 1
    ADDON = 2


class ChargingMode(IntEnum):
    """Whether the step that a base plan prices needs money first."""

    PREPAID = 1
    POSTPAID = 2


class ProductKind(IntEnum):
    """What kind of product a plan is sold as [004]."""

    STANDARD = 1
    PREPAID_BUNDLE = 2
    SUBSCRIPTION_STATIC_POOL = 3
    SUBSCRIPTION_DYNAMIC_POOL = 4
    SUBSCRIPTION_UNLIMITED = 5
    SUBSCRIPTION_MONTHLY_BUNDLE = 6
    SUBSCRIPTION_PAY_PER_MB = 7
    PAYGO = 8


class PlanState(IntEnum):
    """Where a plan is in its life."""

    DRAFT = 1
    PUBLISHED = 2
    RETIRED = 3


class Activation(IntEnum):
    """When an add-on becomes active and its validity starts [001]."""

    ON_SUBSCRIPTION = 1
    ON_USAGE = 2


class Recurrence(IntEnum):
    """Whether a benefit comes once, or anew in each billing cycle."""

    ONE_TIME = 1
    RECURRING = 2
    DAILY = 3
    WEEKLY = 4


class OnDepletion(IntEnum):
    """What happens to traffic when nothing is left [004]."""

    BLOCK_TRAFFIC = 1
    SUSPEND = 2
    THROTTLE = 3


class ChargeTrigger(IntEnum):
    """What a fee is for."""

    ASSIGNMENT = 1
    ACTIVATION = 2
    CYCLE = 3


class AccountScope(IntEnum):
    """Whose use draws on an add-on that is assigned to an account [001]."""

    OWN_STEP = 1
    ENDPOINTS = 2


class ResubscribeOn(IntEnum):
    """What begins a new subscription of a recurring add-on."""

    EXPIRY = 1
    EXPIRY_OR_EXHAUSTION = 2


class RollOverOrder(IntEnum):
    """When what is left of former cycles is drawn."""

    OLDEST_FIRST = 1
    NEWEST_FIRST = 2
    PRESENT_FIRST = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class BenefitWeight:
    """Use draws `quantity` of a benefit for each `per_quantity`, 1 to 1000; empty means everywhere, all services."""

    rate_zone_ids: tuple[str, ...] = ()
    services: tuple[Service, ...] = ()
    quantity: int = 1
    per_quantity: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Benefit:
    """A volume, or money, that comes with a plan.

    Attributes:
        benefit_id: unique in the plan.
        services: who may draw on it; sorted, all of one unit unless it is money.
        quantity: bytes, messages or micros of the plan's currency, 1 to 2^50.
        rate_zone_ids: where; empty means wherever the plan may be used.
        recurrence: once, or refilled at each start of a billing cycle, day or week.
        unit: its services', or money.
        roll_over_cycles: for how many cycles the rest of one lives on, 0 to 12.
        use_rounding: how use is measured before it is drawn.
        weights: what use draws where that is not its own volume; the first that fits.
        roll_over_order: when a rest is drawn; None if there are none.
        roll_over_maximum: most that rests may hold together; 0 is without bound.
        time_bands: when it may be used; empty means always.
    """

    benefit_id: str = ""
    services: tuple[Service, ...] = ()
    quantity: int = 0
    rate_zone_ids: tuple[str, ...] = ()
    recurrence: Recurrence = Recurrence.ONE_TIME
    unit: Unit | None = None
    roll_over_cycles: int = 0
    use_rounding: UseRounding | None = None
    weights: tuple[BenefitWeight, ...] = ()
    roll_over_order: RollOverOrder | None = None
    roll_over_maximum: int = 0
    time_bands: tuple[TimeBand, ...] = ()

    @property
    def zone_ids(self) -> frozenset[str]:
        """The zones that it references."""
        return frozenset(self.rate_zone_ids).union(*(weight.rate_zone_ids for weight in self.weights))


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanCharge:
    """A fee.

    Attributes:
        name: as the invoice shows it.
        trigger: what it is for.
        amount_micros: micros of the plan's currency, not negative.
    """

    name: str = ""
    trigger: ChargeTrigger = ChargeTrigger.ASSIGNMENT
    amount_micros: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """A count of usage in a billing cycle.

    Attributes:
        name: unique in the plan.
        services: what is counted.
        limit: volume at which traffic is blocked, units; 0 means never.
    """

    name: str = ""
    services: tuple[Service, ...] = ()
    limit: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanNotification:
    """A message at a share of each benefit.

    Attributes:
        threshold_percent: 1 to 100.
        target: e-mail address or URL; empty means only an event.
    """

    threshold_percent: int = 100
    target: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(Item):
    """A version of a plan. The fields say what the contract says of them; what differs is stated here.

    Attributes:
        version: from 1.
        state: state of the plan, the same for all its versions.
        charging_mode: None for an add-on.
        activation: None for a base plan.
        validity_s: how long an add-on is valid from its activation, a prepaid bundle from its assignment, seconds;
            None means without end.
        account_scope: None for a base plan, as are `recurrence` and `resubscribe_on`.
        resubscribe_on: None for an add-on that does not recur.
        max_subscriptions: 0 means without end.
    """

    type: PlanType = PlanType.BASE
    charging_mode: ChargingMode | None = None
    product_kind: ProductKind = ProductKind.STANDARD
    version: int = 1
    state: PlanState = PlanState.DRAFT
    currency: str = ""
    service_profile_id: str = ""
    roaming_profile_id: str = ""
    tariff_id: str = ""
    benefits: tuple[Benefit, ...] = ()
    charges: tuple[PlanCharge, ...] = ()
    counters: tuple[Counter, ...] = ()
    notifications: tuple[PlanNotification, ...] = ()
    priority: int = 0
    activation: Activation | None = None
    validity_s: int | None = None
    rate_zone_ids: tuple[str, ...] = ()
    on_depletion: OnDepletion = OnDepletion.BLOCK_TRAFFIC
    prorated: bool = False
    designated_account_ids: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    carrier: str = ""
    description: str = ""
    account_scope: AccountScope | None = None
    recurrence: Recurrence | None = None
    max_subscriptions: int = 0
    resubscribe_on: ResubscribeOn | None = None

    @property
    def zone_ids(self) -> frozenset[str]:
        """The zones that it references, its benefits' included."""
        return frozenset(self.rate_zone_ids).union(*(benefit.zone_ids for benefit in self.benefits))

    @property
    def references(self) -> frozenset[str]:
        """Ids of all objects of the catalogue that it references."""
        single = {self.service_profile_id, self.roaming_profile_id, self.tariff_id}
        return (self.zone_ids | single) - {""}
