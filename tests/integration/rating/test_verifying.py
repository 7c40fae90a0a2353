"""`verify` finds nothing where all is well, also while charging goes on, and names what is not."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from services.common.money import Money
from services.rating.domain.balances import balance_id, pool_id
from services.rating.domain.decisions import SessionAction
from services.rating.domain.findings import Code, Report
from services.rating.engine.inspection import StateInspection
from services.rating.storage import tables
from services.rating.storage.inspection import JournalInspection
from services.rating.storage.scratch import FOLDED, Scratch
from services.rating.usecases.verifying.verifying import Verification
from tests.integration.rating.many import Many, shared_by_cells
from tests.integration.rating.test_charging import example, session_call
from tests.integration.rating.world import OPERATOR_CALLER, StillTerms, World, world
from tests.unit.rating.terms import (
    ENDPOINT,
    ENTERPRISE,
    MB,
    RESELLER,
    addon,
    catalog,
    chain,
    endpoint,
    given,
    plan,
    tariff,
)

NOT_FOLDED = {
    "cursor", "chain", "escrow", "escrow_lease", "sandbox_charge",
    "payment", "payment_method", "auto_refill_rule", "wallet_request",
}  # fmt: skip
"""Tables of the ledger that are not made from the journal, or are compared otherwise."""


async def verify(core: World | Many, folder: Path) -> Report:
    name = f"scratch-{len(list(folder.iterdir()))}.sqlite"
    async with Scratch(core.ledger.database, folder / name) as scratch:
        journal = JournalInspection(core.journal)
        return await Verification(journal, scratch, partial(StateInspection, core.client), core.clock).run(
            lambda _: None
        )


def codes(report: Report) -> set[str]:
    return {str(code) for code in report.counts}


async def some_life(core: World) -> None:
    for number in range(10):
        await core.use(MB, f"a{number}")
    await core.use(8 * 10**12, "refused")
    await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.CREATE, 0, 0, 50 * MB))
    await core.sessions.call(OPERATOR_CALLER, session_call("gone", SessionAction.CREATE, 0, 0, 5 * MB))
    await core.sessions.call(OPERATOR_CALLER, session_call("gone", SessionAction.RELEASE, 1, MB, 0))
    await core.fold()
    await core.use(MB, "after")


def test_every_table_of_the_ledger_is_compared_or_known_not_to_be_folded():
    assert {table.name for table in FOLDED} | NOT_FOLDED == set(tables.ledger.tables)


async def test_nothing_is_found_where_all_is_well(valkey_url, sqlite_url, tmp_path):
    async with world(example(), valkey_url, sqlite_url) as core:
        await some_life(core)
        report = await verify(core, tmp_path)
        assert report.findings == []
        (about,) = report.cells.values()
        assert (about.state, about.folded, about.compared) == ("compared", about.folded, about.segments - 1)
        assert (about.holders, about.sessions, about.records, about.ids) == (3, 2, 13, 12)


async def test_nothing_is_found_after_refunds_and_payments_of_what_is_owed(valkey_url, sqlite_url, tmp_path):
    async with world(example(), valkey_url, sqlite_url) as core:
        await some_life(core)
        used = await core.use(10 * MB, "refunded")
        await core.fold()
        await core.refunds.refund(OPERATOR_CALLER, used.usage_record_id, 3 * MB, reason="outage", request_id="r1")
        before = (await core.cell.engine.holders([RESELLER]))[RESELLER].credit_used
        await core.corrections.adjust(
            OPERATOR_CALLER, balance_id(RESELLER, ""), -5_000, credit_used=True, reason="paid", request_id="r2"
        )
        assert (await core.cell.engine.holders([RESELLER]))[RESELLER].credit_used == before - 5_000
        assert (await verify(core, tmp_path)).findings == []


async def test_nothing_is_found_where_an_enterprise_has_a_pool_and_pays_for_sessions(valkey_url, sqlite_url, tmp_path):
    pool, pays = addon("pln_pool", MB, pooled=True), plan("pln_pays", prepaid=True, tariff_id="tar_pays")
    free, base = plan("pln_free", tariff_id="tar_free"), plan("pln_base", tariff_id="tar_free")
    tariffs = [tariff("tar_pays", 1_000_000_000), tariff("tar_free", 0)]
    levels = chain(given("e", pays.key), given("r", free.key), given("p", pool.key))
    known = StillTerms([endpoint(given("x", base.key))], levels, catalog([pool, pays, free, base], tariffs))
    async with world(known, valkey_url, sqlite_url) as core:
        await core.balances.top_up(OPERATOR_CALLER, "", ENTERPRISE, Money("EUR", 10**9), "t1")
        opened = await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.CREATE, 0, 0, 5 * MB))
        assert opened.grants[0].granted == 5 * MB
        held = (await core.cell.engine.holders([ENTERPRISE, pool_id(ENTERPRISE)])).values()
        assert sorted(holder.money_reserved > 0 for holder in held) == [False, True]
        assert (await verify(core, tmp_path)).findings == []


async def test_nothing_is_found_on_postgresql(valkey_url, postgres_url, sqlite_url, tmp_path):
    async with world(example(), valkey_url, sqlite_url, postgres_url) as core:
        await some_life(core)
        assert (await verify(core, tmp_path)).findings == []


async def test_nothing_is_found_while_charging_and_folding_go_on(valkey_url, sqlite_url, tmp_path):
    async with world(example(), valkey_url, sqlite_url) as core:
        await some_life(core)
        over = asyncio.Event()

        async def charge() -> int:
            number = 0
            while not over.is_set():
                await asyncio.gather(*(core.use(1000, f"more{number}.{each}") for each in range(5)))
                number += 1
            return number

        async def fold() -> None:
            while not over.is_set():
                await core.folder.fold_some(0)
                await asyncio.sleep(0.01)

        seen = set()
        async with asyncio.TaskGroup() as group:
            charging, _ = group.create_task(charge()), group.create_task(fold())
            for _ in range(2):
                report = await verify(core, tmp_path)
                assert report.findings == []
                assert report.cells[0].state == "compared"
                seen.add(report.cells[0].segments)
            over.set()
        assert charging.result()
        assert len(seen) == 2, "it went on"


@pytest.mark.parametrize("limit", [None, 10**9])
async def test_nothing_is_found_in_many_cells_that_share_a_limit(limit, valkey_url, sqlite_url, tmp_path):
    async with shared_by_cells(limit, valkey_url, sqlite_url) as core:
        await core.use("ep_e1", MB, "after")
        report = await verify(core, tmp_path)
        assert report.findings == []
        assert [cell.state for cell in report.cells.values()] == ["compared"] * 3
        assert sum(cell.records for cell in report.cells.values()) == 61


async def test_an_empty_and_an_absent_valkey_are_told_and_are_no_findings(valkey_url, sqlite_url, tmp_path):
    async with world(example(), valkey_url, sqlite_url) as core:
        await some_life(core)
        await core.client.flushall()
        report = await verify(core, tmp_path)
        assert report.sound
        assert "rebuilt when the cell is next used" in report.cells[0].state


Damage = Callable[[World], Any]


async def change(core: World, statement: Any, *, journal: bool = False) -> None:
    database = core.journal.database if journal else core.ledger.database
    async with database.transaction() as connection:
        assert (await connection.execute(statement)).rowcount


def ledger(statement: Any) -> Damage:
    return lambda core: change(core, statement)


def journal(statement: Any) -> Damage:
    return lambda core: change(core, statement, journal=True)


async def flip(core: World) -> None:
    here = tables.segments.c.sequence == 3
    async with core.journal.database.reading() as connection:
        blob = await connection.scalar(sa.select(tables.segments.c.outcomes).where(here))
    assert blob
    await change(
        core,
        sa.update(tables.segments).where(here).values(outcomes=blob[:5] + bytes([blob[5] ^ 4]) + blob[6:]),
        journal=True,
    )


async def tear(core: World) -> None:
    here = tables.segments.c.sequence == 3
    await change(core, sa.update(tables.segments).where(here).values(images=b""), journal=True)


def valkey(*command: Any) -> Damage:
    async def damage(core: World) -> None:
        assert await core.client.execute_command(*command)

    return damage


async def set_balance(core: World) -> None:
    image = await core.client.get(f"{{c0}}h:{ENDPOINT}")
    other = await core.client.get("{c0}h:acc_e") or b""
    assert image != other
    await core.client.set(f"{{c0}}h:{ENDPOINT}", other)


async def forget_an_id(core: World) -> None:
    (name,) = [key async for key in core.client.scan_iter("{c0}d:*")]
    first = next(iter(await core.client.hgetall(name)))
    await core.client.hdel(name, first)


async def invent_an_id(core: World) -> None:
    (name,) = [key async for key in core.client.scan_iter("{c0}d:*")]
    await core.client.hset(name, b"0123456789abcdef", b"12345678" + b"3:1")


async def swap_an_answer(core: World) -> None:
    (name,) = [key async for key in core.client.scan_iter("{c0}d:*")]
    ids: Any = await core.client.hgetall(name)
    one, other = list(ids)[:2]
    await core.client.hset(name, one, ids[one][:8] + ids[other][8:])


T = tables
DAMAGES: dict[str, tuple[Damage, set[str]]] = {
    "a flipped byte": (flip, {"SEGMENT_CORRUPT"}),
    "a torn segment": (tear, {"SEGMENT_CORRUPT"}),
    "a missing segment": (journal(sa.delete(T.segments).where(T.segments.c.sequence == 3)), {"SEGMENT_MISSING"}),
    "a missing tail": (journal(sa.delete(T.segments).where(T.segments.c.sequence > 5)), {"BOOKS_AHEAD"}),
    "epochs in disorder": (
        journal(sa.update(T.segments).where(T.segments.c.sequence == 3).values(epoch=7)),
        {"SEGMENT_OUT_OF_EPOCH"},
    ),
    "a changed program": (
        journal(sa.update(T.programs).values(body=sa.func.replace(T.programs.c.body, '"EUR"', '"USD"'))),
        {"PROGRAM_CHANGED", "BOOKS_ROW_MISSING", "BOOKS_ROW_UNKNOWN"},
    ),
    "a missing program": (journal(sa.delete(T.programs)), {"PROGRAM_MISSING"}),
    "a lost usage record": (ledger(sa.delete(T.usage).where(T.usage.c.sequence == 3)), {"BOOKS_ROW_MISSING"}),
    "a changed usage record": (ledger(sa.update(T.usage).values(quantity=1)), {"BOOKS_ROW_DIFFERS"}),
    "an invented entry": (
        ledger(
            sa.insert(T.entries).values(
                cell=0, sequence=3, number=99, balance_id="bal_x", kind=1, change=5, cause_id="", created_ms=0
            )
        ),
        {"BOOKS_ROW_UNKNOWN"},
    ),
    "a changed total": (ledger(sa.update(T.totals).values(amount=T.totals.c.amount + 1)), {"BOOKS_ROW_DIFFERS"}),
    "a changed balance": (ledger(sa.update(T.balances).values(remaining=1)), {"BOOKS_ROW_DIFFERS"}),
    "a lost image": (ledger(sa.delete(T.images).where(T.images.c.name == f"h:{ENDPOINT}")), {"BOOKS_ROW_MISSING"}),
    "a lost refusal": (ledger(sa.delete(T.refusals)), {"BOOKS_ROW_MISSING"}),
    "another balance in Valkey": (set_balance, {"STATE_DIFFERS"}),
    "a holder lost in Valkey": (valkey("DEL", f"{{c0}}h:{ENDPOINT}"), {"STATE_MISSING"}),
    "a holder invented in Valkey": (valkey("COPY", "{c0}h:acc_e", "{c0}h:acc_new"), {"STATE_UNKNOWN"}),
    "an end lost in Valkey": (valkey("DEL", "{c0}x"), {"SESSION_END_DIFFERS"}),
    "a Valkey that is behind": (valkey("HINCRBY", "{c0}m", "sequence", "-9"), {"STATE_BEHIND"}),
    "an id forgotten in Valkey": (forget_an_id, {"ID_MISSING"}),
    "an id invented in Valkey": (invent_an_id, {"ID_UNKNOWN"}),
    "an answer swapped in Valkey": (swap_an_answer, {"ID_DIFFERS"}),
}


@pytest.mark.parametrize("name", DAMAGES)
async def test_damage_is_found_named_and_told_how_to_repair(name, valkey_url, sqlite_url, tmp_path):
    damage, expected = DAMAGES[name]
    async with world(example(), valkey_url, sqlite_url) as core:
        await some_life(core)
        await damage(core)
        report = await verify(core, tmp_path)
        assert codes(report) == expected, report.findings
        assert all(finding.place and finding.repair for finding in report.findings)
        assert Code(report.findings[0].code) in report.counts


@pytest.mark.parametrize(
    ("lost", "expected"),
    [(ENDPOINT, {"BALANCE_UNEQUAL", "RESERVED_UNEQUAL"}), (RESELLER, {"OWED_UNEQUAL", "RESERVED_UNEQUAL"})],
)
async def test_what_was_lost_in_valkey_is_found_after_it_was_used_again(
    lost, expected, valkey_url, sqlite_url, tmp_path
):
    async with world(example(), valkey_url, sqlite_url) as core:
        await some_life(core)
        owed = (await core.cell.engine.holders([RESELLER]))[RESELLER].credit_used
        assert owed > 0
        await core.client.delete(f"{{c0}}h:{lost}")
        assert (await core.use(MB, "again")).amounts
        report = await verify(core, tmp_path)
        assert codes(report) == expected, report.findings
        if lost == RESELLER:
            (finding,) = [each for each in report.findings if each.code == Code.OWED_UNEQUAL]
            charged, owes = (int(word) for word in re.findall(r"(\d+)[,.]", finding.message))
            assert charged - owes == owed


async def forgotten(core: World) -> list[bytes]:
    """Take away from Valkey what it remembers of answered ids; returns the keys."""
    keys = [name async for name in core.client.scan_iter(match="[{]c0[}]d:*")]
    await core.client.delete(*keys)
    return keys


async def test_ids_that_valkey_forgot_by_itself_are_loaded_anew(valkey_url, sqlite_url, tmp_path):
    """An eviction, or somebody's hand: what was answered must not be charged again."""
    async with world(example(), valkey_url, sqlite_url) as core:
        await some_life(core)
        assert await forgotten(core)
        assert (await core.use(MB, "a3")).replayed
        assert (await core.use(MB, "after")).replayed
        await core.use(MB, "new")
        assert (await verify(core, tmp_path)).findings == []


@pytest.mark.parametrize("folded_before", [True, False])
async def test_an_event_that_was_charged_twice_stops_nothing_and_is_named(
    folded_before, valkey_url, sqlite_url, tmp_path
):
    """It takes a Valkey that lost the ids and what says that they were there. The books hold both, and go on."""
    async with world(example(), valkey_url, sqlite_url) as core:
        first = await core.use(MB, "twice")
        await core.use(MB, "other")
        if folded_before:
            await core.fold()
        await forgotten(core)
        await core.client.hdel("{c0}m", "ids", "ids_before")
        again = await core.use(MB, "twice")
        assert not again.replayed
        assert again.usage_record_id != first.usage_record_id
        await core.use(MB, "after")
        await verify(core, tmp_path)  # before the fold has seen it
        await core.fold()
        report = await verify(core, tmp_path)
        (twice,) = [finding for finding in report.findings if finding.code is Code.EVENT_TWICE]
        assert again.usage_record_id in twice.place
        assert "BOOKS_ROW_DIFFERS" not in codes(report)
        assert {row.event_id async for row in all_usage(core)} == {"twice", "other", "after"}


async def all_usage(core: World) -> AsyncIterator[Any]:
    async with core.ledger.database.reading() as connection:
        for row in await connection.execute(sa.select(tables.usage)):
            yield row
