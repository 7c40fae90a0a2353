import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.money_pb2 import Money

from meterline.catalog.v1 import networks_pb2, tariffs_pb2
from meterline.type.v1 import service_pb2 as types
from tests.integration.catalog.world import MB, NOW_MS, account, all_pages, eur, rate, refused

PUBLISHED, DRAFT = tariffs_pb2.TARIFF_STATE_PUBLISHED, tariffs_pb2.TARIFF_STATE_DRAFT


def at(milliseconds):
    time = Timestamp()
    time.FromMilliseconds(milliseconds)
    return time


@pytest.mark.requirement("R049", "R053")
async def test_rate_zones_group_networks_and_countries(world):
    await world.import_networks()
    reseller = world.as_("reseller")
    zone_id = await reseller.new_zone("Benelux", "net_20610", "net_20601", "net_20610", countries=("NL", "LU"))
    get = tariffs_pb2.GetRateZoneRequest(rate_zone_id=zone_id)
    zone = await reseller.call(reseller.tariffs.GetRateZone, get)
    assert (list(zone.network_ids), list(zone.country_codes)) == (["net_20601", "net_20610"], ["LU", "NL"])
    assert (zone.account_id, zone.etag) == (account("reseller"), "1")
    changed = await reseller.change_zone(zone_id, network_ids=["net_20601"])
    assert (list(changed.network_ids), list(changed.country_codes), changed.etag) == (["net_20601"], ["LU", "NL"], "2")
    async with refused("INVALID_ARGUMENT", "NETWORK_NOT_FOUND", "rate_zone.network_ids"):
        await reseller.change_zone(zone_id, network_ids=["net_20601", "net_99999"])
    async with refused("NOT_FOUND", "RATE_ZONE_NOT_FOUND"):
        await world.as_("enterprise").change_zone(zone_id, name="Mine")
    delete = tariffs_pb2.DeleteRateZoneRequest(rate_zone_id=zone_id)
    await reseller.call(reseller.tariffs.DeleteRateZone, delete)
    async with refused("NOT_FOUND", "RATE_ZONE_NOT_FOUND"):
        await reseller.call(reseller.tariffs.GetRateZone, get)


async def test_a_zone_that_is_referenced_is_kept(world):
    await world.import_networks()
    reseller = world.as_("reseller")
    zone = await reseller.new_zone("BE", countries=("BE",))
    tariff = await reseller.new_tariff("Retail", rate(zone))
    delete = tariffs_pb2.DeleteRateZoneRequest(rate_zone_id=zone)
    async with refused("FAILED_PRECONDITION", "RATE_ZONE_IN_USE"):
        await reseller.call(reseller.tariffs.DeleteRateZone, delete)
    await reseller.change_tariff(tariff.id, rates=[rate()])
    await reseller.call(reseller.tariffs.DeleteRateZone, delete)


@pytest.mark.requirement("R050", "R232", "R233", "R234")
async def test_a_tariff_is_a_draft_until_it_is_published_and_then_never_changes(world):
    await world.import_networks()
    reseller = world.as_("reseller")
    one = await reseller.new_zone("One network", "net_20601")
    europe = await reseller.new_zone("Europe", "net_20610", countries=("DE",))
    rates = [rate(one, cents=10), rate(europe, cents=20, rate_id="europe"), rate(cents=900)]
    draft = await reseller.new_tariff("Retail", *rates, description="from the price list")
    assert (draft.version, draft.state, draft.HasField("effective_time")) == (1, DRAFT, False)
    assert [r.rate_id for r in draft.rates] == ["r1", "europe", "r2"]
    assert [r.price for r in draft.rates] == [eur(0, 100_000), eur(0, 200_000), eur(9)]
    draft = await reseller.change_tariff(draft.id, rates=rates[:2])
    assert (draft.version, draft.state, len(draft.rates)) == (1, DRAFT, 2)

    first = await reseller.publish_tariff(draft.id)
    assert (first.version, first.state, first.effective_time) == (1, PUBLISHED, at(0))
    async with refused("FAILED_PRECONDITION", "NOTHING_TO_PUBLISH"):
        await reseller.publish_tariff(draft.id)
    world.clock.advance(1000)
    second = await reseller.change_tariff(draft.id, rates=[rate(one, cents=5)])
    assert (second.version, second.state) == (2, DRAFT)
    assert await reseller.tariff(draft.id, 1) == first
    assert (await reseller.tariff(draft.id)).version == 2
    published = await reseller.publish_tariff(draft.id)
    assert (published.version, published.effective_time) == (2, at(NOW_MS + 1000))
    assert await reseller.tariff(draft.id, 1) == first
    async with refused("NOT_FOUND", "TARIFF_VERSION_NOT_FOUND"):
        await reseller.tariff(draft.id, 3)
    async with refused("FAILED_PRECONDITION", "TARIFF_PUBLISHED"):
        await reseller.call(reseller.tariffs.DeleteTariff, tariffs_pb2.DeleteTariffRequest(tariff_id=draft.id))


async def test_a_version_takes_effect_when_it_is_told_to_but_not_before_the_one_it_follows(small_world):
    reseller = small_world.as_("reseller")
    tariff = await reseller.new_tariff("Retail", rate())
    await reseller.publish_tariff(tariff.id, effective_time=at(NOW_MS + 5000))
    await reseller.change_tariff(tariff.id, rates=[rate(cents=200)])
    async with refused("INVALID_ARGUMENT", "EFFECTIVE_TIME_TOO_EARLY", "effective_time"):
        await reseller.publish_tariff(tariff.id, effective_time=at(NOW_MS + 4999))
    soonest = await reseller.publish_tariff(tariff.id)
    assert soonest.effective_time == at(NOW_MS + 5000)


async def test_an_empty_tariff_is_not_published(small_world):
    reseller = small_world.as_("reseller")
    tariff = await reseller.new_tariff("Empty")
    async with refused("FAILED_PRECONDITION", "TARIFF_EMPTY"):
        await reseller.publish_tariff(tariff.id)
    await reseller.call(reseller.tariffs.DeleteTariff, tariffs_pb2.DeleteTariffRequest(tariff_id=tariff.id))
    async with refused("NOT_FOUND", "TARIFF_NOT_FOUND"):
        await reseller.tariff(tariff.id)


@pytest.mark.parametrize("name", ["Mars/Base", "europe/berlin", "Europe/Berlin ", "Z", "+02:00", "localtime", "Factory",
                                  "posix/Europe/Berlin", "../UTC"])  # fmt: skip
async def test_a_time_zone_is_one_that_every_host_knows(small_world, name):
    async with refused("INVALID_ARGUMENT", "TIME_ZONE_UNKNOWN"):
        await small_world.as_("reseller").new_tariff("Nowhere", rate(), time_zone=name)


@pytest.mark.parametrize("code", ["be", "BEL", "", "B1", "BE-", "BE-ABCD"])
async def test_a_country_code_that_cannot_hold_anywhere_is_refused(small_world, code):
    nowhere = tariffs_pb2.Rate(services=[types.SERVICE_DATA], price={"units": 1}, country_codes=[code])
    async with refused("INVALID_ARGUMENT", "FIELD_INVALID", "tariff.rates[0].country_codes[0]"):
        await small_world.as_("reseller").new_tariff("Nowhere", nowhere)


async def test_counts_go_on_with_the_rate_that_follows_wherever_it_stands(small_world):
    reseller = small_world.as_("reseller")
    tariff = await reseller.new_tariff("Retail", rate())
    await reseller.publish_tariff(tariff.id)
    messages = rate(services=(types.SERVICE_SMS_MO,), per_quantity=1, increment=1)
    changed = await reseller.change_tariff(tariff.id, "rates", rates=[messages, rate(cents=5)])
    assert [each.rate_id for each in changed.rates] == ["v2r1", "r1"]
    changed = await reseller.change_tariff(tariff.id, "rates", rates=[messages])
    changed = await reseller.change_tariff(tariff.id, "rates", rates=[rate(cents=6), messages])
    assert [each.rate_id for each in changed.rates] == ["r1", "v2r1"]


async def test_a_network_has_one_rate_in_a_tariff(world):
    await world.import_networks()
    reseller = world.as_("reseller")
    belgium = await reseller.new_zone("Belgium", countries=("BE",))
    proximus = await reseller.new_zone("Proximus", "net_20601")
    tariff = await reseller.new_tariff("Retail", rate(belgium), rate(proximus, cents=5))
    async with refused("FAILED_PRECONDITION", "TARIFF_ZONES_OVERLAP"):
        await reseller.publish_tariff(tariff.id)
    by_service = [rate(belgium), rate(proximus, services=(types.SERVICE_SMS_MO,), per_quantity=1, increment=1)]
    await reseller.change_tariff(tariff.id, rates=by_service)
    assert (await reseller.publish_tariff(tariff.id)).state == PUBLISHED
    by_access = [rate(belgium, access_types=[1, 2]), rate(proximus, access_types=[3, 4])]
    await reseller.change_tariff(tariff.id, rates=by_access)
    assert (await reseller.publish_tariff(tariff.id)).version == 2
    await reseller.change_tariff(tariff.id, rates=[rate(), rate(cents=3, access_types=[4])])
    async with refused("FAILED_PRECONDITION", "TARIFF_ZONES_OVERLAP"):
        await reseller.publish_tariff(tariff.id)


async def test_a_zone_does_not_change_so_that_a_published_tariff_has_two_rates(world):
    await world.import_networks()
    reseller = world.as_("reseller")
    belgium, germany = await reseller.new_zone("BE", countries=("BE",)), await reseller.new_zone("DE", "net_26201")
    tariff = await reseller.new_tariff("Retail", rate(belgium), rate(germany, cents=5))
    await reseller.change_zone(germany, network_ids=["net_20601"])
    await reseller.change_zone(germany, network_ids=["net_26201"])
    await reseller.publish_tariff(tariff.id)
    async with refused("FAILED_PRECONDITION", "TARIFF_ZONES_OVERLAP"):
        await reseller.change_zone(germany, network_ids=["net_20601"])
    async with refused("FAILED_PRECONDITION", "TARIFF_ZONES_OVERLAP"):
        await reseller.change_zone(germany, country_codes=["BE"])
    changed = await reseller.change_zone(germany, network_ids=["net_26201", "net_26202"])
    assert list(changed.network_ids) == ["net_26201", "net_26202"]


async def test_a_network_does_not_move_into_a_second_rate(world):
    await world.import_networks()
    reseller, operator = world.as_("reseller"), world.as_("operator")
    belgium, geocell = await reseller.new_zone("BE", countries=("BE",)), await reseller.new_zone("G", "net_28201")
    tariff = await reseller.new_tariff("Retail", rate(belgium), rate(geocell, cents=5))
    await reseller.publish_tariff(tariff.id)
    moved = networks_pb2.Network(mcc="282", mnc="01", country_code="BE", operational=True)
    async with refused("FAILED_PRECONDITION", "TARIFF_ZONES_OVERLAP"):
        await operator.call(operator.networks.ImportNetworks, networks_pb2.ImportNetworksRequest(networks=[moved]))
    moved.country_code = "GE-AB"
    await operator.call(operator.networks.ImportNetworks, networks_pb2.ImportNetworksRequest(networks=[moved]))


async def test_prices_are_exact_or_refused_with_the_field(small_world):
    reseller = small_world.as_("reseller")
    price = "tariff.rates[0].price"
    for bad, reason in [
        (Money(currency_code="EUR", nanos=1500), "PRICE_NOT_WHOLE_MICROS"),
        (Money(currency_code="EUR", units=-1), "PRICE_OUT_OF_RANGE"),
        (Money(currency_code="EUR", nanos=-1000), "PRICE_OUT_OF_RANGE"),
        (Money(currency_code="EUR", nanos=1_000_000_000), "PRICE_OUT_OF_RANGE"),
        (Money(currency_code="EUR", units=1_000_000_000, nanos=1000), "PRICE_OUT_OF_RANGE"),
        (Money(currency_code="USD", units=1), "CURRENCY_MISMATCH"),
    ]:
        async with refused("INVALID_ARGUMENT", reason, price):
            await reseller.new_tariff("Bad", rate(price=bad))
    for name, good in [("Free", eur(0)), ("Most", eur(1_000_000_000)), ("Plain", Money(units=1)), ("Least", eur(0, 1))]:
        tariff = await reseller.new_tariff(name, rate(price=good))
        assert (tariff.rates[0].price.currency_code, tariff.rates[0].price.units) == ("EUR", good.units)
        await reseller.publish_tariff(tariff.id)
    odd = await reseller.new_tariff("Odd", rate(price=eur(999_999, 999_999), per_quantity=MB + 3, increment=7))
    async with refused("FAILED_PRECONDITION", "PRICE_OUT_OF_RANGE", price):
        await reseller.publish_tariff(odd.id)


async def test_rates_are_whole_and_named_once(small_world):
    reseller = small_world.as_("reseller")
    plain = await reseller.new_tariff("Plain", tariffs_pb2.Rate(services=[types.SERVICE_DATA], price=eur(1)))
    assert (plain.rates[0].per_quantity, plain.rates[0].increment, plain.rates[0].minimum) == (1, 1, 0)
    async with refused("INVALID_ARGUMENT", "RATE_ID_TWICE", "tariff.rates[1].rate_id"):
        await reseller.new_tariff("Twice", rate(rate_id="a"), rate(rate_id="a"))
    async with refused("INVALID_ARGUMENT", "FIELD_REQUIRED", "tariff.rates[0].services"):
        await reseller.new_tariff("No service", rate(services=()))
    async with refused("INVALID_ARGUMENT", "FIELD_REQUIRED", "tariff.rates[0].services[0]"):
        await reseller.new_tariff("Unspecified", rate(services=(0,)))
    async with refused("INVALID_ARGUMENT", "FIELD_REQUIRED", "tariff.rates[0].price"):
        await reseller.new_tariff("No price", tariffs_pb2.Rate(services=[types.SERVICE_DATA]))
    async with refused("INVALID_ARGUMENT", "FIELD_INVALID", "tariff.rates[0].increment"):
        await reseller.new_tariff("Huge step", rate(increment=2**40 + 1))
    async with refused("INVALID_ARGUMENT", "FIELD_INVALID", "tariff.rates[0].minimum"):
        await reseller.new_tariff("Negative", rate(minimum=-1))


async def test_a_tariff_uses_the_zones_of_its_own_account(world):
    await world.import_networks()
    above = await world.as_("operator").new_zone("Wholesale", countries=("BE",))
    below = await world.as_("enterprise").new_zone("Retail", countries=("BE",))
    reseller = world.as_("reseller")
    for foreign in (above, below):
        async with refused("INVALID_ARGUMENT", "REFERENCE_NOT_FOUND", "tariff.rates[1].rate_zone_id"):
            await reseller.new_tariff("Foreign", rate(), rate(foreign))
    made = await reseller.new_tariff("For the enterprise", rate(below), account_id=account("enterprise"))
    assert made.account_id == account("enterprise")


async def test_the_currency_and_the_owner_of_a_tariff_are_fixed(small_world):
    reseller = small_world.as_("reseller")
    tariff = await reseller.new_tariff("Retail", rate())
    async with refused("INVALID_ARGUMENT", "FIELD_IMMUTABLE", "tariff.currency"):
        await reseller.change_tariff(tariff.id, currency="USD")
    async with refused("INVALID_ARGUMENT", "FIELD_IMMUTABLE", "tariff.account_id"):
        await reseller.change_tariff(tariff.id, account_id=account("enterprise"))


@pytest.mark.requirement("R286")
async def test_an_account_sees_no_prices_above_it(world):
    wholesale = await world.as_("operator").new_tariff("Wholesale", rate())
    retail = await world.as_("reseller").new_tariff("Retail", rate())
    async with refused("NOT_FOUND", "TARIFF_NOT_FOUND"):
        await world.as_("reseller").tariff(wholesale.id)
    async with refused("NOT_FOUND", "TARIFF_NOT_FOUND"):
        await world.as_("reseller").publish_tariff(wholesale.id)
    operator, reseller = world.as_("operator"), world.as_("reseller")

    def fetch(client):
        return lambda token: client.call(
            client.tariffs.ListTariffs, tariffs_pb2.ListTariffsRequest(page_size=1, page_token=token)
        )

    pages = await all_pages(fetch(operator), "tariffs")
    assert {tariff.name for page in pages for tariff in page} == {"Wholesale", "Retail"}
    assert [[t.id for t in page] for page in await all_pages(fetch(reseller), "tariffs")] == [[retail.id]]
