"""Explanations say what a support person must know of a charge."""

from dataclasses import replace
from typing import Any

from services.rating.domain.balances import Drawn
from services.rating.domain.measuring import UseRounding
from services.rating.domain.periods import DAILY, WEEKLY, Clock, Period
from services.rating.domain.pricing import (
    NO_BOUND,
    Action,
    Cap,
    Component,
    Meter,
    Pricing,
    Rounding,
    Tier,
    TierMode,
)
from services.rating.domain.programs import Step, StepMode, clocks_from_body, program, steps_from_body
from services.rating.domain.reasons import Outcome, Reason
from services.rating.domain.records import Position
from services.rating.domain.tariffs import rate
from services.rating.usecases.books import Charge, Record, explanation
from tests.unit.rating.terms import EU, GB, MB

CLOCKS = (
    Clock(DAILY, "Europe/Brussels"), Clock(5, "UTC"), Clock(WEEKLY, "UTC"), Clock(1, "UTC"), Clock(DAILY, "UTC", 86400)
)  # fmt: skip
RECORD = Record(
    Position(0, 1, 0), ("acc_o", "acc_e"), "x", "ep_1", 1, EU, 3, 0, 10 * MB, 2, Outcome.CHARGED, Reason.NONE, 0, "p", [], 0
)  # fmt: skip
TIERS = (Tier(5, 1_000, 0, Action.CHARGE), Tier(20, 3_000, 0, Action.THROTTLE), Tier(0, 0, 250_000, Action.BLOCK))


def component(**fields: Any) -> Component:
    values: dict[str, Any] = {
        "id": "r1.c1", "counter": "n", "owner": "", "period": 1, "meter": Meter.QUANTITY, "free": 0, "increment": MB,
        "minimum": 0, "mode": TierMode.GRADUATED, "tiers": TIERS, "denominator": 1, "lowest": 0, "highest": NO_BOUND,
        "unit": 1, "rounding": Rounding.UP,
    }  # fmt: skip
    return Component(**{**values, **fields})


def step(**fields: Any) -> Step:
    values: dict[str, Any] = {
        "holder": "", "mode": StepMode.PREPAID, "refs": (), "rate": None, "no_rate": Reason.NO_RATE, "payer": "",
        "payee": "acc_e", "plan": ("pln_1", 2), "currency": "EUR", "tariff": ("tar_1", 3), "rate_id": "r1", "zone_id": "",
    }  # fmt: skip
    return Step(**{**values, **fields})


def told(
    priced: Step, amount: int = 20_000, benefit: int = 0, draws: Any = (), uncovered: int = 0, counts: Any = None
) -> list[str]:
    rated = 10 * MB - benefit - uncovered
    charge = Charge(RECORD, 0, benefit, rated, uncovered, amount, draws, "EUR", counts or {})
    return list(explanation(charge, priced, CLOCKS).sentences)


def test_each_part_of_a_price_says_what_it_counts_over_which_time_and_its_tiers():
    sentences = told(step(pricing=Pricing((component(), component(id="r1.fee", meter=Meter.RECORDS, period=2, increment=1,
        owner="acc_e", tiers=(Tier(0, 0, 500_000, Action.CHARGE),), rounding=Rounding.HALF_UP, unit=10_000)), ())))  # fmt: skip
    assert sentences == [
        "acc_e charges ep_1 for 10000000 bytes on net_20601, by plan pln_1 version 2 (prepaid).",
        "10000000 bytes were priced by tariff tar_1 version 3, rate r1, as the sum of 2 parts: 0.02 EUR in all.",
        (
            "Part r1.c1 counts bytes over the day (Europe/Brussels), of the endpoint (in whole blocks of 1000000): from 0 up to "
            "5000000 at 1000 micros each 1000000 bytes; from 5000000 up to 20000000 at 3000 micros each 1000000 bytes, "
            "slowed down; above 20000000 at 0.25 EUR flat, where use does not pass; what the count cost before is taken off, "
            "and the whole is rounded up to the micro."
        ),
        (
            "Part r1.fee counts uses over the billing cycle (from day 5, UTC), of all endpoints of acc_e together: all at "
            "0.50 EUR flat; what the count cost before is taken off, and the whole is rounded half up to 0.01 EUR."
        ),
    ]


def test_over_which_time_a_count_runs_is_said():
    parts = tuple(component(id=f"r1.c{period}", period=period) for period in (3, 4, 5))
    assert [sentence.partition(" over ")[2].partition(", of")[0] for sentence in told(step(pricing=Pricing(parts, ())))[2:]] == [
        "the week from Monday (UTC)",
        "the month (UTC)",
        "the window of 86400 seconds from its first use",
    ]  # fmt: skip


def test_bounds_free_units_and_all_units_tiers_are_said():
    part = component(
        mode=TierMode.VOLUME, free=100, minimum=3 * MB, lowest=5_000, highest=90_000, period=Period.SESSION
    )
    sentence = told(step(pricing=Pricing((part,), ())))[2]
    assert "over the session, of the endpoint (the first 100 are free, at least 3000000 are counted" in sentence
    assert "at least 0.005 EUR, at most 0.09 EUR" in sentence
    assert "all, while the count is up to 5000000 at" in sentence
    assert "all, once the count is over 20000000 at" in sentence
    alone = told(step(pricing=Pricing((replace(part, period=Period.RECORD),), ())))[2]
    assert "by itself, for each use" in alone


def test_how_use_is_measured_before_it_is_counted_is_said():
    for each, sentence in [
        (UseRounding("", 100, 0), "each use counts as whole blocks of 100"),
        (UseRounding("n", 100, 250), "what a session uses counts as at least 250 and whole blocks of 100"),
        (
            UseRounding("n", 1, 0, 1, 1),
            "what the endpoint uses in a day (Europe/Brussels) counts as at most 1",
        ),
    ]:
        assert sentence in told(step(pricing=Pricing((component(each=each),), ())))[2]


def test_caps_say_what_is_beyond_them():
    caps = [Cap("s1", "n", "", 1, 2_000_000, action) for action in (Action.FREE, Action.THROTTLE, Action.BLOCK)]
    sentences = told(step(pricing=Pricing((component(),), tuple(caps))))
    assert [sentence.rpartition("; ")[2] for sentence in sentences[3:]] == [
        "what is over it is free.",
        "what is over it is free and slowed down.",
        "use over it does not pass.",
    ]
    assert sentences[3].startswith(
        "Cap s1: uses cost at most 2.00 EUR over the day (Europe/Brussels), of the endpoint;"
    )


def test_where_counts_stood_is_said_with_what_that_costs_and_nothing_of_those_that_are_not_known():
    cap = Cap("s1", "m", "", 1, 2_000_000, Action.FREE)
    priced = step(pricing=Pricing((component(), component(id="r1.fee", counter="other")), (cap,)))
    sentences = told(priced, counts={"n": (0, 10 * MB), "m": (1_990_000, 2_010_000)})
    assert sentences[2].endswith("to the micro. The count went from 0 to 10000000 (0.02 EUR).")
    assert sentences[3].endswith("is rounded up to the micro.")
    assert sentences[4].endswith("is free. Without it they had cost 1.99 before this use, 2.01 with it.")
    again = told(priced, counts={"n": (5 * MB, 15 * MB)})
    assert again[2].endswith("The count went from 5000000 (0.005 EUR) to 15000000 (0.035 EUR).")


def test_draws_on_money_are_micros_and_what_is_left_to_pay_is_said():
    priced = step(rate=rate(2_000_000, GB, 1, 0))
    sentences = told(priced, amount=1_000, benefit=MB, draws=[("a.b1", MB, 1), ("m.b2", 17_000, Drawn.OF_MONEY)])
    assert sentences[1:] == [
        "1000000 bytes came from balance bal_a.b1, activated by this first use, at no further price.",
        (
            "9000000 bytes were priced by tariff tar_1 version 3, rate r1 of the default zone: rounded up to 9000000 "
            "(9000000 x 1), at 1/500 micros each 1, that is 0.018 EUR, rounded up once, to the micro."
        ),
        "0.017 EUR of the price were paid from balance bal_m.b2.",
        "0.001 EUR of the price were left to pay.",
    ]


def test_what_nothing_covered_is_said():
    assert told(step(), amount=0, uncovered=10 * MB)[-1] == (
        "10000000 bytes were covered by nothing (NO_RATE or no balance)."
    )


def test_a_kept_program_tells_its_clocks():
    made = program(1, (step(pricing=Pricing((component(),), ())),), (Reason.NONE, 0), (0, 1), CLOCKS)
    assert clocks_from_body(made.body()) == CLOCKS
    assert steps_from_body(made.body()) == made.steps
