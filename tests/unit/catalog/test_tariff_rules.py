import time
from dataclasses import replace
from string import ascii_uppercase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.catalog.domain.components import (
    CountedPer,
    LimitAction,
    PriceComponent,
    PriceMeter,
    PriceScope,
    RoundingMode,
    SpendingCap,
    Tier,
    TierMode,
    UseRounding,
    require_sound,
)
from services.catalog.domain.naming import named, with_names
from services.catalog.domain.services import AccessType, Service
from services.catalog.domain.tariffs import (
    Overlap,
    Rate,
    Tariff,
    TariffState,
    find_overlap,
    published,
    require_counters_agree,
    require_exact_prices,
)
from services.catalog.domain.timebands import TimeBand
from services.catalog.domain.zones import RateZone, ZoneReach
from services.common.errors import FailedPreconditionError, InvalidArgumentError

NETWORKS = tuple(f"net_2060{number}" for number in range(6))
zones = st.dictionaries(
    st.sampled_from(["", "a", "b", "c"]), st.frozensets(st.sampled_from(NETWORKS)).map(ZoneReach), min_size=1
)
services = st.sets(st.sampled_from(Service), min_size=1).map(lambda found: tuple(sorted(found)))
access_types = st.sets(st.sampled_from(AccessType)).map(lambda found: tuple(sorted(found)))


@given(st.data(), zones)
def test_a_tariff_without_overlap_gives_each_network_one_rate(data, reaches):
    rates = data.draw(
        st.lists(
            st.builds(
                Rate, rate_zone_id=st.sampled_from(sorted(reaches)), services=services, access_types=access_types
            ),
            max_size=4,
        )
    )
    rates = with_names(Tariff(rates=tuple(rates))).rates

    def matching(network, service, access):
        return [
            rate
            for rate in rates
            if (network == "" if not rate.rate_zone_id else network in reaches[rate.rate_zone_id].network_ids)
            and (service, access) in rate.combinations()
        ]

    most = max(
        len(matching(network, service, access))
        for network in ("", *NETWORKS)
        for service in Service
        for access in AccessType
    )
    assert (find_overlap(rates, reaches) is None) == (most < 2)


def rate(zone, **fields):
    return Rate(rate_id=zone or "any", rate_zone_id=zone, services=(Service.DATA,), **fields)


def place_of(overlap):
    return overlap and overlap.place


def test_countries_overlap_before_they_have_any_network():
    def overlap(*codes):
        reaches = {f"z{index}": ZoneReach(frozenset(), code) for index, code in enumerate(codes)}
        return place_of(find_overlap(tuple(rate(zone) for zone in reaches), reaches))

    assert overlap(("XX",), ("YY",)) is None
    assert overlap(("GE-AB",), ("GE-CD",)) is None
    assert overlap(("XX",), ("YY", "XX")) == "XX"
    assert overlap(("GE",), ("GE-AB",)) == "GE-AB"
    assert overlap(("GE-AB",), ("GE",)) == "GE"
    assert overlap(("GE", "GE-AB")) is None


def test_the_default_rate_overlaps_no_zone_but_another_default():
    reaches = {"z": ZoneReach(frozenset(NETWORKS))}
    assert find_overlap((rate("z"), rate("")), reaches) is None
    assert place_of(find_overlap((rate(""), rate("")), reaches)) == "default"


def test_given_names_are_kept_and_free_ones_are_found():
    assert named(["", "r1", "", "x", "r4"], "r", "rates", "rate_id") == ["r2", "r1", "r3", "x", "r4"]
    with pytest.raises(InvalidArgumentError, match="RATE_ID_TWICE"):
        named(["x", "", "x"], "r", "rates", "rate_id")


SMS, DATA = (Service.SMS_MO,), (Service.DATA,)


def follow(earlier: Tariff, *rates: Rate, **fields) -> Tariff:
    return with_names(replace(earlier, version=2, rates=rates, **fields), [earlier])


def test_a_rate_keeps_the_name_of_the_one_that_it_follows_wherever_it_stands():
    """What it counted goes by its name: bytes must not be counted on as messages."""
    monthly = PriceComponent(scope=PriceScope.CYCLE, free_quantity=10, tiers=(Tier(),))
    first = with_names(Tariff(rates=(Rate(services=DATA, components=(monthly,)),)))
    assert [rate.rate_id for rate in first.rates] == ["r1"]
    second = follow(first, Rate(services=SMS, components=(monthly,)), Rate(services=DATA, components=(monthly,)))
    assert [rate.rate_id for rate in second.rates] == ["v2r1", "r1"]
    assert [rate.components[0].component_id for rate in second.rates] == ["v2c1", "c1"]
    elsewhere = follow(first, Rate(services=DATA, country_codes=("BE",)), Rate(services=DATA, price_micros=7))
    assert [rate.rate_id for rate in elsewhere.rates] == ["v2r1", "r1"]  # the same place goes before another place
    moved = follow(first, Rate(services=DATA, country_codes=("BE",)))
    assert moved.rates[0].rate_id == "r1"
    given = follow(first, Rate(rate_id="r1", services=SMS), Rate(services=DATA))
    assert [rate.rate_id for rate in given.rates] == ["r1", "v2r1"]  # the caller knows best


def test_the_name_of_a_rate_that_went_is_not_given_again():
    first = with_names(Tariff(rates=(Rate(services=DATA), Rate(services=SMS))))
    second = follow(first, Rate(services=DATA))
    third = with_names(replace(second, version=3, rates=(Rate(services=DATA), Rate(services=SMS))), [second])
    assert [rate.rate_id for rate in third.rates] == ["r1", "v3r1"]
    again = with_names(replace(second, rates=(Rate(services=SMS), Rate(services=DATA))), [second, first])
    assert [rate.rate_id for rate in again.rates] == ["r2", "r1"]  # still a draft: it follows what is published


def test_a_cap_keeps_the_name_of_the_one_that_it_follows():
    cycle, day = SpendingCap(scope=PriceScope.CYCLE, amount_micros=10), SpendingCap(scope=PriceScope.DAY)
    first = with_names(Tariff(spending_caps=(cycle,)))
    second = follow(first, spending_caps=(day, replace(cycle, amount_micros=20)))
    assert [cap.cap_id for cap in second.spending_caps] == ["v2s1", "s1"]
    a_day, a_week = (SpendingCap(scope=PriceScope.WINDOW, window_s=days * 86_400, amount_micros=10) for days in (1, 7))
    both = with_names(Tariff(spending_caps=(a_day, a_week)))
    assert [cap.cap_id for cap in follow(both, spending_caps=(a_week, a_day)).spending_caps] == ["s2", "s1"]
    assert [cap.cap_id for cap in follow(both, spending_caps=(a_week,)).spending_caps] == ["s2"]
    of_one, of_other = (replace(cycle, rate_ids=(name,)) for name in ("r1", "r2"))
    each = with_names(Tariff(rates=(Rate(), Rate()), spending_caps=(of_one, of_other)))
    assert [cap.cap_id for cap in follow(each, spending_caps=(of_other, of_one)).spending_caps] == ["s2", "s1"]
    shorter = replace(a_week, window_s=5 * 86_400)
    assert [cap.cap_id for cap in follow(both, spending_caps=(a_day, shorter)).spending_caps] == ["s1", "s2"]


def test_publishing_freezes_from_a_time_that_never_goes_back():
    draft = Tariff(rates=(rate(""),))
    first = published(draft, None, None, now_ms=500)
    assert (first.state, first.effective_ms) == (TariffState.PUBLISHED, 0)
    assert published(draft, first, None, now_ms=500).effective_ms == 500
    later = published(draft, None, 900, now_ms=500)
    assert published(draft, later, None, now_ms=500).effective_ms == 900
    assert published(draft, later, 900, now_ms=500).effective_ms == 900
    next_year = published(draft, None, 31_536_000_000, now_ms=500)
    with pytest.raises(InvalidArgumentError, match="EFFECTIVE_TIME_TOO_EARLY"):
        published(draft, next_year, None, now_ms=500)
    with pytest.raises(InvalidArgumentError, match="EFFECTIVE_TIME_TOO_EARLY"):
        published(draft, later, 899, now_ms=500)
    with pytest.raises(FailedPreconditionError, match="TARIFF_EMPTY"):
        published(Tariff(), None, None, now_ms=500)


def test_a_price_beyond_the_exact_range_names_its_field():
    good, bad = rate("", price_micros=1), Rate(rate_id="bad", price_micros=10**12, increment=2**40)
    require_exact_prices(Tariff(rates=(good,)))
    with pytest.raises(FailedPreconditionError) as caught:
        require_exact_prices(Tariff(rates=(good, bad)))
    assert caught.value.violations[0].field == "tariff.rates[1].price"


def test_a_zone_reaches_its_networks_and_those_of_its_countries():
    zone = RateZone(network_ids=("net_20601",), country_codes=("DE", "GE"))
    countries = [("net_20601", "BE"), ("net_20602", "BE"), ("net_26201", "DE"), ("net_28967", "GE-AB")]
    assert zone.reach(countries).network_ids == {"net_20601", "net_26201", "net_28967"}


def at(*bands, **fields):
    made = tuple(TimeBand(weekdays=days, start=start * 60, end=end * 60) for days, start, end in bands)
    return Rate(services=(Service.DATA,), time_bands=made, **fields)


def overlaps(*rates):
    return find_overlap(tuple(rates), {"z": ZoneReach(frozenset(NETWORKS))}) is not None


def test_rates_of_different_specificity_do_not_overlap():
    network, country = at(network_ids=NETWORKS[:1]), at(country_codes=("BE",))
    assert not overlaps(network, country, at(rate_zone_id="z"), at())
    assert overlaps(network, at(network_ids=NETWORKS[:2]))
    assert overlaps(country, at(country_codes=("NL", "BE")))
    assert not overlaps(network, at(network_ids=NETWORKS[1:2]))


def test_time_bands_part_rates_of_one_place():
    working, weekend = ((1, 2, 3, 4, 5), 8, 18), ((6, 7), 0, 24)
    assert not overlaps(at(working), at(weekend), at())
    assert overlaps(at(working), at(((5,), 17, 20)))
    assert not overlaps(at(working), at(((5,), 18, 8)))
    assert overlaps(at(((7,), 22, 6)), at(((1,), 5, 7)))  # Sunday night reaches into Monday
    assert overlaps(at(((), 0, 24)), at(((3,), 12, 13)))
    assert overlaps(at(), at())


def test_holidays_are_an_eighth_day_that_may_be_any():
    peak, off_peak, holidays = at(((1, 2, 3, 4, 5), 8, 20)), at(((6, 7, 8), 0, 24)), at(((8,), 12, 13))
    nights = at(((1, 2, 3, 4), 20, 8))

    def meets(*rates):
        return find_overlap(rates, {}, holidays=True) is not None

    assert not meets(peak, off_peak)
    assert meets(off_peak, holidays)
    assert meets(at(((), 0, 24)), holidays)
    assert meets(nights, off_peak)  # a holiday may follow each day: then the night before it reaches into it
    assert not find_overlap((nights, off_peak), {})  # unless there is none
    assert meets(at(((8,), 20, 9)), peak)
    assert not meets(at(((8,), 20, 8)), peak)


PASS = {"scope": PriceScope.WINDOW, "window_s": 86400, "window_quantity": 10}


def component(**fields):
    return PriceComponent(**{"tiers": (Tier(),), **fields})


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"tiers": (Tier(up_to=5),)}, "TIERS_OUT_OF_ORDER"),
        ({"tiers": (Tier(up_to=5), Tier(up_to=5), Tier())}, "TIERS_OUT_OF_ORDER"),
        ({"tiers": (Tier(up_to=5), Tier()), "increment": 2}, "TIER_NOT_WHOLE"),
        ({"tiers": (Tier(action=LimitAction.FREE),)}, "ACTION_NOT_PERMITTED"),
        ({"minimum_price_micros": 5, "maximum_price_micros": 4}, "PRICE_BOUNDS_CROSSED"),
        ({"rounding_micros": 0}, "ROUNDING_UNIT_INVALID"),
        ({"rounding_micros": 3, "rounding_mode": RoundingMode.HALF_UP}, "ROUNDING_UNIT_INVALID"),
        ({"counter": "x"}, "COUNTER_MISMATCH"),
        ({"charge_covered_use": True}, "COVERED_NOT_RECORDS"),
        ({"use_rounding": UseRounding(increment=9)}, "ROUNDING_SCOPE"),
        (
            {"use_rounding": UseRounding(increment=9), "scope": PriceScope.DAY, "meter": PriceMeter.COST},
            "ROUNDING_SCOPE",
        ),
        ({"use_rounding": UseRounding(scope=PriceScope.SESSION), "scope": PriceScope.SESSION}, "ROUNDING_SCOPE"),
        ({"use_rounding": UseRounding(scope=PriceScope.DAY), "scope": PriceScope.DAY}, "ROUNDING_SCOPE"),
        ({"use_rounding": UseRounding(scope=PriceScope.CYCLE), "scope": PriceScope.MONTH}, "ROUNDING_SCOPE"),
        ({"use_rounding": UseRounding(scope=PriceScope.WINDOW), "scope": PriceScope.CYCLE}, "ROUNDING_SCOPE"),
        (
            {"use_rounding": UseRounding(scope=PriceScope.DAY), "scope": PriceScope.WINDOW, "window_s": 864000},
            "ROUNDING_SCOPE",
        ),
        (
            {"use_rounding": UseRounding(maximum=1), "scope": PriceScope.DAY, "meter": PriceMeter.RECORDS},
            "ROUNDING_SCOPE",
        ),
        (
            {"use_rounding": UseRounding(increment=10, maximum=15), "scope": PriceScope.DAY},
            "ROUNDING_MAXIMUM",
        ),
        (
            {"use_rounding": UseRounding(minimum=15, maximum=10), "scope": PriceScope.DAY},
            "ROUNDING_MAXIMUM",
        ),
        ({"window_quantity": 10, "scope": PriceScope.DAY}, "WINDOW_QUANTITY_MISFIT"),
        ({**PASS, "tier_mode": TierMode.VOLUME}, "WINDOW_QUANTITY_MISFIT"),
        ({**PASS, "increment": 3}, "WINDOW_QUANTITY_MISFIT"),
        ({**PASS, "minimum": 11}, "WINDOW_QUANTITY_MISFIT"),
        ({**PASS, "tiers": (Tier(up_to=5), Tier(action=LimitAction.BLOCK))}, "WINDOW_QUANTITY_MISFIT"),
    ],
)
def test_a_component_that_contradicts_itself_is_refused(wrong, reason):
    require_sound(component(), "c")
    require_sound(component(scope=PriceScope.SESSION, use_rounding=UseRounding(increment=9)), "c")
    require_sound(component(**PASS, increment=5, minimum=10), "c")
    by_day = UseRounding(scope=PriceScope.DAY, maximum=1)
    require_sound(component(scope=PriceScope.CYCLE, meter=PriceMeter.RECORDS, use_rounding=by_day), "c")
    each = component(scope=PriceScope.MONTH, use_rounding=UseRounding(scope=PriceScope.MONTH, increment=9))
    require_sound(replace(each, counted_per=CountedPer.ACCOUNT), "c")
    with pytest.raises(InvalidArgumentError, match=reason):
        require_sound(component(**wrong), "c")


def test_components_that_count_together_must_count_the_same():
    day = component(counter="x", scope=PriceScope.DAY)
    require_counters_agree(Tariff(rates=(Rate(components=(day, day)),)))
    hours = [component(counter="x", scope=PriceScope.WINDOW, window_s=hours * 3600) for hours in (1, 24)]
    with pytest.raises(InvalidArgumentError, match="COUNTER_MISMATCH"):
        require_counters_agree(Tariff(rates=(Rate(components=tuple(hours)),)))
    cycle = component(counter="x", scope=PriceScope.CYCLE)
    with pytest.raises(InvalidArgumentError, match="COUNTER_MISMATCH"):
        require_counters_agree(Tariff(rates=(Rate(components=(day,)), Rate(components=(cycle,)))))


def test_tiers_whose_sum_could_leave_the_exact_range_are_refused_at_publishing():
    primes = (999_983, 999_979, 999_961)
    tiers = tuple(Tier(up_to=up_to, price_micros=7, per_quantity=p) for up_to, p in zip((1, 2, 0), primes, strict=True))
    good, bad = component(tiers=tiers[:1]), component(tiers=tiers)
    require_exact_prices(Tariff(rates=(Rate(components=(good,)),)))
    with pytest.raises(FailedPreconditionError) as caught:
        require_exact_prices(Tariff(rates=(Rate(components=(good, bad)),)))
    assert caught.value.violations[0].field == "tariff.rates[0].components[1].tiers"


def test_rates_by_the_hour_in_every_country_are_compared_at_once():
    """It grows with the places that are named, not with their square: 24 rates in 232 countries took half a minute."""
    codes = tuple(f"{one}{two}" for one in ascii_uppercase[:8] for two in ascii_uppercase)
    hours = [replace(at(((), hour, hour + 1)), rate_id=f"r{hour}", country_codes=codes) for hour in range(24)]
    began = time.process_time()
    assert find_overlap(hours, {}) is None
    assert time.process_time() - began < 3
    met = find_overlap((*hours, replace(at(((), 12, 14)), rate_id="late", country_codes=("HZ",))), {})
    assert met == Overlap("late", "r12", Service.DATA, AccessType.G2, "HZ")


def test_bytes_and_messages_are_not_added_up():
    day = PriceComponent(scope=PriceScope.DAY, tiers=(Tier(),))
    mixed = (*DATA, *SMS)
    require_counters_agree(Tariff(rates=(Rate(services=mixed, price_micros=1),)))
    require_counters_agree(Tariff(rates=(Rate(services=(Service.DATA, Service.NB_IOT), components=(day,)),)))
    require_counters_agree(Tariff(rates=(Rate(services=mixed, components=(replace(day, meter=PriceMeter.RECORDS),)),)))
    with pytest.raises(InvalidArgumentError, match="UNITS_MIXED"):
        require_counters_agree(Tariff(rates=(Rate(services=mixed, components=(day,)),)))
    shared = replace(day, counter="all")
    apart = (Rate(services=DATA, components=(shared,)), Rate(services=SMS, components=(shared,)))
    with pytest.raises(InvalidArgumentError, match="COUNTER_MISMATCH"):
        require_counters_agree(Tariff(rates=apart))
