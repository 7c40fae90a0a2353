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
    published,
    require_counters_agree,
    require_exact_prices,
    require_no_overlap,
)
from services.common.errors import MeterlineError
from services.rating.convert.terms import merge_catalog
from services.rating.domain.terms import Assignment, CatalogTerms
from tests.integration.rating.world import StillTerms, World, world
from tests.integration.tariffs import arithmetic, bundles, pools
from tests.integration.tariffs.expressions import (
    MICROS,
    NETWORKS,
    UNREADABLE,
    Example,
    NotReadError,
    Use,
    examples,
    milliseconds,
)
from tests.unit.rating.terms import ALL, account, endpoint, plan, tariff

DATA = Path("data")
NOW_MS = 1_775_000_000_000
"""2026-03-31: all uses of the examples lie before it."""
LONG_AGO_MS = NOW_MS - 90 * 86_400_000
SERVICES = {"DATA": 1, "SMS_MO": 2, "SMS_MT": 3, "NB_IOT": 4}
ACCESS_TYPES = {"2G": 1, "3G": 2, "4G": 3, "5G": 4}


class NotChargedError(Exception):
    """A use was refused, invalid, or not covered as it should be."""


def published_tariff(message: tariffs_pb2.Tariff) -> tariffs_pb2.Tariff:
    """What publishing makes of a tariff, with all its checks."""
    draft = replace(with_names(tariff_from_proto(message)), id="tar_1", owner_path=("acc_o",))
    require_counters_agree(draft)
    require_no_overlap(draft, {})
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
    shares = {"pooled": True, "grows": True, "prorated": True} if example.members else {}
    catalog.plans["pln_1", 1] = plan(
        "pln_1", tariff_id="tar_1", benefits=made.benefits, currency=example.tariff.currency, access=access, **shares
    )
    catalog.plans["pln_free", 1] = plan("pln_free", tariff_id="tar_free", access=access)
    catalog.tariffs["tar_free"] = (tariff("tar_free", 0),)
    enterprise, operator = f"acc_e{number}", "acc_o"
    chain = [
        account(enterprise, (operator, enterprise), given("free", number)),
        account(operator, (operator,)),
    ]
    joined = {f"m{place}": milliseconds(time) for place, time in enumerate(example.members, 1)}
    names = sorted({use.endpoint for use in example.uses} | {"a"})
    endpoints = [
        replace(
            endpoint(given("1", f"{number}{name}", at_ms)),
            id=endpoint_id(number, name),
            account_id=enterprise,
            enterprise_id=enterprise,
        )
        for name, at_ms in (joined or dict.fromkeys(names, LONG_AGO_MS)).items()
    ]
    return StillTerms(endpoints, chain, catalog)


def given(plan_name: str, number: object, at_ms: int = LONG_AGO_MS) -> Assignment:
    return Assignment(f"asg_{plan_name}{number}", (f"pln_{plan_name}", 1), 0, at_ms, 0)


def endpoint_id(number: int, name: str) -> str:
    return f"ep_{number}{name}"


async def charged(core: World, example: Example, number: int) -> int:
    """Micros that the endpoints of an example are charged."""
    terms = terms_of(example, number)
    core.terms.become(terms)
    total = 0
    for place, use in enumerate(example.uses):
        if example.members:
            pools.join(core, terms, use.at_ms)
        answer = await core.use(use.quantity, f"use{place}", **event_fields(use, number))
        if not answer.amounts or answer.uncovered != use.uncovered:
            raise NotChargedError(f"{use}: {answer}")
        total += answer.amounts[0]
    return total


def event_fields(use: Use, number: int) -> dict[str, Any]:
    return {
        "endpoint_id": endpoint_id(number, use.endpoint),
        "service": SERVICES[use.service],
        "network_id": NETWORKS[use.network][0],
        "usage_time_ms": use.at_ms,
        "session_ref": use.session,
        "access_type": ACCESS_TYPES[use.access_type],
        "cost_micros": int(Fraction(use.cost) * MICROS),
        "mode": 2,
    }


def expected_micros(example: Example, stated: dict[str, Any]) -> Fraction:
    said = str(stated.get("amount", stated.get("quantity", "nothing"))).split()[0].replace(",", "").lstrip("~")
    try:
        return (Fraction(said) * example.per - example.fees) * MICROS
    except ValueError as error:
        raise NotReadError(f"{said!r} is no number that could come out") from error


def read(entry: dict[str, Any], said: dict[str, Any]) -> tuple[bool, list[Example]]:
    """The examples of an entry, and whether they are said in Meterline's terms."""
    worked = entry["worked_examples"]
    known = entry.get("expression") or said.get(entry["id"])
    if not known:
        return False, [arithmetic.read(each) for each in worked]
    try:
        return True, examples(known, len(worked))
    except UNREADABLE as error:
        return True, [Example("not_read", f"its expression: {error!r}")] * len(worked)


async def difference(core: World, example: Example, number: int, stated: dict[str, Any]) -> str:
    """What comes out of an example, where that is not what is expected."""
    await core.fold()  # the examples lie months apart, and books that lag behind refuse old use
    if example.members and example.left:
        core.terms.become(terms := terms_of(example, number))
        pools.join(core, terms, milliseconds(example.until))
        pool, (size,) = await pools.left(core), bundles.expected(example, stated["quantity"])
        return "" if pool == size else f"{pool} of {size}"
    if example.left or example.ends:
        left, wanted = await bundles.found(core, example, f"ep_{number}"), bundles.expected(example, stated["quantity"])
        return "" if list(left) == list(wanted) else f"{left} of {wanted}"
    due = expected_micros(example, stated)
    core.clock.at_ms = NOW_MS
    micros = await charged(core, example, number) * example.times
    return "" if abs(micros - due) <= example.within * MICROS else f"{Fraction(micros, MICROS)} of {due / MICROS}"


async def judged(core: World, example: Example, number: int, stated: dict[str, Any], *, known: bool) -> tuple[str, str]:
    """The verdict on an example, and what there is to say; one that cannot be tried spoils no other."""
    try:
        differs = await difference(core, example, number, stated["expected_charge"])
    except (NotReadError, LookupError) as error:
        return "not_read", repr(error)
    except (NotChargedError, MeterlineError) as error:
        return "differs", str(error)
    if differs:
        return "differs", differs
    return "reproduced" if known else "reproduced, read from its arithmetic", str(stated.get("usage"))


async def test_worked_examples_come_out_to_the_last_micro(request, valkey_url, sqlite_url, tell):
    path = request.config.getoption("--tariffs")
    entries = json.loads(Path(path or DATA / "tariffs.json").read_bytes())
    said = yaml.safe_load((DATA / "tariff-expressions.yaml").read_text())
    verdicts, wrong = Counter[str](), []
    async with world(StillTerms([], [], CatalogTerms()), valkey_url, sqlite_url) as core:
        number = 0
        for entry in entries:
            known, said_examples = read(entry, said)
            for place, (example, stated) in enumerate(zip(said_examples, entry["worked_examples"], strict=True), 1):
                number += 1
                verdict, told = example.verdict, example.why
                if not verdict:
                    verdict, told = await judged(core, example, number, stated, known=known)
                    wrong += [f"{entry['id']} {place}: {told}"] if verdict == "differs" else []
                verdicts[verdict] += 1
                tell(f"{entry['id']:34} {place}  {verdict:12} {told}")
    for verdict, count in verdicts.most_common():
        tell(f"{count:4} {verdict}")
    assert not wrong
    assert path or verdicts["reproduced"] == 96


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


ODD = [
    {"check_expr": "3 x 0.20"}, {"check_expr": 5}, {"check_expr": "ceil()"}, {"check_expr": "D('1,00')*3"},
    {"check_expr": "max(3)"}, {"check_expr": "min(D(5),rup(D('3.5')*D('0.333')))"}, {"usage": {"mb": "1/0"}}, {},
]  # fmt: skip


@pytest.mark.parametrize("example", ODD)
def test_what_cannot_be_read_is_said_to_be_so(example):
    assert arithmetic.read({"usage": {"mb": 3}, "expected_charge": {"amount": "0.6"}, **example}).verdict == "not_read"


@pytest.mark.parametrize(
    ("expression", "verdict"),
    [
        ({"uses": ["3MB"]}, "differs"),  # no rate prices data, and nothing is not a price of 0
        ({"uses": ["1XB"]}, "not_read"),
        ({"uses": [{"quantity": 1, "service": "SMS_MO"}]}, "reproduced"),
        ({"uses": [], "tariff": {"currency": "USD", "rates": [{"services": ["DATA"], "prize": "1"}]}}, "not_read"),
    ],
)
async def test_an_example_is_judged_by_itself(expression, verdict, valkey_url, sqlite_url):
    rates = [
        {"services": ["SMS_MO"], "components": [{"scope": "RECORD", "free_quantity": 5, "tiers": [{"price": "1"}]}]}
    ]
    stated = {"usage": {}, "expected_charge": {"amount": "0"}}
    said = {"tariff": {"currency": "USD", "rates": rates}, "examples": [expression]}
    known, (example,) = read({"id": "odd", "worked_examples": [stated], "expression": said}, {})
    async with world(StillTerms([], [], CatalogTerms()), valkey_url, sqlite_url) as core:
        found = example.verdict or (await judged(core, example, 1, stated, known=known))[0]
    assert found == verdict
