"""Every worked example of a file of published tariffs, charged by the real core: `pytest ... --tariffs FILE`.

It prints what of each can be said in Meterline's terms, what comes out to the last micro, and what not, and why. A
tariff that is not said in `data/tariff-expressions.yaml`, nor in its own entry as `expression` of the same form, is
read as far as its arithmetic goes.
"""

import json
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml

from meterline.catalog.v1 import charging_catalog_pb2, plans_pb2, tariffs_pb2
from services.catalog.convert.tariffs import tariff_from_proto, tariff_to_proto
from services.catalog.domain.naming import with_names
from services.catalog.domain.tariffs import (
    find_overlap,
    published,
    require_counters_agree,
    require_exact_prices,
)
from services.rating.convert.terms import merge_catalog
from services.rating.domain.terms import Assignment, CatalogTerms
from tests.integration.rating.world import StillTerms, World, world
from tests.integration.tariffs import arithmetic, bundles
from tests.integration.tariffs.expressions import MICROS, NETWORKS, Example, Use, examples
from tests.unit.rating.terms import ALL, account, endpoint, plan, tariff

DATA = Path("data")
NOW_MS = 1_775_000_000_000
"""2026-03-31: all uses of the examples lie before it."""
SERVICES = {"DATA": 1, "SMS_MO": 2, "SMS_MT": 3, "NB_IOT": 4}


def published_tariff(message: tariffs_pb2.Tariff) -> tariffs_pb2.Tariff:
    """What publishing makes of a tariff, with all its checks."""
    draft = replace(with_names(tariff_from_proto(message)), id="tar_1", owner_path=("acc_o",))
    require_counters_agree(draft)
    assert find_overlap(draft.rates, {}) is None
    require_exact_prices(draft)
    return tariff_to_proto(published(draft, None, None, NOW_MS))


def terms_of(example: Example, number: int) -> StillTerms:
    """An enterprise whose endpoints have a postpaid plan with the tariff."""
    catalog = CatalogTerms(
        coverage={f"acc_e{number}": frozenset(name for name, _ in NETWORKS.values())},
        networks=dict(NETWORKS.values()),
    )
    base = plans_pb2.Plan(id="pln_1", version=1, tariff_id="tar_1", benefits=example.benefits)
    for index, benefit in enumerate(base.benefits):
        benefit.benefit_id = f"b{index}"
    response = charging_catalog_pb2.BatchGetPlanVersionsResponse(
        plans=[base], tariffs=[published_tariff(example.tariff)]
    )
    merge_catalog(response, catalog)
    access = dict.fromkeys(SERVICES.values(), ALL)
    made = catalog.plans["pln_1", 1]
    catalog.plans["pln_1", 1] = plan(
        "pln_1", tariff_id="tar_1", benefits=made.benefits, currency=example.tariff.currency, access=access
    )
    catalog.plans["pln_free", 1] = plan("pln_free", tariff_id="tar_free", access=access)
    catalog.tariffs["tar_free"] = (tariff("tar_free", 0),)
    enterprise, operator = f"acc_e{number}", "acc_o"
    chain = [
        account(enterprise, (operator, enterprise), given("free", number)),
        account(operator, (operator,)),
    ]
    names = sorted({use.endpoint for use in example.uses} | {"a"})
    endpoints = [
        replace(
            endpoint(given("1", f"{number}{name}")),
            id=endpoint_id(number, name),
            account_id=enterprise,
            enterprise_id=enterprise,
        )
        for name in names
    ]
    return StillTerms(endpoints, chain, catalog)


def given(plan_name: str, number: object) -> Assignment:
    return Assignment(f"asg_{plan_name}{number}", (f"pln_{plan_name}", 1), 0, NOW_MS - 90 * 86_400_000, 0)


def endpoint_id(number: int, name: str) -> str:
    return f"ep_{number}{name}"


async def charged(core: World, example: Example, number: int) -> int:
    """Micros that the endpoints of an example are charged."""
    fresh = terms_of(example, number)
    core.terms.endpoints, core.terms.accounts, core.terms.catalog = fresh.endpoints, fresh.accounts, fresh.catalog
    core.terms.known = fresh.known
    total = 0
    for place, use in enumerate(example.uses):
        answer = await core.use(use.quantity, f"use{place}", **event_fields(use, number))
        assert answer.amounts, answer
        total += answer.amounts[0]
    return total


def event_fields(use: Use, number: int) -> dict[str, Any]:
    return {
        "endpoint_id": endpoint_id(number, use.endpoint),
        "service": SERVICES[use.service],
        "network_id": NETWORKS[use.network][0],
        "usage_time_ms": use.at_ms,
        "session_ref": use.session,
        "mode": 2,
    }


def expected_micros(example: Example, stated: dict[str, Any]) -> Fraction:
    amount = Fraction(str(stated["amount"] if "amount" in stated else str(stated["quantity"]).split()[0]))
    return (amount * example.per - example.fees) * MICROS


async def difference(core: World, example: Example, number: int, stated: dict[str, Any]) -> str:
    """What comes out of an example, where that is not what is expected."""
    await core.fold()  # the examples lie months apart, and books that lag behind refuse old use
    if example.left or example.ends:
        found = await bundles.found(core, example, f"ep_{number}")
        wanted = bundles.expected(example, stated["quantity"])
        return "" if list(found) == list(wanted) else f"{found} of {wanted}"
    core.clock.at_ms = NOW_MS
    micros, due = await charged(core, example, number) * example.times, expected_micros(example, stated)
    return "" if abs(micros - due) <= example.within * MICROS else f"{Fraction(micros, MICROS)} of {due / MICROS}"


async def test_worked_examples_come_out_to_the_last_micro(request, valkey_url, sqlite_url, tell):
    path = request.config.getoption("--tariffs")
    entries = json.loads(Path(path or DATA / "tariffs.json").read_bytes())
    said = yaml.safe_load((DATA / "tariff-expressions.yaml").read_text())
    verdicts, wrong = Counter[str](), []
    async with world(StillTerms([], [], CatalogTerms()), valkey_url, sqlite_url) as core:
        number = 0
        for entry in entries:
            worked = entry["worked_examples"]
            known = entry.get("expression") or said.get(entry["id"])
            read = examples(known, len(worked)) if known else [arithmetic.read(each) for each in worked]
            for place, (example, stated) in enumerate(zip(read, worked, strict=True), 1):
                number += 1
                verdict, told = example.verdict, example.why
                if not verdict:
                    differs = await difference(core, example, number, stated["expected_charge"])
                    reproduced = "reproduced" if known else "reproduced, read from its arithmetic"
                    verdict = "differs" if differs else reproduced
                    told = differs or str(stated["usage"])
                    wrong += [f"{entry['id']} {place}: {differs}"] if differs else []
                verdicts[verdict] += 1
                tell(f"{entry['id']:34} {place}  {verdict:12} {told}")
    for verdict, count in verdicts.most_common():
        tell(f"{count:4} {verdict}")
    assert not wrong
    assert path or verdicts["reproduced"] == 90


@pytest.mark.parametrize("name", ["mynetfone-bolton", "twilio-programmable-wireless", "vodafone-uk-payg1"])
async def test_a_price_that_is_wrong_is_seen(name, valkey_url, sqlite_url):
    """The comparison can fail: with a price a micro higher the examples differ."""
    entries = {entry["id"]: entry for entry in json.loads((DATA / "tariffs.json").read_bytes())}
    said = yaml.safe_load((DATA / "tariff-expressions.yaml").read_text())
    example = examples(said[name], len(entries[name]["worked_examples"]))[0]
    price = example.tariff.rates[0].components[0].tiers[0].price
    async with world(StillTerms([], [], CatalogTerms()), valkey_url, sqlite_url) as core:
        core.clock.at_ms = NOW_MS
        wanted = expected_micros(example, entries[name]["worked_examples"][0]["expected_charge"])
        assert await charged(core, example, 1) == wanted
        price.nanos += 10_000
        assert await charged(core, example, 2) > wanted
