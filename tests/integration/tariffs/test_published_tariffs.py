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
OURS = json.loads((DATA / "tariffs.json").read_bytes())
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


def terms_of(example: Example, number: object) -> StillTerms:
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


def endpoint_id(number: object, name: str) -> str:
    return f"ep_{number}{name}"


async def charged(core: World, example: Example, number: object) -> int:
    """Micros that the endpoints of an example are charged."""
    if example.parts:
        parts = [await charged(core, part, f"{number}p{place}") for place, part in enumerate(example.parts)]
        return sum(parts)
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
    return total * example.times


def event_fields(use: Use, number: object) -> dict[str, Any]:
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
    """The examples of an entry, and whether they are said in Meterline's terms: here, if they are the same examples."""
    worked = entry.get("worked_examples", [])
    known = entry.get("expression")
    if not known and worked == next((own.get("worked_examples") for own in OURS if own["id"] == entry["id"]), None):
        known = said.get(entry["id"])
    if not known:
        return False, [arithmetic.read(each) for each in worked]
    try:
        return True, examples(known, len(worked))
    except UNREADABLE as error:
        return True, [Example("not_read", f"its expression: {error!r}")] * len(worked)


async def difference(core: World, example: Example, number: object, stated: dict[str, Any]) -> str:
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
    micros = await charged(core, example, number)
    finer = abs(micros - due) if example.parts else micros - due
    if due.denominator != 1 and 0 < finer < max(1, len(example.parts)):
        return ""  # it is stated finer than a micro, to which prices are rounded (up, if nothing else is said)
    within = abs(micros - due) <= example.within * MICROS
    return "" if within else f"{micros / MICROS} and not {float(due / MICROS)}, fees apart"


async def judged(
    core: World, example: Example, number: object, stated: dict[str, Any], *, known: bool
) -> tuple[str, str]:
    """The verdict on an example, and what there is to say; one that cannot be tried spoils no other."""
    try:
        differs = await difference(core, example, number, stated["expected_charge"])
    except (NotChargedError, AssertionError) as error:
        return "differs", str(error)
    except MeterlineError as error:
        return "refused", f"{error.reason}: {error.message}"
    except UNREADABLE as error:
        return "not_read", repr(error)
    if differs:
        return ("not_read", "its words are not all") if example.is_loose else ("differs", differs)
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
            for place, (example, stated) in enumerate(
                zip(said_examples, entry.get("worked_examples", []), strict=True), 1
            ):
                number += 1
                verdict, told = example.verdict, example.why
                if not verdict:
                    verdict, told = await judged(core, example, number, stated, known=known)
                    wrong += [f"{entry['id']} {place}: {told}"] if verdict in {"differs", "refused"} else []
                verdicts[verdict] += 1
                tell(f"{entry['id']:34} {place}  {verdict:12} {told}")
    for verdict, count in verdicts.most_common():
        tell(f"{count:4} {verdict}")
    assert not wrong
    assert path or verdicts["reproduced"] == 98


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


SAID = {
    "3*D('0.20')": "0.60", "ceil(D(61)/30)*30*D('0.005')": "0.45", "D(5)+1500/D(1024)*D('0.08')": "5.1171875",
    "max(0,120-100)*D('0.10')": "2", "max(0,5*ceil(D(3)/2)-4)*D('0.3')": "1.8", "max(0,ceil(D('120.3'))-100)*2": "42",
    "min(600,250)*D('0.4')+max(0,min(600,1000)-250)*D('0.3')": "205", "(max(60,12)+max(60,61))*D('0.12')/60": "0.242",
    "max(D(5),500*D('0.10')+20*D('0.05'))": "51", "max(D(60),500*D('0.10')+20*D('0.05'))": "60",
    "min(D(10),50*D('0.275'))+min(D(10),4*D('0.275'))": "11.1", "min(1200,400+20000*D('0.03'))": "1000",
    "min(1200,400+90000*D('0.03'))": "1200", "3*rup(D('3.99')*D('1.0825'))": "12.96", "rhalf(62*9/D(31))": "18",
    "rdown0(350+ceil((D('120.3')-100)/D('0.5'))*D('0.28'))": "361", "sum([10,2000,55000])*D('0.10')/1000": "5.701",
    "1+2*D(1)+3*D(1)+4*D(1)+5*D(1)+6*D(1)": "21", "1000000*ceil(D(8)/5)*D('0.000001')": "2",
    "40*D('0.10')-D(1)": "3", "1234567*D('0.0000001')": "0.1234567", "max(D(2),min(D(40),500*D('0.10')))": "40",
    "min(D(60),600*D('0.15'))": "60", "max(D(5),3*D('0.15'))": "5", "(5*1024//10)*D('0.04')": "20.48", "-(-9000//4096)": "3",
    "floor(D(255)/100)*D('0.02')": "0.04", "round(25*D('0.005'),2)": "0.12", "D(3)/30+D(5)/30+D(22)*3/90": "1",
    "1000*(1+600*D('0.03'))": "19000",
}  # fmt: skip


async def test_arithmetic_is_charged_as_the_lines_of_a_price_list(valkey_url, sqlite_url):
    async with world(StillTerms([], [], CatalogTerms()), valkey_url, sqlite_url) as core:
        core.clock.at_ms = NOW_MS
        for number, (text, amount) in enumerate(SAID.items()):
            stated = {"usage": {"use": [3, 600, 5]}, "expected_charge": {"amount": amount}, "check_expr": text}
            example = arithmetic.read(stated)
            assert example.parts, f"{text}: {example.why}"
            verdict = await judged(core, example, number, stated, known=False)
            assert verdict[0] == "reproduced, read from its arithmetic", (text, verdict)
            wrong = stated | {"expected_charge": {"amount": f"{Fraction(amount) + 1}"}}
            assert (await judged(core, example, f"{number}w", wrong, known=False))[0] == "differs", text


ODD = [
    {"check_expr": "3 x 0.20"}, {"check_expr": 5}, {"check_expr": "ceil()"}, {"check_expr": "D('1,00')*3"},
    {"check_expr": "max(3)"}, {"check_expr": "max(ceil(D(3)/2),ceil(D(5)/2))"}, {"usage": {"mb": "1/0"}}, {},
    {"check_expr": "3*D('0.2')/ceil(D(3)/2)"}, {"check_expr": "10**9**9"}, {"check_expr": "-" * 3000 + "1"},
    {"check_expr": "min(D(5),rup(D('3.5')*D('0.333')))"}, {"check_expr": "max(D('0.3'),5-7)*2"}, {"arithmetic": "three times a fifth"},
]  # fmt: skip


@pytest.mark.parametrize("example", ODD)
def test_what_cannot_be_read_is_said_to_be_so(example):
    assert arithmetic.read({"usage": {"mb": 3}, "expected_charge": {"amount": "0.6"}, **example}).verdict == "not_read"


@pytest.mark.parametrize(("usage", "text"), [({}, "D(5)+13+37"), ({"sims": 11, "mb_each": 3}, "11*D(5)")])
def test_fees_alone_are_no_price_of_use(usage, text):
    stated = {"usage": usage, "expected_charge": {"amount": "55"}, "check_expr": text}
    assert arithmetic.read(stated).verdict == "not_usage"


@pytest.mark.parametrize(
    ("stated", "wrong"),
    [
        ({"usage": {"days": 40}, "expected_charge": {"amount": "400"}, "check_expr": "40*D(10)"}, {"amount": "410"}),
        (
            {
                "usage": {"mb": "3.5"},
                "expected_charge": {"quantity": "1.5", "unit": "MB left"},
                "check_expr": "5-D('3.5')",
            },
            {"quantity": "1.4"},
        ),
        (
            {
                "usage": {"sms": 262},
                "expected_charge": {"quantity": "0", "unit": "SMS left"},
                "check_expr": "max(250-262,0)",
            },
            {"quantity": "1"},
        ),
    ],
)
async def test_days_are_passes_and_what_is_left_is_left_of_a_bundle(stated, wrong, valkey_url, sqlite_url):
    example = arithmetic.read(stated)
    assert not example.verdict, example.why
    async with world(StillTerms([], [], CatalogTerms()), valkey_url, sqlite_url) as core:
        core.clock.at_ms = NOW_MS
        assert (await judged(core, example, 1, stated, known=False))[0] == "reproduced, read from its arithmetic"
        stated["expected_charge"] |= wrong
        assert (await judged(core, example, 2, stated, known=False))[0] == "differs"


def test_other_examples_under_a_known_id_are_read_by_themselves():
    said = yaml.safe_load((DATA / "tariff-expressions.yaml").read_text())
    own = next(entry for entry in OURS if entry["id"] == "twilio-programmable-wireless")
    assert read(own, said)[0]
    assert not read(own | {"worked_examples": own["worked_examples"][:1]}, said)[0]


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
