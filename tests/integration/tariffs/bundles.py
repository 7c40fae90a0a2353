"""Worked examples that are about what is left of bundles, and when they end."""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction

from services.common.clock import DAY_MS
from services.rating.domain.balances import RollOverOrder
from services.rating.domain.terms import Assignment, Benefit, CatalogTerms, EndpointTerms
from services.rating.usecases.balances import Balance
from services.rating.usecases.refills import Refills
from tests.integration.rating.world import OPERATOR_CALLER, StillTerms, World
from tests.integration.tariffs.expressions import NETWORKS, Bundle, Example, Refill, milliseconds
from tests.unit.rating.terms import ALL, account, endpoint, plan, tariff

KINDS = {
    "addon": {"addon": True},
    "refillable": {"prepaid": True, "refillable": True},
    "monthly": {"prorated": True},
}


async def found(core: World, example: Example, owner: str) -> Sequence[int | str]:
    """What is left of the bundles that an example asks for, or the day on which one ends."""
    core.terms.become(_terms(example, owner))
    for number, (name, rest) in enumerate(example.rests.items()):
        core.clock.at_ms = milliseconds(name.partition("~")[2])
        there = {_name(balance, owner): balance for balance in await _balances(core, owner)}[name]
        await core.fold()
        await core.corrections.adjust(
            OPERATOR_CALLER,
            there.id,
            rest - there.remaining,
            credit_used=False,
            reason="as stated",
            request_id=f"{owner}{number}",
        )
    for place, use in enumerate(example.uses):
        core.clock.at_ms = use.at_ms
        fields = {"endpoint_id": owner, "network_id": NETWORKS[use.network][0], "usage_time_ms": use.at_ms, "mode": 2}
        answer = await core.use(use.quantity, f"use{place}", **fields)
        assert answer.amounts, answer
    for place, refill in enumerate(example.refills):
        core.clock.at_ms = milliseconds(refill.time)
        await _refill(core, refill, owner, f"refill{place}")
    core.clock.at_ms = milliseconds(example.until)
    balances = {_name(balance, owner): balance for balance in await _balances(core, owner)}
    if example.ends:
        ends_ms = balances[example.ends].expires_ms
        return [datetime.fromtimestamp(ends_ms / 1000, UTC).strftime("%m-%d")]
    return [balances[name].remaining for name in example.left]


def expected(example: Example, quantity: str) -> Sequence[Fraction | str]:
    """What the published example says of them."""
    if example.ends:
        return [quantity]
    return [Fraction(number) * example.per for number in re.findall(r"[0-9]+(?:\.[0-9]+)?", quantity)]


async def _balances(core: World, owner: str) -> Sequence[Balance]:
    return await core.balances.of_owner(OPERATOR_CALLER, owner, "")


async def _refill(core: World, refill: Refill, owner: str, request_id: str) -> None:
    await _balances(core, owner)  # whoever refills has looked, and so the bundle is known to the books
    await core.fold()
    (bundle,) = [balance for balance in await _balances(core, owner) if balance.benefit_id]
    refills = Refills(core.kit, core.balances)
    await refills.refill(OPERATOR_CALLER, bundle.id, refill.quantity, refill.days * DAY_MS, refill.most, request_id)


def _name(balance: Balance, owner: str) -> str:
    """The name of its bundle; of what rolled over with the day on which its cycle ended."""
    bundle = balance.assignment_id.removeprefix(f"asg_{owner.removeprefix('ep_')}")
    ended = balance.id.partition("~")[2]
    return f"{bundle}~{datetime.fromtimestamp(int(ended), UTC):%Y-%m-%d}" if ended else bundle


def _assignment_id(owner: str, name: str) -> str:
    return f"asg_{owner.removeprefix('ep_')}{name}"


def _terms(example: Example, owner: str) -> StillTerms:
    catalog = CatalogTerms(networks=dict(NETWORKS.values()))
    enterprise = f"acc_{owner}"
    catalog.coverage[enterprise] = frozenset(name for name, _ in NETWORKS.values())
    access = dict.fromkeys((1, 2, 3, 4), ALL)
    catalog.plans["pln_none", 1] = plan("pln_none", access=access)
    catalog.plans["pln_free", 1] = plan("pln_free", access=access, tariff_id="tar_free")
    catalog.tariffs["tar_free"] = (tariff("tar_free", 0),)
    given = {bundle.name: _given(bundle, owner) for bundle in example.bundles}
    for bundle in example.bundles:
        benefit = Benefit(
            "b1", frozenset({1}), bundle.quantity, (), recurring=bundle.kind == "monthly",
            roll_over_cycles=bundle.rolls, roll_over_order=RollOverOrder[bundle.order],
        )  # fmt: skip
        terms = {"benefits": (benefit,), "validity_ms": bundle.days * DAY_MS, "on_usage": bundle.on_usage}
        key = given[bundle.name].plan
        catalog.plans[key] = plan(key[0], access=access, **terms, **KINDS[bundle.kind])
    none, free = (Assignment(f"asg_{name}{owner}", (f"pln_{name}", 1), 0, 0, 0) for name in ("none", "free"))
    base = next((given[bundle.name] for bundle in example.bundles if bundle.kind != "addon"), none)
    addons = [given[bundle.name] for bundle in example.bundles if bundle.kind == "addon"]
    chain = [account(enterprise, ("acc_o", enterprise), free), account("acc_o", ("acc_o",))]
    return StillTerms([_endpoint(owner, enterprise, base, addons)], chain, catalog)


def _given(bundle: Bundle, owner: str) -> Assignment:
    began = milliseconds(bundle.given)
    ends = began + bundle.days * DAY_MS if bundle.days and bundle.kind == "addon" and not bundle.on_usage else 0
    return Assignment(_assignment_id(owner, bundle.name), (f"pln_{bundle.name}", 1), 0, began, ends)


def _endpoint(owner: str, enterprise: str, base: Assignment, addons: Sequence[Assignment]) -> EndpointTerms:
    return replace(endpoint(base, *addons), id=owner, account_id=enterprise, enterprise_id=enterprise)
