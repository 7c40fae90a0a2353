"""Small terms for tests of compiling and deciding."""

from collections.abc import Iterable

from services.rating.domain.tariffs import rate
from services.rating.domain.terms import (
    AccountTerms,
    Assignment,
    Benefit,
    CatalogTerms,
    EndpointTerms,
    Joined,
    Members,
    PlanKey,
    PlanTerms,
    RateTerms,
    TariffVersion,
)

GB = 10**9
MB = 10**6
EU, ZA = "net_20601", "net_65501"
ALL = frozenset({1, 2, 3, 4})
OPERATOR, RESELLER, ENTERPRISE, ENDPOINT = "acc_o", "acc_r", "acc_e", "ep_1"


def plan(name: str, **fields: object) -> PlanTerms:
    values: dict[str, object] = {
        "key": (name, 1),
        "addon": False,
        "prepaid": False,
        "access": dict.fromkeys((1, 2, 3, 4), ALL),
        "networks": None,
        "tariff_id": "",
        "currency": "EUR",
        "benefits": (),
        "zones": (),
        "on_usage": False,
        "validity_ms": 0,
    }
    return PlanTerms(**{**values, **fields})  # type: ignore[arg-type]


def addon(name: str, quantity: int, **fields: object) -> PlanTerms:
    benefit = Benefit("b1", frozenset({1}), quantity, (), recurring=False)
    return plan(name, **{"addon": True, "benefits": (benefit,), **fields})


def tariff(name: str, price_per_gb: int, zone: str = "", effective_ms: int = 0, version: int = 1) -> TariffVersion:
    terms = RateTerms(id="r1", zone_id=zone, services=ALL, rate=rate(price_per_gb, GB, 1, 0))
    return TariffVersion(id=name, version=version, currency="EUR", effective_ms=effective_ms, rates=(terms,))


def catalog(plans: list[PlanTerms], tariffs: list[TariffVersion] = []) -> CatalogTerms:  # noqa: B006
    terms = CatalogTerms(
        plans={each.key: each for each in plans},
        zones={"zon_eu": frozenset({EU})},
        coverage={ENTERPRISE: frozenset({EU, ZA})},
        networks={EU: "BE", ZA: "ZA"},
    )
    for each in tariffs:
        terms.tariffs[each.id] = (*terms.tariffs.get(each.id, ()), each)
    return terms


def given(name: str, plan_key: PlanKey, priority: int = 0, expires_ms: int = 0) -> Assignment:
    return Assignment(f"asg_{name}", plan_key, priority, 0, expires_ms)


def endpoint(base: Assignment | None, *addons: Assignment, active: bool = True) -> EndpointTerms:
    return EndpointTerms(
        ENDPOINT,
        ENTERPRISE,
        ENTERPRISE,
        active,
        owner_active=True,
        barred=frozenset(),
        base=base,
        addons=addons,
        version=1,
    )


def account(
    name: str, path: tuple[str, ...], base: Assignment | None = None, *addons: Assignment, limit: int | None = None
) -> AccountTerms:
    return AccountTerms(
        name, path, active=True, currency="EUR", credit_limit_micros=limit, billing_cycle_day=1, time_zone="UTC",
        base=base, addons=addons, version=1, limit_version=1,
    )  # fmt: skip


def members_of(endpoints: Iterable[EndpointTerms], terms: CatalogTerms) -> tuple[Members, ...]:
    """Who shares what by a base plan, as the service of endpoints tells it of their enterprise."""
    joined: dict[PlanKey, list[Joined]] = {}
    for base in (each.base for each in endpoints if each.base is not None):
        if base.plan in terms.plans and terms.plans[base.plan].pooled:
            joined.setdefault(base.plan, []).append(Joined(1, base.assigned_ms, base.assigned_ms))
    return tuple(Members(key, min(one.since_ms for one in groups), tuple(groups)) for key, groups in joined.items())


def chain(
    enterprise: Assignment | None, reseller: Assignment | None, *addons: Assignment, limit: int | None = None
) -> list[AccountTerms]:
    return [
        account(ENTERPRISE, (OPERATOR, RESELLER, ENTERPRISE), enterprise, *addons),
        account(RESELLER, (OPERATOR, RESELLER), reseller, limit=limit),
        account(OPERATOR, (OPERATOR,)),
    ]
