"""Uses without volume: a session that moved nothing is reported, and costs what any use costs at least."""

from dataclasses import replace

import pytest

from services.common.pages import PageRequest
from services.rating.domain.pricing import Action, Meter
from services.rating.domain.reasons import Outcome, Reason
from services.rating.domain.records import read_usage_record_id
from services.rating.domain.tariffs import rate
from services.rating.domain.terms import ComponentTerms, RateTerms, Scope, TierTerms
from services.rating.usecases.books import Books, Selection
from tests.integration.rating.test_grants import CENT, EUR, a_mb, counts, priced
from tests.integration.rating.test_refunds import refund
from tests.integration.rating.world import OPERATOR_CALLER, World
from tests.unit.rating.terms import ALL, ENDPOINT, MB

ONLINE, OFFLINE = 1, 2
A_SESSION_FEE = ComponentTerms(
    id="fee", meter=Meter.RECORDS, scope=Scope.SESSION, increment=1, tiers=(TierTerms(1, 0, 1, 5 * CENT, Action.CHARGE), TierTerms(0, 0, 1, 0, Action.CHARGE)),
)  # fmt: skip
AT_LEAST_A_KB = counts(a_mb(CENT), scope=Scope.SESSION, increment=1000, minimum=1000)


def rated(core: World, *rates: RateTerms) -> None:
    (version,) = core.terms.catalog.tariffs["tar_x"]
    core.terms.catalog.tariffs["tar_x"] = (replace(version, rates=rates),)
    core.terms.change()


async def reported(core: World, event_id: str, quantity: int = 0, session: str = "s1") -> int:
    answer = await core.use(quantity, event_id, mode=OFFLINE, session_ref=session)
    assert (answer.outcome, answer.uncovered) == (Outcome.CHARGED, 0)
    return answer.amounts[0]


async def money_of(core: World) -> int:
    return (await core.cell.engine.holders([ENDPOINT]))[ENDPOINT].money


async def test_a_fee_for_each_session_is_charged_once_though_nothing_was_used(stores):
    async with priced(stores, A_SESSION_FEE, EUR) as core:
        assert [await reported(core, f"e{number}") for number in range(3)] == [5 * CENT, 0, 0]
        assert await reported(core, "used", MB) == 0
        assert await reported(core, "other", session="s2") == 5 * CENT
        assert await money_of(core) == EUR - 10 * CENT


async def test_a_minimum_is_charged_once_for_a_session_and_then_used_up(stores):
    async with priced(stores, AT_LEAST_A_KB, EUR) as core:
        first = await reported(core, "nothing")
        assert first == 10  # a kB at a cent for a MB
        assert await reported(core, "again") == 0
        assert await reported(core, "small", 900) == 0
        assert await reported(core, "more", 101) == 10
        assert await money_of(core) == EUR - 20


async def test_without_fee_or_minimum_it_costs_nothing_and_needs_no_rate(stores):
    async with priced(stores, counts(a_mb(CENT)), EUR) as core:
        assert await reported(core, "nothing") == 0
        data_only = RateTerms(id="r1", services=frozenset({1}), rate=rate(CENT, MB, 1, MB))
        rated(core, data_only)
        message = await core.use(0, "message", mode=OFFLINE, service=2)
        assert (message.outcome, message.uncovered, message.amounts[0]) == (Outcome.CHARGED, 0, 0)


async def test_a_simple_price_has_its_minimum(stores):
    async with priced(stores, AT_LEAST_A_KB, EUR) as core:
        rated(core, RateTerms(id="r1", services=ALL, rate=rate(CENT, MB, 1, 15_000)))
        assert [await reported(core, name) for name in ("one", "two")] == [150, 150]


async def test_where_a_benefit_covers_volume_it_costs_nothing_and_activates_nothing(stores):
    async with priced(stores, A_SESSION_FEE, EUR, expires_ms=1 << 42) as core:
        assert await reported(core, "covered") == 0
        assert [left for _, left in await core.remaining()] == [10**9]
        assert (await core.use(10**9, "all", mode=OFFLINE)).outcome is Outcome.CHARGED
        assert await reported(core, "not-covered") == 5 * CENT


async def test_a_fee_that_cannot_be_paid_blocks_and_is_not_owed(stores):
    async with priced(stores, A_SESSION_FEE, CENT) as core:
        assert await reported(core, "poor") == 0
        assert await money_of(core) == CENT
        refused = await core.use(1, "asks", session_ref="s2")
        assert (refused.outcome, refused.reason) == (Outcome.REFUSED, Reason.ENDPOINT_BLOCKED)


@pytest.mark.parametrize("folded", [False, True])
async def test_it_is_refunded_whole(folded, stores):
    async with priced(stores, A_SESSION_FEE, EUR) as core:
        used = await core.use(0, "e", mode=OFFLINE, session_ref="s1")
        if folded:
            await core.fold()
        back = await refund(core, used.usage_record_id)
        assert (back.quantity, back.steps[0].amount) == (1, 5 * CENT)
        assert await money_of(core) == EUR


async def test_books_and_explanation_say_what_it_cost(stores):
    async with priced(stores, A_SESSION_FEE, EUR) as core:
        used = await core.use(0, "e", mode=OFFLINE, session_ref="s1")
        await core.fold()
        position = read_usage_record_id(used.usage_record_id)
        (record,) = await core.books.records("", Selection(position=position), PageRequest(1))
        assert (record.quantity, record.steps[0][3]) == (0, 5 * CENT)
        books = Books(core.books, core.journal, core.terms)
        explained = await books.explain(OPERATOR_CALLER, position, 0, "chg")
        assert any("0.05 EUR in all" in sentence for sentence in explained.sentences), explained


async def test_asking_for_nothing_is_invalid_and_so_is_not_saying_how_much(stores):
    async with priced(stores, A_SESSION_FEE, EUR) as core:
        asked = await core.use(0, "asks", mode=ONLINE)
        unsaid = await core.use(None, "unsaid", mode=OFFLINE)  # type: ignore[arg-type]
        for answer in (asked, unsaid):
            assert (answer.outcome, answer.reason) == (Outcome.INVALID, Reason.QUANTITY_OUT_OF_RANGE)
            assert "a stated 0" in answer.detail
