"""The Function's doubles agree with exact integers over the whole range that publishing permits."""

import asyncio
import itertools

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.rating.domain.balances import Holder
from services.rating.domain.decisions import Actor, ChargeOp, ConfigureOp, Segment, Status, TopUpOp
from services.rating.domain.programs import NO_HOLDER, Program, Step, StepMode, program
from services.rating.domain.reasons import Reason
from services.rating.domain.tariffs import EXACT_MAX, Rate, rate
from services.rating.engine.driver import Engine
from services.runtime.valkey import connect

PRICES = st.builds(
    rate,
    price_micros=st.one_of(st.integers(0, 10**12), st.integers(0, 1000)),
    per_quantity=st.one_of(st.integers(1, 2**40), st.sampled_from([1, 1000, 10**6, 2**20, 10**9, 2**30])),
    increment=st.one_of(st.integers(1, 2**40), st.sampled_from([1, 1024, 100_000])),
    minimum=st.integers(0, 2**40),
).filter(lambda made: made.exact)
QUANTITIES = st.one_of(st.integers(1, 2**43), st.integers(1, 5000))
CASES = st.lists(st.tuples(PRICES, QUANTITIES, st.integers(0, 2**53 - 1)), min_size=1, max_size=40)
NOBODY = Actor("test", "acc_t", "acc_t/", "acc_t")
_numbers = itertools.count()


def of(price: Rate, mode: StepMode) -> Program:
    holder = "" if mode is StepMode.PREPAID else NO_HOLDER
    step = Step(holder, mode, (), price, Reason.NO_RATE, holder, "acc_o", ("p", 1), "EUR", ("t", 1), "r1", "")
    return program(1, (step,), (Reason.NONE, 0), (0, 1 << 62))


def charge(endpoint: str, price: Rate, quantity: int, mode: StepMode) -> ChargeOp:
    digest = next(_numbers).to_bytes(16, "big")
    return ChargeOp(digest, bytes(8), endpoint, of(price, mode), quantity, 1_760_000_000_000, 2, b"")


def test_prices_and_what_money_buys_agree_with_exact_integers(valkey_url):
    async def decide(cases: list[tuple[Rate, int, int]]) -> list[list[int]]:
        client = connect(valkey_url)
        engine = Engine(client, next(_numbers))
        await engine.install()
        await engine.open(1, 0)
        ops: list[object] = []
        expected = {}
        for number, (price, quantity, money) in enumerate(cases):
            endpoint = f"ep_{number}"
            expected[endpoint] = 1
            ops.append(ConfigureOp(endpoint, 1, 0, -1, []))
            ops.append(charge(endpoint, price, quantity, StepMode.UNLIMITED))
            if money:
                ops.append(TopUpOp(next(_numbers).to_bytes(16, "big"), bytes(8), endpoint, money, "t", NOBODY))
            ops.append(charge(endpoint, price, quantity, StepMode.PREPAID))
        decided = await engine.decide(ops, expected, 1, 0, 1_760_000_000_000, 10**8)  # type: ignore[arg-type]
        holders: dict[str, Holder] = await engine.holders(expected)
        assert isinstance(decided.segment, Segment)
        await client.aclose()
        charges = iter([outcome for outcome in decided.outcomes if outcome[0] == Status.CHARGED])
        return [
            [*next(charges)[2][0][1:4], *next(charges)[2][0][1:4], holders[f"ep_{n}"].money] for n in range(len(cases))
        ]

    @settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(CASES)
    def holds(cases: list[tuple[Rate, int, int]]) -> None:
        answers = asyncio.run(decide(cases))
        for (price, quantity, money), (rated, uncovered, amount, bought, lacking, paid, left) in zip(
            cases, answers, strict=True
        ):
            exact = price.price(quantity)
            priced = quantity if exact <= EXACT_MAX else price.affordable(quantity, EXACT_MAX)
            assert (rated, uncovered) == (priced, quantity - priced)
            assert amount == (price.price(priced) if priced else 0)
            assert bought == price.affordable(quantity, money)
            assert (bought + lacking, paid) == (quantity, price.price(bought) if bought else 0)
            assert left == money - paid >= 0

    holds()
