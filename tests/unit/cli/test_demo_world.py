import json
import math
import re
from collections import Counter
from datetime import date

import pytest

from cli.demo import tariffs
from cli.demo.networks import DATA, REGIONS, access_types, load_world, network_id
from cli.demo.scenario import ENTERPRISES, MEMBERS, OPERATOR, scaled, shared_out
from cli.demo.setup import _sim
from cli.demo.usage import UsageGenerator, month_before, month_span_ms
from meterline.accounts.v1.accounts_pb2 import AccountKind
from meterline.rating.v1.charging_pb2 import UsageEvent, UsageMode
from meterline.type.v1.service_pb2 import AccessType, Service
from services.runtime.limits import require_within_limits

MONTH = date(2025, 10, 1)
RECORDS = 20_000
SECONDS_OF_OCTOBER = 31 * 86_400


@pytest.fixture(scope="module")
def world():
    return load_world()


@pytest.fixture(scope="module")
def uses(world):
    return UsageGenerator(world, 7, MONTH, 2_000).uses(RECORDS)


def test_the_world_has_every_operational_network_once(world):
    assert len(world.networks) > 1_550
    assert len(world.by_country) > 225
    assert len({network_id(network) for network in world.networks}) == len(world.networks)
    for network in world.networks:
        require_within_limits(network)


def test_each_country_is_in_one_region(world):
    placed = Counter(country for countries in world.regions.values() for country in countries)
    assert set(placed) == {network.country_code[:2] for network in world.networks}
    assert set(placed.values()) == {1}
    assert "BE" in world.regions["Europe"]
    assert "ZA" in world.regions["Africa"]
    assert set(world.regions) == set(REGIONS.values())


@pytest.mark.parametrize(
    ("bands", "generations"),
    [
        ("GSM 900 / GSM 1800 / UMTS 2100 / LTE 800", [1, 2, 3]),
        ("LTE 1800 / 5G 3500", [3, 4]),
        ("TD-LTE 2300", [3]),
        ("CDMA2000 800", [2]),
        ("CDMA 800", [1]),
        ("MVNO", []),
        ("Satellite", []),
        ("", []),
    ],
)
def test_bands_tell_the_access_types(bands, generations):
    assert access_types(bands) == generations


def test_prices_are_those_of_the_real_lists_word_for_word():
    entries = {entry["id"]: json.dumps(entry) for entry in json.loads((DATA / "tariffs.json").read_bytes())}
    quoted = [price for prices in tariffs.PRICE_LISTS for price in prices.prices if price.source]
    assert len({price.source for price in quoted}) >= 10
    for price in quoted:
        assert price.words in entries[price.source], price
        figures = {float(n) for n in re.findall(r"\d+(?:\.\d+)?", price.words)}
        pence = {figure / 100 for figure in figures} if re.search(r"\dp\b", price.words) else set()
        assert float(price.amount) in figures | pence, price


def test_every_price_list_of_the_tree_becomes_a_tariff_within_the_contract():
    zones = dict.fromkeys(REGIONS.values(), "zon_00000000000000000000000001")
    bought = {member.buys.name for member in MEMBERS}
    sold = {m.fleet.prices.name for m in ENTERPRISES if m.fleet and m.fleet.prices}
    assert bought | sold == {prices.name for prices in tariffs.PRICE_LISTS}
    assert len(bought | sold) >= 10
    for prices in tariffs.PRICE_LISTS:
        require_within_limits(tariffs.tariff(prices, prices.name, zones))


def test_the_tree_has_a_nested_reseller_and_enterprises_at_every_depth():
    parents = {member.name: member.parent for member in MEMBERS}
    depths: Counter[int] = Counter()
    for member in ENTERPRISES:
        depth, name = 0, member.name
        while name != OPERATOR:
            name, depth = parents[name], depth + 1
        depths[depth] += 1
    assert set(depths) == {1, 2, 3}
    assert len(ENTERPRISES) >= 5
    for member in MEMBERS:
        kinds = {m.name: m.kind for m in MEMBERS}
        assert kinds.get(member.parent, AccountKind.ACCOUNT_KIND_RESELLER) == AccountKind.ACCOUNT_KIND_RESELLER


@pytest.mark.parametrize("total", [0, 1, 5, 10, 99, 10_000])
def test_shares_add_up(total):
    assert sum(shared_out(total).values()) == total


def test_limits_scale_with_the_records_and_never_to_nothing():
    assert scaled("18380", 100_000) == 18380
    assert scaled("100", 1_000) == 1
    assert str(scaled("1", 1)) == "0.01"


def test_sims_have_valid_numbers_of_their_own():
    sims = [_sim("demo 1", number) for number in range(100)] + [_sim("demo 2", number) for number in range(100)]
    assert len({sim.iccid for sim in sims}) == len({sim.imsi for sim in sims}) == 200
    for sim in sims:
        require_within_limits(sim)
        assert len(sim.iccid) == 19
        assert len(sim.imsi) == 15


@pytest.mark.parametrize(
    ("today", "month"),
    [
        (date(2025, 11, 1), date(2025, 10, 1)),
        (date(2025, 1, 31), date(2024, 12, 1)),
        (date(2024, 3, 31), date(2024, 2, 1)),
    ],
)
def test_the_month_is_the_last_full_one(today, month):
    assert month_before(today) == month


def test_a_month_spans_its_days():
    start, end = month_span_ms(date(2024, 2, 1))
    assert end - start == 29 * 86_400_000


def test_the_same_seed_makes_the_same_month(world, uses):
    assert UsageGenerator(world, 7, MONTH, 2_000).uses(RECORDS) == uses
    assert UsageGenerator(world, 8, MONTH, 2_000).uses(100) != uses[:100]


def test_there_are_as_many_records_as_asked_for_each_id_once_but_for_exact_duplicates(uses):
    assert len(uses) == RECORDS
    first: dict[tuple[str, int, str], UsageEvent] = {}
    repeated = 0
    for use in uses:
        key = (use.fleet, use.device, use.event.event_id)
        repeated += key in first
        assert first.setdefault(key, use.event) == use.event
        assert use.duplicate or first[key] is use.event
    assert repeated == sum(use.duplicate for use in uses) == RECORDS // 100


def test_distributions_are_those_that_are_stated(uses):
    unique = [use for use in uses if not use.duplicate]
    share = {s: sum(u.event.service == s for u in unique) / len(unique) for s in Service.values()}
    assert share[Service.SERVICE_SMS_MO] == pytest.approx(0.08, abs=0.01)
    assert share[Service.SERVICE_SMS_MT] == pytest.approx(0.10, abs=0.01)
    assert sum(use.late for use in unique) / len(unique) == pytest.approx(0.03, abs=0.005)
    online = sum(u.event.mode == UsageMode.USAGE_MODE_ONLINE for u in unique) / len(unique)
    assert online == pytest.approx(0.65 * 0.97, abs=0.015)
    volumes = sorted(u.event.quantity for u in unique if u.event.service == Service.SERVICE_DATA)
    assert volumes[len(volumes) // 2] == pytest.approx(270_000, rel=0.1)
    assert sum(volumes[-len(volumes) // 100 :]) > 0.3 * sum(volumes), "one record in a hundred carries a third"


def test_few_devices_make_much_of_the_traffic(uses):
    devices = Counter((use.fleet, use.device) for use in uses)
    top = sum(count for _, count in devices.most_common(len(devices) // 10))
    assert top > 0.3 * RECORDS


def test_records_fit_the_contract_the_month_and_the_network(world, uses):
    offered = {network_id(network): list(network.access_types) for network in world.networks}
    start, end = month_span_ms(MONTH)
    for use in uses:
        event = use.event
        assert start <= event.usage_time_ms < end
        assert 1 <= event.quantity <= 2_000_000_000
        assert event.access_type in (offered[event.network_id] or AccessType.values()[1:])
        assert event.service != Service.SERVICE_NB_IOT or event.access_type == AccessType.ACCESS_TYPE_4G
        assert 0 <= use.device < shared_out(2_000)[use.fleet]


def test_records_come_in_the_order_of_time_but_for_the_late_ones(uses):
    prompt = [use.event.usage_time_ms for use in uses if not use.late and not use.duplicate]
    assert prompt == sorted(prompt)
    assert [use.event.usage_time_ms for use in uses] != sorted(use.event.usage_time_ms for use in uses)
    assert math.isclose(len(prompt), RECORDS * 0.99 * 0.97, rel_tol=0.01)
    assert all(use.event.mode == UsageMode.USAGE_MODE_OFFLINE for use in uses if use.late)


def test_a_demo_of_the_least_size_works(world):
    assert len(UsageGenerator(world, 1, MONTH, 10).uses(100)) == 100
