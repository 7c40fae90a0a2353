"""Compiles commercial terms into a charging program."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise

from services.rating.domain.balances import pool_id
from services.rating.domain.limits import plan_counters, usage_limits
from services.rating.domain.measuring import Measure, UseRounding, counter_name
from services.rating.domain.periods import ALWAYS, Clock, Period, Window
from services.rating.domain.pricing import NO_BOUND, Action, Component, Meter, Pricing, Rounding, Tier, TierMode
from services.rating.domain.programs import ENDPOINT_HOLDER, NO_HOLDER, Program, Step, StepMode, program
from services.rating.domain.rates import Payer, price_of, rate_at, tariff_at
from services.rating.domain.reasons import Reason
from services.rating.domain.tariffs import rate
from services.rating.domain.terms import (
    AccountTerms,
    Assignment,
    Benefit,
    CatalogTerms,
    EndpointTerms,
    PlanTerms,
    Scope,
    Use,
    as_of,
)
from services.rating.domain.timebands import bands_at

SLOWED_DOWN = Pricing(
    (
        Component(
            id="throttle",
            counter="",
            owner="",
            period=Period.RECORD,
            meter=Meter.QUANTITY,
            free=0,
            increment=1,
            minimum=0,
            mode=TierMode.GRADUATED,
            tiers=(Tier(0, 0, 0, Action.THROTTLE),),
            denominator=1,
            lowest=0,
            highest=NO_BOUND,
            unit=1,
            rounding=Rounding.UP,
        ),
    ),
    (),
)
"""The price after depletion of a plan that throttles: nothing, and flagged."""

FREE = rate(0, 1, 1, 0)
"""The price of a subscription without limits where no tariff says another one."""


def compile_program(
    endpoint: EndpointTerms,
    chain: Sequence[AccountTerms],
    catalog: CatalogTerms,
    use: Use,
    at_ms: int,
) -> Program:
    """Compile the program of one kind of use by one endpoint.

    Args:
        endpoint: the endpoint, as of the usage time.
        chain: accounts from the enterprise upwards, the OPERATOR last; the OPERATOR is paid and pays nobody.
        catalog: terms that hold every plan, tariff, zone and coverage that endpoint and chain refer to.
        use: service, network and access type.
        at_ms: usage time, which selects base plans of accounts and versions of tariffs.
    """
    dated = [as_of(account, at_ms) for account in chain]
    chain, windows = [account for account, _ in dated], [window for _, window in dated]
    steps, denials = [], list(_endpoint_denials(endpoint, chain, catalog, use))
    payers: list[tuple[EndpointTerms | AccountTerms, AccountTerms]] = [(endpoint, chain[0])]
    payers += pairwise(chain)
    clocks: list[Clock] = []
    for index, (payer, payee) in enumerate(payers):
        base = catalog.plans.get(payer.base.plan) if payer.base else None
        denials += [(reason, index) for reason in _plan_denials(base, use)]
        step, window = _step(payer, payee, base, catalog, use, at_ms, clocks)
        steps.append(step)
        windows.append(window)
    deny = denials[0] if denials else (Reason.NONE, 0)
    window = (max(start for start, _ in windows), min(end for _, end in windows))
    return program(use.service, tuple(steps), deny, window, tuple(clocks))


def _endpoint_denials(
    endpoint: EndpointTerms, chain: Sequence[AccountTerms], catalog: CatalogTerms, use: Use
) -> Iterator[tuple[Reason, int]]:
    if not endpoint.active:
        yield Reason.ENDPOINT_NOT_ACTIVE, 0
    if not endpoint.owner_active:
        yield Reason.ACCOUNT_NOT_ACTIVE, 0
    for index, account in enumerate(chain):
        if not account.active:
            yield Reason.ACCOUNT_NOT_ACTIVE, min(index + 1, len(chain) - 1)
    if use.service in endpoint.barred:
        yield Reason.SERVICE_BARRED, 0
    if use.network_id not in catalog.coverage.get(chain[0].id, frozenset()):
        yield Reason.NETWORK_NOT_ALLOWED, 0


def _plan_denials(base: PlanTerms | None, use: Use) -> Iterator[Reason]:
    if base is None:
        yield Reason.NO_BASE_PLAN
        return
    if not base.permits(use.service, use.access_type):
        yield Reason.SERVICE_BARRED
    if base.networks is not None and use.network_id not in base.networks:
        yield Reason.NETWORK_NOT_ALLOWED


def _step(
    payer: EndpointTerms | AccountTerms,
    payee: AccountTerms,
    base: PlanTerms | None,
    catalog: CatalogTerms,
    use: Use,
    at_ms: int,
    clocks: list[Clock],
) -> tuple[Step, Window]:
    tariff, window = tariff_at(catalog, base.tariff_id if base else "", at_ms)
    found, rate_window = rate_at(tariff, catalog, use, at_ms) if tariff else (None, ALWAYS)
    mode = _mode(payer, base)
    counters = plan_counters(base)
    if isinstance(payer, EndpointTerms):
        holder, account_id, billed = ENDPOINT_HOLDER, "", payee
    else:
        needed = mode is not StepMode.UNLIMITED or counters or has_benefits(payer, catalog)
        holder, account_id, billed = (payer.id if needed else NO_HOLDER), payer.id, payer
    limits = usage_limits(counters, use.service, account_id, billed, clocks)
    simple, pricing = price_of(tariff, found, catalog, use, Payer(billed, payee.id), clocks) if tariff else (None, None)
    currency = tariff.currency if tariff else (base.currency if base else "")
    when = (billed.time_zone, at_ms)
    own, own_window = _usable(
        _drawable((plan for _, plan in own_plans(payer, catalog)), catalog, use, currency, own_ref(payer)), *when
    )
    pool = dict[str, Benefit]()
    if isinstance(payer, EndpointTerms):
        pool = _drawable((plan for _, plan in pooled_addons(payee, catalog)), catalog, use, currency)
        pool |= _drawable((plan for _, plan in shared_bases(payer, catalog)), catalog, use, currency, shared_ref)
    pool, pool_window = _usable(pool, *when)
    drawable = own | pool
    if base is not None and base.throttles and tariff is None and drawable:
        pricing = SLOWED_DOWN
    elif base is not None and base.unlimited and not base.tariff_id:
        simple = FREE
    step = Step(
        holder=holder,
        mode=mode,
        refs=tuple(sorted(drawable)),
        rate=simple,
        pricing=pricing,
        no_rate=_no_rate_reason(base, catalog, use, *when),
        payer=account_id,
        payee=payee.id,
        plan=base.key if base else ("", 0),
        currency=currency,
        tariff=(tariff.id, tariff.version) if tariff else ("", 0),
        rate_id=found.id if found else "",
        zone_id=found.zone_id if found else "",
        pool=pool_id(payee.id) if pool else "",
        limits=limits,
        measures=tuple(_measures(drawable, catalog, use, account_id)),
        repeats=payer.repeats or (bool(pool) and payee.repeats),
    )
    starts, ends = zip(window, rate_window, own_window, pool_window, strict=True)
    return step, (max(starts), min(ends))


def _mode(payer: EndpointTerms | AccountTerms, base: PlanTerms | None) -> StepMode:
    if base is not None and base.prepaid:
        return StepMode.PREPAID
    limited = isinstance(payer, AccountTerms) and payer.credit_limit_micros is not None
    return StepMode.POSTPAID if limited else StepMode.UNLIMITED


def _no_rate_reason(base: PlanTerms | None, catalog: CatalogTerms, use: Use, time_zone: str, at_ms: int) -> Reason:
    """Why a step that has no rate does not cover what its benefits leave."""
    if base is None:
        return Reason.NO_BASE_PLAN
    volumes = _drawable([base], catalog, use, currency="")  # money is always in some currency
    if _usable(volumes, time_zone, at_ms)[0]:
        return Reason.BALANCE_DEPLETED
    return Reason.NO_VALID_ADDON if base.prepaid and not base.tariff_id else Reason.NO_RATE


def own_plans(payer: EndpointTerms | AccountTerms, catalog: CatalogTerms) -> Iterator[tuple[Assignment, PlanTerms]]:
    """What only a payer draws on at its own step."""
    return ((assignment, plan) for assignment, plan in _given(payer, catalog) if not _is_shared(payer, plan))


def former_plans(payer: EndpointTerms | AccountTerms, catalog: CatalogTerms) -> Iterator[tuple[Assignment, PlanTerms]]:
    """Base plans that a payer had before, and drew on alone: use from then still does."""
    for assignment in payer.former_bases:
        plan = catalog.plans.get(assignment.plan)
        if plan is not None and not _is_shared(payer, plan):
            yield assignment, plan


def pooled_addons(account: AccountTerms, catalog: CatalogTerms) -> Iterator[tuple[Assignment, PlanTerms]]:
    """The add-ons that all endpoints of an account share."""
    return ((assignment, plan) for assignment, plan in _given(account, catalog) if _is_shared(account, plan))


def shared_bases(endpoint: EndpointTerms, catalog: CatalogTerms) -> Iterator[tuple[Assignment, PlanTerms]]:
    """The base plan of an endpoint, if it shares it with others of its enterprise."""
    return ((assignment, plan) for assignment, plan in _given(endpoint, catalog) if _is_shared(endpoint, plan))


def _is_shared(payer: EndpointTerms | AccountTerms, plan: PlanTerms) -> bool:
    """Whether endpoints share a plan that one of them has as its base plan, or their enterprise as an add-on."""
    return plan.pooled and plan.addon is not isinstance(payer, EndpointTerms)


def _given(payer: EndpointTerms | AccountTerms, catalog: CatalogTerms) -> Iterator[tuple[Assignment, PlanTerms]]:
    for assignment in (*payer.addons, *((payer.base,) if payer.base else ())):
        plan = catalog.plans.get(assignment.plan)
        if plan is not None:
            yield assignment, plan


def has_benefits(payer: EndpointTerms | AccountTerms, catalog: CatalogTerms) -> bool:
    """Whether any plan of the payer comes with a volume."""
    return any(plan.benefits for _, plan in own_plans(payer, catalog))


REPLACED = "<"
"""Marks benefits of a base plan that was replaced: of the same version given anew there are others."""


def ref_of(plan: PlanTerms, benefit_id: str, *, replaced: bool = False) -> str:
    """Name of a benefit of a plan version."""
    plan_id, version = plan.key
    return f"{plan_id.removeprefix('pln_')}:{version}{REPLACED if replaced else ''}:{benefit_id}"


def own_ref(payer: EndpointTerms | AccountTerms) -> Callable[[PlanTerms, str], str]:
    """Names of the benefits that a payer draws on alone."""
    return lambda plan, benefit_id: ref_of(plan, benefit_id, replaced=payer.is_past and not plan.addon)


def shared_ref(plan: PlanTerms, benefit_id: str) -> str:
    """Name of a benefit that endpoints share by their base plan, in whichever version."""
    return f"{plan.key[0].removeprefix('pln_')}:*:{benefit_id}"


def _drawable(
    plans: Iterable[PlanTerms],
    catalog: CatalogTerms,
    use: Use,
    currency: str,
    ref: Callable[[PlanTerms, str], str] = ref_of,
) -> dict[str, Benefit]:
    """Benefits that a use may draw, by name; money only of the currency in which the step is priced."""
    return {
        ref(plan, benefit.id): benefit
        for plan in plans
        if plan.permits(use.service, use.access_type) and catalog.in_zones(plan.zones, use.network_id)
        for benefit in plan.benefits
        if use.service in benefit.services and catalog.in_zones(benefit.zones, use.network_id)
        if not benefit.money or plan.currency == currency
    }


def _usable(drawable: Mapping[str, Benefit], time_zone: str, at_ms: int) -> tuple[dict[str, Benefit], Window]:
    """Those benefits that may be used at a time, and how long just they may."""
    usable, (since, until) = dict[str, Benefit](), ALWAYS
    for name, benefit in drawable.items():
        holds, window = bands_at(benefit.bands, time_zone, at_ms)
        since, until = max(since, window[0]), min(until, window[1])
        if holds:
            usable[name] = benefit
    return usable, (since, until)


def _measures(drawable: Mapping[str, Benefit], catalog: CatalogTerms, use: Use, account_id: str) -> Iterator[Measure]:
    """How benefits are drawn that are not drawn unit by unit.

    A session measures by itself what each payer, service and weight uses: blocks that were paid at one weight are not
    for use at another.
    """
    for name, benefit in sorted(drawable.items()):
        fitting = (
            Fraction(weight.drawn, weight.per).as_integer_ratio()  # 3 for 3 is the same as 1 for 1
            for weight in benefit.weights
            if catalog.in_zones(weight.zones, use.network_id)
            if not weight.services or use.service in weight.services
        )
        drawn, per = next(fitting, (1, 1))
        rounding = benefit.rounding
        if not rounding.is_plain or drawn != per:
            how = (account_id, name, use.service, rounding.increment, rounding.minimum, drawn, per)
            counter = counter_name(*how) if rounding.scope is Scope.SESSION else ""
            yield Measure(name, UseRounding(counter, rounding.increment, rounding.minimum), drawn, per)
