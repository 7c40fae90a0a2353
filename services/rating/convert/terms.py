"""Commercial terms of the other services' contracts, read into the domain."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import date

from google.protobuf.timestamp_pb2 import Timestamp

from meterline.accounts.v1 import accounts_pb2
from meterline.catalog.v1 import charging_catalog_pb2, networks_pb2, plans_pb2, tariffs_pb2
from meterline.endpoints.v1 import assignments_pb2, charging_context_pb2, endpoints_pb2
from meterline.type.v1 import service_pb2
from services.rating.domain.balances import RenewOn, RollOverOrder
from services.rating.domain.pricing import Action, Meter, Rounding, TierMode
from services.rating.domain.tariffs import rate
from services.rating.domain.terms import (
    AccountTerms,
    Assignment,
    Benefit,
    CapTerms,
    CatalogTerms,
    ComponentTerms,
    CountedBy,
    CounterTerms,
    EndpointTerms,
    Every,
    Joined,
    Members,
    PlanTerms,
    RateTerms,
    RoundingTerms,
    Scope,
    TariffVersion,
    TierTerms,
    TimeBand,
    Weight,
)
from services.runtime.amounts import micros_of

Access = dict[str, dict[int, frozenset[int]]]
"""Access types by service, by service profile."""
_POOLS = frozenset({plans_pb2.PRODUCT_KIND_SUBSCRIPTION_STATIC_POOL, plans_pb2.PRODUCT_KIND_SUBSCRIPTION_DYNAMIC_POOL})
_EVERY = {
    plans_pb2.RECURRENCE_RECURRING: Every.CYCLE,
    plans_pb2.RECURRENCE_DAILY: Every.DAY,
    plans_pb2.RECURRENCE_WEEKLY: Every.WEEK,
}


def _milliseconds(time: Timestamp) -> int:
    return time.ToMilliseconds()


def _assignment(message: assignments_pb2.PlanAssignment) -> Assignment:
    return Assignment(
        id=message.id,
        plan=(message.plan_id, message.plan_version),
        priority=message.priority,
        assigned_ms=_milliseconds(message.assign_time),
        expires_ms=_milliseconds(message.expire_time) if message.HasField("expire_time") else 0,
    )


def _replaced(message: assignments_pb2.PlanAssignment) -> Assignment:
    """Read a base plan's assignment that ended when another one took its place."""
    return replace(_assignment(message), expires_ms=_milliseconds(message.remove_time))


def endpoint_terms(context: charging_context_pb2.EndpointContext, *, owner_active: bool) -> EndpointTerms:
    """Read what charging needs of an endpoint."""
    return EndpointTerms(
        id=context.endpoint_id,
        account_id=context.account_id,
        enterprise_id=context.enterprise_id,
        active=context.state == endpoints_pb2.ENDPOINT_STATE_ACTIVE,
        owner_active=owner_active,
        barred=frozenset(context.barred_services),
        base=_assignment(context.base_assignment) if context.HasField("base_assignment") else None,
        addons=tuple(_assignment(addon) for addon in context.addon_assignments),
        version=context.version,
        deleted=context.state == endpoints_pb2.ENDPOINT_STATE_DELETED,
        former_bases=tuple(map(_replaced, context.former_base_assignments)),
    )


def account_terms(account: accounts_pb2.Account, given: charging_context_pb2.AccountAssignments | None) -> AccountTerms:
    """Read what charging needs of an account."""
    given = given or charging_context_pb2.AccountAssignments()
    return AccountTerms(
        id=account.id,
        path=tuple(account.path),
        active=account.state == accounts_pb2.ACCOUNT_STATE_ACTIVE,
        currency=account.currency,
        credit_limit_micros=micros_of(account.credit_limit) if account.HasField("credit_limit") else None,
        billing_cycle_day=account.billing_cycle_day or 1,
        time_zone=account.time_zone or "UTC",
        base=_assignment(given.base_assignment) if given.HasField("base_assignment") else None,
        addons=tuple(map(_assignment, given.addon_assignments)),
        version=given.version,
        limit_version=int(account.etag or 0),
        members=tuple(map(_members, given.members)),
        terminated=account.state == accounts_pb2.ACCOUNT_STATE_TERMINATED,
        former_bases=tuple(map(_replaced, given.former_base_assignments)),
    )


def _members(message: charging_context_pb2.PlanMembers) -> Members:
    joined = (Joined(group.count, group.since_ms, group.sum_of_times_ms) for group in message.joined)
    return Members((message.plan_id, message.plan_version), message.since_ms, tuple(joined))


def merge_catalog(response: charging_catalog_pb2.BatchGetPlanVersionsResponse, into: CatalogTerms) -> None:
    """Add plans with all that they refer to."""
    access: Access = {
        profile.id: {int(s.service): frozenset(map(int, s.access_types)) for s in profile.services}
        for profile in response.service_profiles
    }
    roaming = {profile.id: frozenset(profile.network_ids) for profile in response.roaming_profiles}
    for zone in response.rate_zones:
        into.zones[zone.id] = frozenset(zone.network_ids)
    versions: dict[str, list[TariffVersion]] = {}
    for tariff in response.tariffs:
        versions.setdefault(tariff.id, []).append(_tariff(tariff))
    for tariff_id, found in versions.items():
        into.tariffs[tariff_id] = tuple(sorted(found, key=lambda tariff: (tariff.effective_ms, tariff.version)))
    for plan in response.plans:
        into.plans[plan.id, plan.version] = _plan(plan, access, roaming)


def _tariff(tariff: tariffs_pb2.Tariff) -> TariffVersion:
    return TariffVersion(
        id=tariff.id,
        version=tariff.version,
        currency=tariff.currency,
        effective_ms=_milliseconds(tariff.effective_time) if tariff.HasField("effective_time") else 0,
        rates=tuple(map(_rate, tariff.rates)),
        time_zone=tariff.time_zone or "UTC",
        holidays=frozenset(map(date.fromisoformat, tariff.holidays)),
        caps=tuple(
            CapTerms(
                id=cap.cap_id,
                scope=Scope(cap.scope),
                for_account=cap.counted_per == tariffs_pb2.COUNTED_PER_ACCOUNT,
                services=frozenset(cap.services),
                amount=micros_of(cap.amount),
                action=Action(cap.action or Action.FREE),
                window_s=cap.window.seconds,
                rates=frozenset(cap.rate_ids),
            )
            for cap in tariff.spending_caps
        ),
    )


def _rate(message: tariffs_pb2.Rate) -> RateTerms:
    simple = (micros_of(message.price), message.per_quantity, message.increment, message.minimum)
    return RateTerms(
        id=message.rate_id,
        zone_id=message.rate_zone_id,
        networks=frozenset(message.network_ids),
        countries=frozenset(message.country_codes),
        services=frozenset(message.services),
        access_types=frozenset(message.access_types),
        bands=tuple(map(_band, message.time_bands)),
        rate=None if message.components else rate(*simple),
        components=tuple(map(_component, message.components)),
    )


def _band(message: tariffs_pb2.TimeBand) -> TimeBand:
    return TimeBand(frozenset(message.weekdays), _minute(message.start), _minute(message.end))


def _minute(clock: str) -> int:
    hours, minutes = clock.split(":")
    return int(hours) * 60 + int(minutes)


def _component(message: tariffs_pb2.PriceComponent) -> ComponentTerms:
    return ComponentTerms(
        id=message.component_id,
        meter=Meter(message.meter or Meter.QUANTITY),
        scope=Scope(message.scope or Scope.RECORD),
        for_account=message.counted_per == tariffs_pb2.COUNTED_PER_ACCOUNT,
        counted_by=CountedBy(message.counted_by or CountedBy.TOTAL),
        counter=message.counter,
        free=message.free_quantity,
        increment=message.increment or 1,
        minimum=message.minimum,
        mode=TierMode(message.tier_mode or TierMode.GRADUATED),
        tiers=tuple(
            TierTerms(
                tier.up_to,
                micros_of(tier.price),
                tier.per_quantity or 1,
                micros_of(tier.flat_price),
                Action(tier.action or Action.CHARGE),
            )
            for tier in message.tiers
        ),
        lowest=micros_of(message.minimum_price),
        highest=micros_of(message.maximum_price) if message.HasField("maximum_price") else None,
        unit=micros_of(message.rounding_unit) if message.HasField("rounding_unit") else 1,
        rounding=Rounding(message.rounding_mode or Rounding.UP),
        each=_use_rounding(message.use_rounding),
        covered=message.charge_covered_use,
        window_s=message.window.seconds,
        window_most=message.window_quantity,
    )


def _use_rounding(message: tariffs_pb2.UseRounding) -> RoundingTerms:
    return RoundingTerms(Scope(message.scope or Scope.RECORD), message.minimum, message.increment or 1, message.maximum)


def _weight(message: plans_pb2.BenefitWeight) -> Weight:
    zones, services = tuple(message.rate_zone_ids), frozenset(message.services)
    return Weight(zones, services, message.quantity, message.per_quantity)


def _plan(plan: plans_pb2.Plan, access: Access, roaming: dict[str, frozenset[str]]) -> PlanTerms:
    return PlanTerms(
        key=(plan.id, plan.version),
        addon=plan.type == plans_pb2.PLAN_TYPE_ADDON,
        prepaid=plan.charging_mode == plans_pb2.CHARGING_MODE_PREPAID,
        access=access.get(plan.service_profile_id, {}),
        networks=roaming.get(plan.roaming_profile_id, frozenset()) if plan.roaming_profile_id else None,
        tariff_id=plan.tariff_id,
        currency=plan.currency,
        benefits=tuple(
            Benefit(
                id=benefit.benefit_id,
                services=frozenset(benefit.services),
                quantity=benefit.quantity,
                zones=tuple(benefit.rate_zone_ids),
                recurring=benefit.recurrence in _EVERY,
                every=_EVERY.get(benefit.recurrence, Every.CYCLE),
                roll_over_cycles=benefit.roll_over_cycles,
                rounding=_use_rounding(benefit.use_rounding),
                weights=tuple(map(_weight, benefit.weights)),
                money=benefit.unit == service_pb2.UNIT_MONEY,
                roll_over_order=RollOverOrder(benefit.roll_over_order or RollOverOrder.OLDEST_FIRST),
                roll_over_maximum=benefit.roll_over_maximum,
                bands=tuple(map(_band, benefit.time_bands)),
            )
            for benefit in plan.benefits
        ),
        zones=tuple(plan.rate_zone_ids),
        on_usage=plan.activation == plans_pb2.ACTIVATION_ON_USAGE,
        validity_ms=plan.validity.ToMilliseconds() if plan.HasField("validity") else 0,
        renew_on=RenewOn(plan.resubscribe_on) if plan.recurrence == plans_pb2.RECURRENCE_RECURRING else RenewOn.CYCLE,
        subscriptions_max=plan.max_subscriptions,
        pooled=plan.account_scope == plans_pb2.ACCOUNT_SCOPE_ENDPOINTS or plan.product_kind in _POOLS,
        grows=plan.product_kind == plans_pb2.PRODUCT_KIND_SUBSCRIPTION_DYNAMIC_POOL,
        refillable=plan.product_kind == plans_pb2.PRODUCT_KIND_PREPAID_BUNDLE,
        prorated=plan.prorated,
        throttles=plan.on_depletion == plans_pb2.ON_DEPLETION_THROTTLE,
        shares=tuple(sorted({notification.threshold_percent for notification in plan.notifications})),
        counters=tuple(CounterTerms(each.name, frozenset(each.services), each.limit) for each in plan.counters),
        unlimited=plan.product_kind == plans_pb2.PRODUCT_KIND_SUBSCRIPTION_UNLIMITED,
        profiles=frozenset({plan.service_profile_id, plan.roaming_profile_id}),
    )


def network_terms(networks: Iterable[networks_pb2.Network]) -> dict[str, str]:
    """Read countries by network id."""
    return {network.id: network.country_code for network in networks}


def coverage_terms(coverages: Iterable[networks_pb2.Coverage]) -> dict[str, frozenset[str]]:
    """Read networks by account id."""
    return {coverage.account_id: frozenset(coverage.network_ids) for coverage in coverages}
