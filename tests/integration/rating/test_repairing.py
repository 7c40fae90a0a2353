"""`rebuild` makes anew what `verify` found to differ, while rating runs, and throws away nothing that it cannot make."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import sqlalchemy as sa

from services.common.errors import FailedPreconditionError, InternalError, MeterlineError, UnavailableError
from services.rating.domain.reasons import Outcome
from services.rating.engine.driver import Engine
from services.rating.storage import tables as T  # noqa: N812 - as in SQL, T.usage
from services.rating.storage.rebuilding import FoldedTables
from services.rating.usecases.rebuilding import BooksRebuild, RebuiltBooks, RebuiltState, StateRebuild
from tests.integration.rating.many import Many, shared_by_cells
from tests.integration.rating.test_charging import DAY_MS, example
from tests.integration.rating.test_verifying import DAMAGES, change, codes, set_balance, some_life, verify
from tests.integration.rating.world import NOW_MS, OPERATOR_CALLER, World, snapshot, world
from tests.unit.rating.terms import ENDPOINT, MB

PAUSE_S = 0.005
"""Between the charges of a client, so that folding keeps up with them."""
STORES = ["sqlite", "ledger on postgresql", "journal on postgresql"]


@pytest.fixture(params=STORES)
def urls(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The URLs of journal and ledger."""
    sqlite: str = request.getfixturevalue("sqlite_url")
    if request.param == "sqlite":
        return sqlite, ""
    postgres: str = request.getfixturevalue("postgres_url")
    return (sqlite, postgres) if request.param.startswith("ledger") else (postgres, sqlite)


@asynccontextmanager
async def lived(urls: tuple[str, str], valkey_url: str) -> AsyncIterator[World]:
    """A core that has been used."""
    async with world(example(), valkey_url, *urls) as core:
        await some_life(core)
        record = await core.use(MB, "refunded")
        await core.use(400 * MB, "nearly-all")
        await core.fold()
        await core.refunds.refund(OPERATOR_CALLER, record.usage_record_id, MB // 2, reason="outage", request_id="r1")
        yield core


def quiet(_: str) -> None:
    """Progress is for people."""


def state_rebuild(core: World | Many, *, from_journal: bool = False) -> StateRebuild:
    tables = FoldedTables(core.ledger.database)
    return StateRebuild(
        lambda cell: Engine(core.client, cell), core.journal, core.ledger, tables, core.clock, from_journal=from_journal
    )


def books_rebuild(core: World | Many, cells: int = 1) -> BooksRebuild:
    return BooksRebuild(core.journal, core.ledger, FoldedTables(core.ledger.database), range(cells))


async def books_as_they_are(core: World | Many) -> dict[str, list[Any]]:
    async with core.ledger.database.reading() as connection:
        return {
            name: sorted(map(repr, (await connection.execute(sa.select(table))).all()))
            for name, table in T.ledger.tables.items()
        }


@pytest.mark.parametrize("from_journal", [False, True], ids=["from the books", "from the journal"])
async def test_a_balance_changed_in_valkey_is_found_and_repaired(from_journal, urls, valkey_url, tmp_path):
    async with lived(urls, valkey_url) as core:
        before = (await core.remaining())[0][1]
        await set_balance(core)
        found = await verify(core, tmp_path)
        assert {finding.repair for finding in found.findings} == {"meterline rebuild --valkey"}
        done = await state_rebuild(core, from_journal=from_journal).run(0, quiet)
        last = await core.journal.last_sequence(0)
        assert (done.epoch, done.segments) == (
            2,
            last if from_journal else last - (await core.ledger.cursor(0)).sequence,
        )
        assert done.ids == 16
        assert (await core.remaining())[0][1] == before
        assert (await verify(core, tmp_path)).findings == []
        assert (await core.use(MB, "a3")).replayed
        assert (await core.use(MB, "on-it-goes")).outcome is Outcome.CHARGED
        assert (await core.remaining())[0][1] == before - MB
        assert (await verify(core, tmp_path)).findings == []


VALKEY = {name for name, (_, found) in DAMAGES.items() if name.endswith("Valkey")}


@pytest.mark.parametrize("name", sorted(VALKEY))
async def test_what_differs_in_valkey_is_repaired(name, valkey_url, sqlite_url, tmp_path):
    async with world(example(), valkey_url, sqlite_url) as core:
        await some_life(core)
        await DAMAGES[name][0](core)
        assert not (await verify(core, tmp_path)).sound
        await state_rebuild(core).run(0, quiet)
        assert (await verify(core, tmp_path)).findings == []


async def test_from_the_journal_the_books_need_not_be_right(valkey_url, sqlite_url, tmp_path):
    async with world(example(), valkey_url, sqlite_url) as core:
        await some_life(core)
        await core.fold()
        before = await core.remaining()
        await change(core, sa.delete(T.images).where(T.images.c.name == f"h:{ENDPOINT}"))
        await state_rebuild(core, from_journal=True).run(0, quiet)
        assert await core.remaining() == before
        await books_rebuild(core).run(quiet)
        assert (await verify(core, tmp_path)).findings == []


async def test_books_that_differ_are_folded_anew(urls, valkey_url, tmp_path):
    async with lived(urls, valkey_url) as core:
        await core.fold()
        async with core.ledger.database.transaction() as connection:
            await connection.execute(sa.insert(T.escrows).values(
                account_id="acc_r", kind=2, limit_total=5, limit_version=1, free=5))  # fmt: skip
            noted = dict.fromkeys((column.name for column in T.audit.columns), "") | {
                "id": "aud_other", "created_ms": 1, "before": {}, "after": {}}  # fmt: skip
            await connection.execute(sa.insert(T.audit).values(**noted))
        before = await books_as_they_are(core)
        for name, (damage, expected) in DAMAGES.items():
            if expected == {"BOOKS_ROW_DIFFERS"} or name == "an invented entry":
                await damage(core)
        await change(core, sa.delete(T.events))
        found = await verify(core, tmp_path)
        assert {finding.repair for finding in found.findings} == {"meterline rebuild --ledger"}
        assert codes(found) == {"BOOKS_ROW_DIFFERS", "BOOKS_ROW_MISSING", "BOOKS_ROW_UNKNOWN"}
        done = await books_rebuild(core).run(quiet)
        assert done.segments == {0: await core.journal.last_sequence(0)}
        assert done.rows["usage_record"] == len(before["usage_record"])
        assert await books_as_they_are(core) == before, "what others wrote is still there"
        assert (await verify(core, tmp_path)).findings == []
        assert (await core.use(MB, "on-it-goes")).outcome is Outcome.CHARGED
        await core.fold()
        assert (await verify(core, tmp_path)).findings == []


@pytest.mark.parametrize("urls", STORES[:2], indirect=True)
async def test_charging_and_folding_go_on_meanwhile(urls, valkey_url, tmp_path):
    async with lived(urls, valkey_url) as core:
        await core.fold()
        before = (await core.remaining())[0][1]
        over, charged, epochs = asyncio.Event(), [], set()

        async def charge(client: int) -> None:
            number = 0
            while not over.is_set():
                name = f"c{client}.{number}"
                with suppress(UnavailableError):
                    assert (await core.use(1000, name)).outcome is Outcome.CHARGED
                    charged.append(name)
                    number += 1
                await asyncio.sleep(PAUSE_S)

        async with asyncio.TaskGroup() as group:
            for client in range(4):
                group.create_task(charge(client))
            folding = group.create_task(core.folder.run())
            for from_journal in (False, True, False):
                await books_rebuild(core).run(quiet)
                epochs.add((await state_rebuild(core, from_journal=from_journal).run(0, quiet)).epoch)
                so_far = len(charged)
                async with asyncio.timeout(20):
                    while len(charged) < so_far + 20:
                        await asyncio.sleep(0.01)
            over.set()
            folding.cancel()
        await core.fold()
        assert len(epochs) == 3
        assert (await core.remaining())[0][1] == before - 1000 * len(charged)
        assert (await verify(core, tmp_path)).findings == []
        for name in charged[:: max(1, len(charged) // 20)]:
            assert (await core.use(1000, name)).replayed


@pytest.mark.parametrize("urls", STORES[:2], indirect=True)
async def test_a_rebuild_of_the_state_while_the_books_begin_anew_loses_nothing(urls, valkey_url, tmp_path):
    """The books are emptied while they are being read: what is read is of one moment."""
    async with world(example(), valkey_url, *urls) as core:
        await some_life(core)
        await core.fold()
        before = await core.remaining()
        read = core.ledger.standing

        async def emptied_meanwhile(cell: int, since_ms: int) -> AsyncGenerator[Any, None]:
            async for some in read(cell, since_ms):
                if (await core.ledger.cursor(0)).sequence:
                    await FoldedTables(core.ledger.database).empty([0])
                yield some

        core.ledger.standing = emptied_meanwhile  # type: ignore[method-assign]
        await state_rebuild(core).run(0, quiet)
        assert await core.remaining() == before
        await core.fold()
        assert (await verify(core, tmp_path)).findings == []


DAMAGED_JOURNALS = {
    "a flipped byte": InternalError,
    "a torn segment": InternalError,
    "a missing segment": FailedPreconditionError,
    "a missing tail": FailedPreconditionError,
    "a changed program": FailedPreconditionError,
    "a missing program": FailedPreconditionError,
}


@pytest.mark.parametrize("name", DAMAGED_JOURNALS)
async def test_nothing_is_thrown_away_that_a_damaged_journal_could_not_make_again(name, valkey_url, sqlite_url):
    async with world(example(), valkey_url, sqlite_url) as core:
        await some_life(core)
        await core.fold()
        await DAMAGES[name][0](core)
        books, valkey = await books_as_they_are(core), await snapshot(core.client)
        with pytest.raises(DAMAGED_JOURNALS[name], match="Restore"):
            await books_rebuild(core).run(quiet)
        assert await books_as_they_are(core) == books
        needs_journal = "program" not in name and "tail" not in name
        for from_journal in [True] if needs_journal else [False] if "tail" in name else []:
            with pytest.raises(MeterlineError, match="Restore"):
                await state_rebuild(core, from_journal=from_journal).run(0, quiet)
        assert await snapshot(core.client) == valkey


async def test_a_dry_run_tells_and_changes_nothing(valkey_url, sqlite_url):
    async with world(example(), valkey_url, sqlite_url) as core:
        await some_life(core)
        books, valkey = await books_as_they_are(core), await snapshot(core.client)
        last, folded = await core.journal.last_sequence(0), (await core.ledger.cursor(0)).sequence
        assert folded == last - 1
        planned = await state_rebuild(core).plan(0, quiet)
        assert planned == RebuiltState(cell=0, epoch=2, images=len(books["image"]), ids=None, segments=1)
        planned = await state_rebuild(core, from_journal=True).plan(0, quiet)
        assert planned == RebuiltState(cell=0, epoch=2, images=0, ids=None, segments=last)
        rows = await books_rebuild(core).plan(quiet)
        assert rows == RebuiltBooks({0: last}, {name: len(books[name]) for name in rows.rows})
        assert rows.rows["usage_record"] == 12
        assert (await books_as_they_are(core), await snapshot(core.client)) == (books, valkey)


async def test_an_old_event_is_not_charged_twice_while_the_books_are_folded_anew(valkey_url, sqlite_url):
    async with world(example(), valkey_url, sqlite_url) as core:
        long_ago = NOW_MS - 2 * DAY_MS
        first = await core.use(MB, "old", usage_time_ms=long_ago)
        await core.fold()
        core.clock.advance(3 * DAY_MS)
        await core.client.delete(*[key async for key in core.client.scan_iter("*d:*")])  # the memory of ids is over
        await FoldedTables(core.ledger.database).empty([0])
        with pytest.raises(UnavailableError, match="BOOKS_BEHIND"):
            await core.use(MB, "old", usage_time_ms=long_ago)
        await books_rebuild(core).run(quiet)
        assert (await core.use(MB, "old", usage_time_ms=long_ago)).usage_record_id == first.usage_record_id


@pytest.mark.parametrize("limit", [None, 10**9])
async def test_cells_that_share_a_limit_are_rebuilt_with_their_leases(limit, valkey_url, sqlite_url, tmp_path):
    async with shared_by_cells(limit, valkey_url, sqlite_url) as core:
        leased = [key async for key in core.client.scan_iter("*l:*")]
        assert leased
        for key in leased:
            await core.client.delete(key)
        assert codes(await verify(core, tmp_path)) == {"STATE_MISSING"}
        await books_rebuild(core, 3).run(quiet)
        for cell in range(3):
            await state_rebuild(core, from_journal=cell == 1).run(cell, quiet)
        assert (await verify(core, tmp_path)).findings == []
        for number in range(60):
            await core.use(f"ep_e{number % 12}", MB, f"b{number}")
        await core.fold()
        assert (await verify(core, tmp_path)).findings == []


async def test_a_session_closed_long_ago_is_forgotten_though_the_books_had_it_open(valkey_url, sqlite_url):
    from services.rating.domain.decisions import SessionAction
    from tests.integration.rating.test_charging import session_call

    async with world(example(), valkey_url, sqlite_url) as core:
        await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.CREATE, 0, 0, 5 * MB))
        await core.fold()
        await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.RELEASE, 1, MB, 0))
        core.clock.advance(30 * DAY_MS)
        await state_rebuild(core).run(0, quiet)
        assert [key async for key in core.client.scan_iter("{c0}s:*")] == []
        assert await core.client.zcard("{c0}x") == 0
