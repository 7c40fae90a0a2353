"""A limit that cells share: never overspent, all of it usable, whatever crashes, and seldom asked for centrally."""

import asyncio
import itertools
import random
import time
from dataclasses import replace

import pytest
import sqlalchemy as sa

from services.common.errors import FailedPreconditionError
from services.common.money import Money
from services.rating.domain.decisions import LeaseOp, SessionAction
from services.rating.domain.escrow import Kind, Limit, Slice, Wish
from services.rating.domain.events import Answer
from services.rating.domain.reasons import Outcome, Reason
from services.rating.storage.escrow import WRITES, Escrows
from services.rating.storage.tables import escrows, usage
from services.rating.usecases.escrow import LEASES
from services.rating.usecases.sessions import SessionCall, Units, session_id
from tests.integration.rating.many import EU, MB, PRICE, RESELLER, Many, ManyTerms, count, many
from tests.integration.rating.world import OPERATOR_CALLER, event

Asked = tuple[int, int, Answer]
"""When an event was asked for and answered, in ticks, and the answer."""


@pytest.fixture
def ledger_url(tmp_path):
    return f"sqlite+aiosqlite:///{tmp_path / 'ledger.sqlite'}"


async def burst(
    core: Many, events: int, weights: list[float] | None = None, batch: int = 20, seed: int = 1
) -> list[Asked]:
    """Charge one megabyte each in batches from sixteen clients; return (asked at, answered at, answer)."""
    rng = random.Random(seed)
    by_cell: list[list[str]] = [[] for _ in core.cells]
    for endpoint in core.terms.endpoints.values():
        by_cell[core.cells.of(endpoint.enterprise_id).engine.cell].append(endpoint.id)
    names = iter([f"b{seed}-{n}" for n in range(events)])
    answered: list[Asked] = []
    ticks = iter(range(10**9))

    async def client() -> None:
        while batch_ids := [name for _, name in zip(range(batch), names, strict=False)]:
            cells = rng.choices(range(core.cells.count), weights or [1.0] * core.cells.count, k=len(batch_ids))
            batch_events = [
                event(MB, name, endpoint_id=rng.choice(by_cell[cell]))
                for name, cell in zip(batch_ids, cells, strict=True)
            ]
            asked = next(ticks)
            answers = await core.charge(*batch_events)
            at = next(ticks)
            answered.extend((asked, at, answer) for answer in answers)

    await asyncio.gather(*(client() for _ in range(16)))
    return answered


def needless(answered: list[Asked]) -> int:
    """Refusals given before somebody asked for the same and got it: there was credit then, in some cell."""
    last_asked = max(asked for asked, _, answer in answered if answer.outcome is Outcome.CHARGED)
    return sum(answer.outcome is Outcome.REFUSED and at < last_asked for _, at, answer in answered)


async def test_a_limit_shared_by_eight_cells_is_used_to_the_last_event_and_never_beyond(
    valkey_url, database_url, ledger_url
):
    limit = 700 * PRICE + PRICE - 1
    async with many(ManyTerms(64, limit), valkey_url, database_url, ledger_url) as core:
        answered = await burst(core, 1_000)
        assert len(answered) == 1_000
        assert count((a for _, _, a in answered), Outcome.CHARGED) == 700
        refused = {(a.reason, a.refused_step) for _, _, a in answered if a.outcome is Outcome.REFUSED}
        assert refused == {(Reason.CREDIT_LIMIT, 2)}
        assert await core.charged() == 700 * PRICE
        standing = await core.standing(Kind.CREDIT)
        assert (standing.total, sum(standing.spent.values())) == (limit, 700 * PRICE)


async def use_up(core: Many, limit: int) -> list[Asked]:
    """Charge on, in bursts from all cells, until a limit is used up; for 20 seconds at most."""
    answered, seeds, last_try = list[Asked](), itertools.count(3), time.monotonic() + 20
    while await core.charged() < limit and time.monotonic() < last_try:
        answered += await burst(core, 500, seed=next(seeds))
    return answered


@pytest.mark.parametrize("demand", ["uniform", "zipf"])
async def test_central_writes_are_few_and_nobody_is_refused_while_credit_lies_in_another_cell(
    demand, valkey_url, sqlite_url, ledger_url, tell
):
    events, limit = 10_000, 8_000 * PRICE
    weights = [1 / (rank + 1) ** 1.1 for rank in range(8)] if demand == "zipf" else None
    async with many(ManyTerms(64, limit), valkey_url, sqlite_url, ledger_url) as core:
        before = WRITES._value.get()
        answered = await burst(core, events, weights)
        charged = count((a for _, _, a in answered), Outcome.CHARGED)
        writes = (WRITES._value.get() - before) * 1000 / charged
        spent = (await core.standing(Kind.CREDIT)).spent.values()
        tell(
            f"{demand}: {charged} of {limit // PRICE} charged, busiest cell {max(spent) / sum(spent):.0%}, "
            f"{writes:.1f} central writes per 1,000 charges, {needless(answered)} needless refusals"
        )
        assert limit // PRICE - core.cells.count <= charged <= limit // PRICE  # to within the last leases
        assert needless(answered) <= charged // 1000
        await use_up(core, limit)
        assert await core.charged() == limit
        assert writes < 40


async def test_far_from_the_limit_slices_are_renewed_before_anybody_waits(valkey_url, sqlite_url, ledger_url):
    async with many(ManyTerms(64, 10**12), valkey_url, sqlite_url, ledger_url) as core:
        await burst(core, 4_000, seed=1)
        waited = LEASES.labels("need")._value.get()
        await burst(core, 8_000, seed=2)
        assert (LEASES.labels("need")._value.get() - waited) <= 5 * core.cells.count  # a busy machine renews late


async def test_money_topped_up_in_one_cell_is_spent_from_all(valkey_url, database_url, ledger_url):
    async with many(ManyTerms(64, None), valkey_url, database_url, ledger_url) as core:
        refused = await core.use(core.endpoint_in(0), MB, "poor")
        assert (refused.reason, refused.refused_step) == (Reason.BALANCE_DEPLETED, 2)
        await core.balances.top_up(OPERATOR_CALLER, "", RESELLER, Money("EUR", 500 * PRICE), "t1")
        balance = await core.balances.top_up(OPERATOR_CALLER, "", RESELLER, Money("EUR", 500 * PRICE), "t1")
        assert balance.remaining == 500 * PRICE
        answered = await burst(core, 300)
        assert count((a for _, _, a in answered), Outcome.CHARGED) == 300
        balance = (await core.balances.of_owner(OPERATOR_CALLER, "", RESELLER))[-1]
        assert balance.remaining == 200 * PRICE
        await core.balances.top_up(OPERATOR_CALLER, "", RESELLER, Money("EUR", 100 * PRICE), "t2")
        answered = await burst(core, 400, seed=2)
        assert count((a for _, _, a in answered), Outcome.CHARGED) == 300
        await core.fold()
        ledger = (await core.ledger.all_balances())["bal_r.money"]
        standing = await core.standing(Kind.MONEY)
        assert (await core.charged(), standing.total, ledger) == (600 * PRICE, 0, (RESELLER, -standing.free))


async def test_the_sum_holds_after_every_event(valkey_url, sqlite_url, ledger_url):
    rng = random.Random(7)
    limit = 200 * PRICE
    async with many(ManyTerms(64, limit), valkey_url, sqlite_url, ledger_url, renewing=False) as core:
        opened: list[tuple[str, str, str, int]] = []
        for number in range(250):
            endpoint, size = core.endpoint_in(rng.randrange(8)), rng.randrange(1, 4 * MB)
            kind = rng.choice(["charge", "charge", "report", "open", "close", "limit"])
            if kind in {"charge", "report"}:
                await core.use(endpoint, size, f"e{number}", mode=1 if kind == "charge" else 2)
            elif kind == "open":
                session = await core.sessions.call(OPERATOR_CALLER, call(endpoint, f"s{number}", 0, 0, size))
                opened.append((session.id, endpoint, f"s{number}", session.grants[0].granted))
            elif kind == "close" and opened:
                name, endpoint, ref, granted = opened.pop()
                used = rng.randrange(granted + 1)
                await core.sessions.call(OPERATOR_CALLER, call(endpoint, ref, 1, used, 0, name))
            elif kind == "limit" and number % 5 == 0:
                limit = rng.randrange(50, 300) * PRICE
                core.terms.limit(limit)
                await core.use(endpoint, 1, f"l{number}")
            standing = await core.standing(Kind.CREDIT)
            assert standing.total + await held(core) == limit, kind
            assert min(standing.unspent.values()) >= 0
            assert standing.under_way == 0


async def held(core: Many) -> int:
    """What sessions hold."""
    holders = [(await cell.engine.holders([RESELLER])).get(RESELLER) for cell in core.cells]
    return sum(holder.credit_reserved for holder in holders if holder)


def call(endpoint: str, ref: str, sequence: int, used: int, requested: int, name: str = "") -> SessionCall:
    action = SessionAction.RELEASE if sequence else SessionAction.CREATE
    digest = f"{sequence}{used}{requested}".encode()[:8].ljust(8)
    units = [Units(1, used, requested)]
    return SessionCall(name or session_id(endpoint, ref), ref, action, sequence, endpoint, EU, 3, units, 0, digest)


async def test_a_session_is_granted_what_all_cells_together_have_left(valkey_url, sqlite_url, ledger_url):
    async with many(ManyTerms(64, 100 * PRICE), valkey_url, sqlite_url, ledger_url, renewing=False) as core:
        for cell in range(8):
            await core.use(core.endpoint_in(cell), MB, f"e{cell}")  # now each cell holds a slice
        endpoint = core.endpoint_in(5)
        session = await core.sessions.call(OPERATOR_CALLER, call(endpoint, "s", 0, 0, 200 * MB))
        assert (session.grants[0].granted, session.grants[0].reason) == (92 * MB, Reason.CREDIT_LIMIT)
        assert (await core.use(core.endpoint_in(1), 1, "while-held")).reason is Reason.CREDIT_LIMIT
        assert (await core.sessions.get(OPERATOR_CALLER, session.id)).sequence == 0
        await core.sessions.call(OPERATOR_CALLER, call(endpoint, "s", 1, 30 * MB, 0, session.id))
        answered = await burst(core, 100)
        assert count((a for _, _, a in answered), Outcome.CHARGED) == 62
        late = await core.use(core.endpoint_in(2), MB, "late", mode=2)
        assert (late.outcome, late.uncovered) == (Outcome.CHARGED, MB)


async def test_an_update_needs_no_lease_for_what_its_own_reservation_covers(valkey_url, sqlite_url, ledger_url):
    async with many(ManyTerms(64, 10_000 * PRICE), valkey_url, sqlite_url, ledger_url, renewing=False) as core:
        endpoint = core.endpoint_in(4)
        session = await core.sessions.call(OPERATOR_CALLER, call(endpoint, "s", 0, 0, 100 * MB))
        leased = (await core.cells[4].engine.slices([(RESELLER, 2)]))[0].leased
        update = replace(call(endpoint, "s", 1, 50 * MB, 50 * MB, session.id), action=SessionAction.UPDATE)
        assert (await core.sessions.call(OPERATOR_CALLER, update)).grants[0].granted == 50 * MB
        assert (await core.cells[4].engine.slices([(RESELLER, 2)]))[0].leased == leased


async def test_a_report_is_covered_by_what_lies_in_other_cells(valkey_url, sqlite_url, ledger_url):
    async with many(ManyTerms(64, 100 * PRICE), valkey_url, sqlite_url, ledger_url, renewing=False) as core:
        for cell in range(8):
            await core.use(core.endpoint_in(cell), MB, f"e{cell}")
        late = await core.use(core.endpoint_in(2), 100 * MB, "late", mode=2)
        assert (late.outcome, late.uncovered) == (Outcome.CHARGED, 8 * MB)


async def lend(core: Many, cell: int, micros: int, limit: int, *, tell: bool = True) -> None:
    """Lease to a cell."""
    wish = Wish(cell, micros, micros, 0, 8)
    central = await Escrows(core.ledger.database).move(RESELLER, Kind.CREDIT, Limit(limit, 1), {}, wish)
    assert central is not None
    assert central.granted == micros
    if tell:
        await core.cells[cell].submit([LeaseOp(RESELLER, 2, central.leases[cell].leased, 0)], {})


async def test_a_lowered_limit_takes_back_what_is_free_and_then_what_lies_in_cells(
    valkey_url, database_url, ledger_url
):
    async with many(ManyTerms(64, 1_000 * PRICE), valkey_url, database_url, ledger_url) as core:
        charged = count((a for _, _, a in await burst(core, 300)), Outcome.CHARGED)
        assert charged == 300
        for cell in range(8):  # each lies there unused
            await lend(core, cell, 50 * PRICE, 1_000 * PRICE)
        assert sum((await core.standing(Kind.CREDIT)).unspent.values()) >= 400 * PRICE
        core.terms.limit(400 * PRICE)
        charged = count((a for _, _, a in await burst(core, 400, seed=2)), Outcome.CHARGED)
        assert charged == 100
        core.terms.limit(200 * PRICE)  # less than is spent
        assert count((a for _, _, a in await burst(core, 40, seed=3)), Outcome.CHARGED) == 0
        assert (await core.standing(Kind.CREDIT)).free == -200 * PRICE
        core.terms.limit(450 * PRICE)
        assert count((a for _, _, a in await burst(core, 100, seed=4)), Outcome.CHARGED) == 50
        assert await core.charged() == 450 * PRICE


async def test_a_limit_lowered_under_load_is_never_overspent_by_more_than_what_was_spent_before(
    valkey_url, sqlite_url, ledger_url
):
    async with many(ManyTerms(64, 6_000 * PRICE), valkey_url, sqlite_url, ledger_url) as core:
        load = asyncio.create_task(burst(core, 7_000))
        while await core.charged() < 500 * PRICE:
            await asyncio.sleep(0.01)
        core.terms.limit(4_000 * PRICE)
        spent = await core.charged()
        under_way = 16 * 20 * PRICE
        await load
        charged = await core.charged()
        assert charged == 4_000 * PRICE or 4_000 * PRICE < charged <= spent + under_way
        assert (await core.standing(Kind.CREDIT)).total == 4_000 * PRICE


@pytest.mark.parametrize("dies", ["before the cell knows", "after the cell knows", "after a cell gave back"])
async def test_a_crash_between_the_row_and_the_cell_loses_and_doubles_nothing(
    dies, valkey_url, database_url, ledger_url
):
    terms = ManyTerms(64, 500 * PRICE)
    async with many(terms, valkey_url, database_url, ledger_url, renewing=False) as core:
        assert count((a for _, _, a in await burst(core, 100)), Outcome.CHARGED) == 100
        await lend(core, 3, 50 * PRICE, 500 * PRICE, tell=dies != "before the cell knows")
        if dies == "after a cell gave back":
            await core.cells[3].submit([LeaseOp(RESELLER, 2, 0, 20 * PRICE)], {})
        standing = await core.standing(Kind.CREDIT)
        assert standing.total == 500 * PRICE
        assert (standing.under_way != 0) == (dies != "after the cell knows")
    async with many(terms, valkey_url, database_url, ledger_url) as core:
        assert count((a for _, _, a in await burst(core, 600, seed=2)), Outcome.CHARGED) == 400
        standing = await core.standing(Kind.CREDIT)
        assert (standing.total, standing.under_way) == (500 * PRICE, 0)


async def test_a_lease_and_a_return_may_be_told_twice(valkey_url, sqlite_url, ledger_url):
    async with many(ManyTerms(64, 500 * PRICE), valkey_url, sqlite_url, ledger_url, renewing=False) as core:
        cell, store = core.cells[0], Escrows(core.ledger.database)
        told = [await cell.submit([LeaseOp(RESELLER, 2, 70, 0)], {}) for _ in range(2)]
        assert [answered.outcomes[0][1:] for answered in told] == [[70, 0, 70]] * 2
        assert (await cell.submit([LeaseOp(RESELLER, 2, 60, 0)], {})).outcomes[0][1:] == [70, 0, 70]  # an older one
        back = (await cell.submit([LeaseOp(RESELLER, 2, 70, 100)], {})).outcomes[0][1:]
        assert back == [70, 70, 0]
        for _ in range(2):
            central = await store.move(RESELLER, Kind.CREDIT, Limit(100, 1), {0: Slice(*back)}, create=True)
            assert central is not None
            assert central.free == 100


async def test_a_cell_that_lost_its_state_gets_its_slice_back_from_the_journal(valkey_url, sqlite_url, ledger_url):
    async with many(ManyTerms(64, 2_000 * PRICE), valkey_url, sqlite_url, ledger_url) as core:
        await burst(core, 300)
        load = asyncio.create_task(burst(core, 2_000, seed=2))
        for number in (3, 5):
            await asyncio.sleep(0.1)
            keys = [key async for key in core.client.scan_iter(f"[{{]c{number}[}}]*")]
            await core.client.delete(*keys)
        charged = count((a for _, _, a in await load), Outcome.CHARGED)
        assert charged == 1_700
        assert (await core.standing(Kind.CREDIT)).total == 2_000 * PRICE


async def test_central_rows_that_were_lost_are_made_anew_from_the_cells(valkey_url, sqlite_url, ledger_url, tmp_path):
    terms = ManyTerms(64, 500 * PRICE)
    async with many(terms, valkey_url, sqlite_url, ledger_url) as core:
        await burst(core, 200)
    async with many(terms, valkey_url, sqlite_url, f"sqlite+aiosqlite:///{tmp_path / 'empty.sqlite'}") as core:
        assert count((a for _, _, a in await burst(core, 600, seed=2)), Outcome.CHARGED) == 300
        assert (await core.standing(Kind.CREDIT)).total == 500 * PRICE


async def test_central_rows_of_an_old_backup_are_brought_up_to_what_the_cells_know(
    valkey_url, sqlite_url, ledger_url, tmp_path
):
    terms = ManyTerms(64, 500 * PRICE)
    backup = tmp_path / "backup.sqlite"
    async with many(terms, valkey_url, sqlite_url, ledger_url, renewing=False) as core:
        await burst(core, 20)
        async with core.ledger.database.engine.connect() as connection:
            await connection.exec_driver_sql(f"VACUUM INTO '{backup}'")
        await burst(core, 250, seed=2)
    async with many(terms, valkey_url, sqlite_url, f"sqlite+aiosqlite:///{backup}") as core:
        assert count((a for _, _, a in await burst(core, 600, seed=3)), Outcome.CHARGED) == 230
        assert (await core.standing(Kind.CREDIT)).total == 500 * PRICE


async def test_two_processes_share_what_cells_share(valkey_url, database_url, ledger_url):
    terms = ManyTerms(64, 1_000 * PRICE)
    async with (
        many(terms, valkey_url, database_url, ledger_url) as one,
        many(terms, valkey_url, database_url, ledger_url) as two,
    ):
        answered = await asyncio.gather(burst(one, 800, seed=1), burst(two, 800, seed=2))
        charged = count((a for each in answered for _, _, a in each), Outcome.CHARGED)
        assert charged == 1_000
        assert await one.charged() == 1_000 * PRICE
        assert (await two.standing(Kind.CREDIT)).total == 1_000 * PRICE


async def test_with_one_cell_nothing_is_shared_out(valkey_url, sqlite_url, ledger_url):
    async with many(ManyTerms(16, 50 * PRICE), valkey_url, sqlite_url, ledger_url, cells=1) as core:
        assert count((a for _, _, a in await burst(core, 80)), Outcome.CHARGED) == 50
        async with core.ledger.database.reading() as connection:
            assert (await connection.execute(sa.select(escrows))).all() == []


async def test_the_number_of_cells_never_changes(valkey_url, database_url, ledger_url):
    async with many(ManyTerms(16, 50 * PRICE), valkey_url, database_url, ledger_url, cells=4):
        pass
    with pytest.raises(FailedPreconditionError, match="METERLINE_RATING_CELLS=4"):
        async with many(ManyTerms(16, 50 * PRICE), valkey_url, database_url, ledger_url, cells=8):
            pass


async def test_a_batch_over_many_cells_is_answered_in_its_order(valkey_url, sqlite_url, ledger_url):
    async with many(ManyTerms(64, 10**9), valkey_url, sqlite_url, ledger_url) as core:
        events = [event((n + 1) * MB, f"e{n}", endpoint_id=core.endpoint_in(n % 8, n // 8 % 2)) for n in range(100)]
        first, again = await core.charge(*events), await core.charge(*reversed(events))
        assert [answer.amounts[2] for answer in first] == [(n + 1) * PRICE for n in range(100)]
        assert len({answer.usage_record_id.split(".")[0] for answer in first}) == 8
        assert [a.usage_record_id for a in reversed(again)] == [a.usage_record_id for a in first]
        assert all(answer.replayed for answer in again)
        await core.fold()
        async with core.ledger.database.reading() as connection:
            assert await connection.scalar(sa.select(sa.func.count()).select_from(usage)) == 100
