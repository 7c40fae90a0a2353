"""Prices over windows of time that the first use begins: passes of 24 hours, and caps of 7 days."""

import random
from dataclasses import replace

import pytest

from services.common.clock import DAY_MS, HOUR_MS, MINUTE_MS
from services.rating.domain.pricing import Action, Meter
from services.rating.domain.reasons import Outcome, Reason
from services.rating.domain.terms import CapTerms, Scope, TierTerms
from services.rating.usecases.sessions import VALIDITY_MS
from tests.integration.rating.test_grants import DAY_PASS, EUR, a_mb, call, counts, granted, priced
from tests.integration.rating.world import NOW_MS, World
from tests.unit.rating.terms import MB

DAY_S = 86_400
PASS = counts(*DAY_PASS, scope=Scope.WINDOW, window_s=DAY_S)


async def later(core: World, by_ms: int) -> None:
    core.clock.advance(by_ms)
    await core.fold()  # so that the books know all that may be told late


async def paid(core: World, name: str, at_ms: int) -> int:
    answer = await core.use(MB, name, usage_time_ms=at_ms)
    assert answer.outcome is Outcome.CHARGED, answer
    return answer.amounts[0]


async def test_a_pass_lasts_from_its_first_use_not_from_midnight(stores):
    async with priced(stores, PASS, 100 * EUR) as core:
        await later(core, 2 * DAY_MS)
        times = [0, 1, DAY_MS - 1000, DAY_MS, DAY_MS + HOUR_MS, 2 * DAY_MS - 1000]
        assert [await paid(core, f"e{n}", NOW_MS + ms) // EUR for n, ms in enumerate(times)] == [5, 0, 0, 5, 0, 0]


async def test_use_that_comes_late_counts_in_the_window_that_reached_it_or_begins_one(stores):
    async with priced(stores, PASS, 100 * EUR) as core:
        await later(core, 4 * DAY_MS)
        assert await paid(core, "first", NOW_MS + 2 * DAY_MS) == 5 * EUR
        assert await paid(core, "before", NOW_MS + 2 * DAY_MS - MINUTE_MS) == 0  # told out of order
        assert await paid(core, "a-day-before", NOW_MS + DAY_MS) == 5 * EUR
        assert await paid(core, "between", NOW_MS + 2 * DAY_MS - HOUR_MS) == 0
        assert await paid(core, "in-the-first", NOW_MS + 3 * DAY_MS - HOUR_MS) == 0
        assert await paid(core, "after-it", NOW_MS + 3 * DAY_MS) == 5 * EUR
        assert await paid(core, "long-before", NOW_MS) == 5 * EUR


@pytest.mark.parametrize("part", [PASS, counts(*DAY_PASS, scope=Scope.DAY)], ids=["window", "day"])
async def test_a_pass_of_each_day_of_a_month_is_remembered_for_what_comes_late(part, stores):
    """Records of roaming come up to 30 days late."""
    async with priced(stores, part, 1000 * EUR) as core:
        days = [NOW_MS + day * DAY_MS for day in range(31)]
        await later(core, 31 * DAY_MS)
        assert [await paid(core, f"e{at}", at) for at in days] == [5 * EUR] * 31
        assert [await paid(core, f"late{at}", at + 1) for at in reversed(days)] == [0] * 31


async def test_the_window_of_a_session_begins_with_its_grant(stores):
    async with priced(stores, PASS, 10 * EUR) as core:
        assert granted(await call(core, "a", 0, 0, 10 * MB)) == [10 * MB]
        core.clock.advance(20 * MINUTE_MS)
        told = await call(core, "a", 1, MB, 10 * MB)
        assert told.grants[0].amounts[0] == 5 * EUR
        ends_ms = NOW_MS // 1000 * 1000 + DAY_MS
        core.clock.at_ms = ends_ms - HOUR_MS // 4
        again = await call(core, "a", 2, MB, 10 * MB)
        assert (again.grants[0].amounts[0], again.valid_until_ms) == (0, ends_ms)  # the next one is another pass
        core.clock.at_ms = ends_ms
        assert (await call(core, "a", 3, MB, 10 * MB)).grants[0].amounts[0] == 5 * EUR


async def test_what_others_were_granted_is_of_the_same_window_as_one_time_use(stores):
    """Whichever comes first, the bound holds over all, and the price of what was granted is paid once."""
    part = counts(a_mb(EUR, 10 * MB), a_mb(EUR, action=Action.BLOCK), scope=Scope.WINDOW, window_s=DAY_S)
    async with priced(stores, part, 100 * EUR) as core:
        assert granted(await call(core, "a", 0, 0, 6 * MB)) == [6 * MB]
        core.clock.advance(MINUTE_MS)
        assert (await core.use(3 * MB, "e1", usage_time_ms=core.clock.at_ms)).outcome is Outcome.CHARGED
        core.clock.advance(MINUTE_MS)
        refused = await core.use(2 * MB, "e2", usage_time_ms=core.clock.at_ms)
        assert (refused.outcome, refused.reason) == (Outcome.REFUSED, Reason.USAGE_LIMIT)
        assert granted(await call(core, "b", 0, 0, 6 * MB)) == [MB]
        assert (await call(core, "a", 1, 6 * MB, 0)).grants[0].uncovered == 0
        assert (await call(core, "b", 1, MB, 0)).grants[0].uncovered == 0


async def test_a_grant_that_is_not_used_begins_no_window(stores):
    async with priced(stores, PASS, 10 * EUR) as core:
        opened = await call(core, "a", 0, 0, 10 * MB)
        assert opened.valid_until_ms == NOW_MS + VALIDITY_MS
        await call(core, "a", 1, 0, 0)
        core.clock.advance(HOUR_MS)
        assert await paid(core, "e1", core.clock.at_ms) == 5 * EUR
        core.clock.advance(DAY_MS - HOUR_MS // 2)
        assert await paid(core, "e2", core.clock.at_ms) == 0


async def test_a_window_begins_with_the_grant_that_was_used_not_with_one_that_was_not(stores):
    async with priced(stores, PASS, 30 * EUR) as core:
        assert granted(await call(core, "a", 0, 0, 10 * MB)) == [10 * MB]
        core.clock.advance(10 * MINUTE_MS)
        assert granted(await call(core, "b", 0, 0, 10 * MB)) == [10 * MB]
        await call(core, "a", 1, 0, 0)
        core.clock.advance(5 * MINUTE_MS)
        assert (await call(core, "b", 1, MB, 0)).grants[0].amounts[0] == 5 * EUR
        core.clock.advance(DAY_MS)
        assert await paid(core, "within-a-day", NOW_MS + 10 * MINUTE_MS + DAY_MS - 1000) == 0
        assert await paid(core, "after-it", NOW_MS + 10 * MINUTE_MS + DAY_MS) == 5 * EUR


async def test_a_cap_of_seven_days_frees_what_is_over_it(stores):
    cap = CapTerms("s1", Scope.WINDOW, False, frozenset(), 3 * EUR, Action.FREE, 7 * DAY_S)  # noqa: FBT003
    async with priced(stores, counts(a_mb(EUR), scope=Scope.RECORD), 100 * EUR, cap) as core:
        await later(core, 9 * DAY_MS)
        days = [0, 1, 2, 6, 7, 8]
        assert [await paid(core, f"e{day}", NOW_MS + day * DAY_MS) // EUR for day in days] == [1, 1, 1, 0, 1, 1]


@pytest.mark.parametrize(("scope", "expected"), [(Scope.WEEK, [5, 0, 0, 5, 0, 0]), (Scope.MONTH, [5, 5, 0, 0, 0, 0])])
async def test_weeks_begin_on_mondays_and_months_on_their_first_day(stores, scope, expected):
    """From Thursday, 2025-10-30, 23:59:59 UTC to Wednesday, 5 November."""
    thursday_ms = 1_761_868_799_000
    part = counts(TierTerms(0, 0, 1, 5 * EUR, Action.CHARGE), scope=scope, meter=Meter.RECORDS)
    if scope is Scope.MONTH:
        thursday_ms += DAY_MS  # the last second of October
    async with priced(stores, part, 100 * EUR) as core:
        await later(core, thursday_ms + 9 * DAY_MS - NOW_MS)
        times = [0, 1000, 2 * DAY_MS, 3 * DAY_MS + 1000, 4 * DAY_MS, 5 * DAY_MS]
        assert [await paid(core, f"e{n}", thursday_ms + ms) // EUR for n, ms in enumerate(times)] == expected


# --- windows that hold only so much ---------------------------------------------------------------------------------

TEN_MB = replace(PASS, window_most=10 * MB)


async def test_a_pass_that_is_used_up_is_followed_by_the_next_one(stores):
    async with priced(stores, TEN_MB, 100 * EUR) as core:
        await later(core, 3 * DAY_MS)
        paid_for = [
            (0, 10, 5),  # all that the first holds
            (HOUR_MS, 1, 5),  # the second begins
            (DAY_MS, 9, 0),  # and lasts a day from there
            (DAY_MS + HOUR_MS // 2, 25, 15),  # the third, the fourth and half of the fifth
            (2 * DAY_MS, 5, 0),
            (2 * DAY_MS + HOUR_MS // 2, 1, 5),
        ]
        for number, (after_ms, mb, euros) in enumerate(paid_for):
            answer = await core.use(mb * MB, f"e{number}", usage_time_ms=NOW_MS + after_ms)
            assert answer.amounts[0] == euros * EUR, (number, answer)
        late = await core.use(4 * MB, "late", usage_time_ms=NOW_MS + DAY_MS + HOUR_MS // 4)
        assert late.amounts[0] == 5 * EUR  # its pass is used up, and the next ones too


@pytest.mark.parametrize("seed", range(12))
async def test_windows_that_hold_so_much_are_priced_one_by_one(seed, stores):
    chosen = random.Random(seed)
    most, free, flat, price = (
        10 * MB,
        chosen.choice([0, 2 * MB]),
        chosen.choice([0, 3 * EUR]),
        chosen.choice([EUR, 2 * EUR]),
    )
    tiers = (TierTerms(4 * MB, price, MB, flat, Action.CHARGE), TierTerms(0, EUR // 2, MB, 0, Action.CHARGE))
    part = counts(*tiers, scope=Scope.WINDOW, window_s=DAY_S, window_most=most, free=free, increment=MB)

    def cost_of(volume: int) -> int:
        blocks = max(0, -(-(volume - free) // MB))
        return (flat if blocks else 0) + min(blocks, 4) * price + max(0, blocks - 4) * EUR // 2

    async with priced(stores, part, 10_000 * EUR) as core:
        at_ms, began_ms, held = NOW_MS, 0, 0
        for number in range(40):
            at_ms += chosen.choice([0, HOUR_MS, 7 * HOUR_MS, 20 * HOUR_MS])
            core.clock.at_ms = at_ms
            volume = left = chosen.choice([1, MB, 3 * MB, 10 * MB, 24 * MB])
            expected = 0
            if not began_ms or at_ms >= began_ms + DAY_MS:
                began_ms, held = at_ms, 0
            while left:
                if held == most:
                    began_ms, held = at_ms, 0
                take = min(left, most - held)
                expected += cost_of(held + take) - (cost_of(held) if held else 0)
                held, left = held + take, left - take
            answer = await core.use(volume, f"e{number}", usage_time_ms=at_ms)
            assert answer.amounts[0] == expected, number


async def test_money_for_two_passes_grants_what_two_hold(stores):
    async with priced(stores, TEN_MB, 12 * EUR) as core:
        assert granted(await call(core, "a", 0, 0, 6 * MB)) == [6 * MB]
        assert granted(await call(core, "b", 0, 0, 25 * MB)) == [10 * MB]  # whichever is used first
        assert granted(await call(core, "c", 0, 0, MB)) == [0]
        assert (await call(core, "b", 1, 10 * MB, 0)).grants[0].amounts[0] == 5 * EUR
        assert (await call(core, "a", 1, 6 * MB, 0)).grants[0].amounts[0] == 5 * EUR


@pytest.mark.parametrize("seed", range(24))
async def test_what_is_granted_can_be_paid_in_whichever_order_it_is_used(seed, stores):
    chosen = random.Random(seed)
    tiers = (
        TierTerms(4 * MB, chosen.choice([0, EUR]), MB, chosen.choice([0, 3 * EUR]), Action.CHARGE),
        TierTerms(0, chosen.choice([0, 3 * EUR]), MB, chosen.choice([0, EUR]), Action.CHARGE),
    )
    free, most = chosen.choice([0, MB, 3 * MB]), chosen.choice([5, 8, 10]) * MB
    part = counts(*tiers, scope=Scope.WINDOW, window_s=DAY_S, window_most=most, free=free)
    async with priced(stores, part, chosen.randint(1, 60) * EUR) as core:
        names, have = ["a", "b", "c", "d"], dict[str, int]()
        await core.use(chosen.randint(1, 9 * MB), "e0", usage_time_ms=NOW_MS)
        for name in names:
            (have[name],) = granted(await call(core, name, 0, 0, chosen.randint(1, chosen.choice([2, 9, 30]) * MB)))
        chosen.shuffle(names)
        for name in names:
            used = have[name] if chosen.random() < 0.7 else chosen.randint(0, have[name])
            (grant,) = (await call(core, name, 1, used, 0)).grants
            assert grant.uncovered == 0, (name, have, used)
