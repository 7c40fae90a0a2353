"""Connection fees that no bundle includes: due though benefits cover the volume."""

from dataclasses import replace

import pytest

from services.common.errors import NotFoundError
from services.common.pages import PageRequest
from services.rating.domain.decisions import SessionAction
from services.rating.domain.events import Answer
from services.rating.domain.pricing import Action, Meter
from services.rating.domain.reasons import Outcome, Reason
from services.rating.domain.records import read_usage_record_id
from services.rating.domain.terms import CapTerms, ComponentTerms, Scope, TierTerms
from services.rating.usecases.books import Books, Selection
from tests.integration.rating.test_charging import session_call
from tests.integration.rating.test_grants import CENT, EUR, a_mb, counts, priced
from tests.integration.rating.test_refunds import refund
from tests.integration.rating.test_uses_without_volume import money_of, rated
from tests.integration.rating.world import OPERATOR_CALLER, World
from tests.unit.rating.terms import ENDPOINT, GB, MB

CREATE, UPDATE, RELEASE = SessionAction.CREATE, SessionAction.UPDATE, SessionAction.RELEASE
OFFLINE = 2
NEVER = 1 << 42
FEE = ComponentTerms(
    id="fee", meter=Meter.RECORDS, scope=Scope.SESSION, increment=1, covered=True,
    tiers=(TierTerms(1, 0, 1, 5 * CENT, Action.CHARGE), TierTerms(0, 0, 1, 0, Action.CHARGE)),
)  # fmt: skip


def with_volume_price(core: World, *fees: ComponentTerms) -> None:
    """The fee, and a cent for a MB."""
    (rate,) = core.terms.catalog.tariffs["tar_x"][0].rates
    rated(core, replace(rate, components=(*(fees or (FEE,)), counts(a_mb(CENT), scope=Scope.SESSION, id="volume"))))


async def left(core: World) -> int:
    return (await core.remaining())[0][1]


async def test_a_bundle_covers_the_volume_and_the_fee_is_due_once_a_session(stores):
    async with priced(stores, FEE, 2 * EUR, expires_ms=NEVER) as core:
        with_volume_price(core)
        found = [await core.use(100 * MB, f"e{n}", session_ref=ref) for n, ref in enumerate(["s1", "s1", "s2"])]
        assert [each.amounts[0] for each in found] == [5 * CENT, 0, 5 * CENT]
        assert await left(core) == GB - 300 * MB
        nothing = await core.use(0, "nothing", session_ref="s3", mode=OFFLINE)
        assert nothing.amounts[0] == 5 * CENT
        beyond = await core.use(800 * MB, "beyond", session_ref="s1")
        assert (beyond.outcome, beyond.amounts[0], await left(core)) == (Outcome.CHARGED, 100 * CENT, 0)


async def test_a_fee_that_only_what_is_priced_pays_is_not_due(stores):
    async with priced(stores, replace(FEE, covered=False), EUR, expires_ms=NEVER) as core:
        assert (await core.use(MB, "e", session_ref="s1")).amounts[0] == 0
        assert await money_of(core) == EUR


async def sentences(core: World, answer: Answer, step: int = 0) -> list[str]:
    """Why a charge is what it is."""
    await core.fold()
    position = read_usage_record_id(answer.usage_record_id)
    books = Books(core.books, core.journal, core.terms)
    return list((await books.explain(OPERATOR_CALLER, position, step, "c")).sentences)


async def test_without_money_for_the_fee_nothing_is_let_through_and_what_was_used_stays_covered(stores):
    async with priced(stores, FEE, CENT, expires_ms=NEVER) as core:
        refused = await core.use(MB, "asks", session_ref="s1")
        assert (refused.outcome, refused.reason, refused.refused_step) == (Outcome.REFUSED, Reason.BALANCE_DEPLETED, 0)
        opened = await core.sessions.call(OPERATOR_CALLER, session_call("s", CREATE, 0, 0, MB))
        assert (opened.grants[0].granted, opened.grants[0].reason) == (0, Reason.BALANCE_DEPLETED)
        reported = await core.use(MB, "was", session_ref="s1", mode=OFFLINE)
        assert (reported.uncovered, reported.amounts[0], await left(core)) == (0, 0, GB - MB)
        assert (await sentences(core, reported))[-1] == (
            "Fees of tariff tar_x version 1, rate r1 that benefits do not cover were not charged: nothing could pay them."
        )
        assert (await core.use(MB, "again", session_ref="s2")).reason is Reason.ENDPOINT_BLOCKED
        assert await money_of(core) == CENT


async def test_a_session_reserves_the_fee_beside_the_volume_and_pays_it_with_the_first_report(stores):
    async with priced(stores, FEE, EUR, expires_ms=NEVER) as core:
        await core.sessions.call(OPERATOR_CALLER, session_call("s", CREATE, 0, 0, MB))
        holder = (await core.cell.engine.holders([ENDPOINT]))[ENDPOINT]
        assert (holder.money_reserved, holder.buckets[0].reserved) == (5 * CENT, MB)
        first = await core.sessions.call(OPERATOR_CALLER, session_call("s", UPDATE, 1, MB, MB))
        last = await core.sessions.call(OPERATOR_CALLER, session_call("s", RELEASE, 2, MB, 0))
        assert [each.grants[0].amounts[0] for each in (first, last)] == [5 * CENT, 0]
        holder = (await core.cell.engine.holders([ENDPOINT]))[ENDPOINT]
        assert (holder.money, holder.money_reserved, await left(core)) == (95 * CENT, 0, GB - 2 * MB)


async def test_where_only_the_bundle_and_the_fee_can_be_paid_a_grant_is_the_bundle(stores):
    async with priced(stores, FEE, 5 * CENT, expires_ms=NEVER) as core:
        with_volume_price(core)
        opened = await core.sessions.call(OPERATOR_CALLER, session_call("s", CREATE, 0, 0, 2 * GB))
        assert (opened.grants[0].granted, opened.grants[0].final) == (GB, True)
        closed = await core.sessions.call(OPERATOR_CALLER, session_call("s", RELEASE, 1, 2 * GB, 0))
        assert (closed.grants[0].uncovered, closed.grants[0].amounts[0]) == (GB, 5 * CENT)
        assert (await money_of(core), await left(core)) == (0, 0)


async def test_caps_bound_fees_too_and_a_refund_gives_both_back(stores):
    cap = CapTerms("s1", Scope.CYCLE, for_account=False, services=frozenset(), amount=7 * CENT, action=Action.FREE)
    async with priced(stores, FEE, EUR, cap, expires_ms=NEVER) as core:
        found = [await core.use(MB, f"e{n}", session_ref=f"s{n}") for n in range(3)]
        assert [each.amounts[0] for each in found] == [5 * CENT, 2 * CENT, 0]
        await refund(core, found[0].usage_record_id)
        assert (await money_of(core), await left(core)) == (98 * CENT, GB - 2 * MB)


async def test_the_explanation_says_where_counts_stood_and_a_refused_use_has_none(stores):
    cap = CapTerms("s1", Scope.CYCLE, for_account=False, services=frozenset(), amount=7 * CENT, action=Action.FREE)
    async with priced(stores, FEE, EUR, cap, expires_ms=NEVER) as core:
        used = [await core.use(MB, f"e{n}", session_ref=f"s{n}", mode=OFFLINE) for n in range(3)]
        core.terms.change(replace(core.terms.endpoints[ENDPOINT], active=False))
        refused = await core.use(MB, "asks")
        assert refused.outcome is Outcome.REFUSED
        told = await sentences(core, used[1])
        assert any(each.endswith("Without it they had cost 0.05 before this use, 0.10 with it.") for each in told)
        assert any(each.endswith("The count went from 0 to 1 (0.05 EUR).") for each in told)
        free = await sentences(core, used[2])
        assert any(each.endswith("0.00 EUR in all.") for each in free)
        assert any(each.endswith("Without it they had cost 0.10 before this use, 0.15 with it.") for each in free)
        with pytest.raises(NotFoundError):
            await sentences(core, refused)


async def test_the_explanation_tells_of_the_fee_alone(stores):
    async with priced(stores, FEE, EUR, expires_ms=NEVER) as core:
        with_volume_price(core)
        used = await core.use(MB, "e", session_ref="s1")
        await core.fold()
        position = read_usage_record_id(used.usage_record_id)
        (record,) = await core.books.records("", Selection(position=position), PageRequest(1))
        assert record.steps[0][:4] == [MB, 0, 0, 5 * CENT]
        told = await sentences(core, used)
        assert (
            "Fees that benefits do not cover were priced by tariff tar_x version 1, rate r1, as the sum of 1 part: "
            "0.05 EUR in all."
        ) in told
        assert [sentence.partition(" over")[0] for sentence in told if sentence.startswith("Part")] == [
            "Part r1.fee counts uses (those that benefits cover, too)"
        ]
