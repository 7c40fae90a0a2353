"""`archive` moves what is old out of the journal; nothing is lost, and what needs it says so."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from services.common.errors import FailedPreconditionError, InternalError, MeterlineError, UnavailableError
from services.rating.domain.events import Answer
from services.rating.domain.reasons import Outcome
from services.rating.engine.records import read_segment
from services.rating.storage import tables as T  # noqa: N812 - as in SQL, T.usage
from services.rating.storage.archive import Archive, archive_at
from services.rating.storage.journal import Journal
from services.rating.storage.rebuilding import FoldedTables
from services.rating.usecases.archiving import Archiving, Moved
from tests.integration.rating.test_charging import DAY_MS, example
from tests.integration.rating.test_repairing import books_as_they_are, books_rebuild, quiet, state_rebuild
from tests.integration.rating.test_verifying import some_life, verify
from tests.integration.rating.world import NOW_MS, OPERATOR_CALLER, World, world
from tests.unit.rating.terms import MB

MONTH_LATER_MS = NOW_MS + 30 * DAY_MS


@pytest.fixture(params=["sqlite", "postgresql"])
def urls(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The URLs of journal and ledger."""
    sqlite: str = request.getfixturevalue("sqlite_url")
    return (sqlite, "") if request.param == "sqlite" else (request.getfixturevalue("postgres_url"), sqlite)


@asynccontextmanager
async def lived(urls: tuple[str, str], valkey_url: str) -> AsyncIterator[World]:
    """A core that was used a month ago, and is used now."""
    async with world(example(), valkey_url, *urls) as core:
        await some_life(core)
        record = await core.use(MB, "refunded")
        await core.fold()
        await core.refunds.refund(OPERATOR_CALLER, record.usage_record_id, MB, reason="outage", request_id="r1")
        core.clock.at_ms = MONTH_LATER_MS
        await use_now(core, "now")
        await core.fold()
        yield core


async def use_now(core: World, event_id: str) -> Answer:
    return await core.use(MB, event_id, usage_time_ms=core.clock.at_ms)


async def archive(core: World, file: Path, days: int = 7) -> Moved:
    """Run what `meterline archive` runs."""
    to = Archive(core.journal.database, file)
    try:
        await to.prepare()
        return await Archiving(core.journal, core.ledger, core.clock.at_ms - days * DAY_MS).run(0, to, quiet)
    finally:
        await to.close()


@asynccontextmanager
async def with_archives(core: World, *files: Path) -> AsyncIterator[World]:
    """The core as tools see it that are given archives."""
    before = core.journal
    async with AsyncExitStack() as stack:
        archives = [archive_at(file) for file in files]
        for each in archives:
            stack.push_async_callback(each.close)
        core.journal = Journal(before.database, read_segment, archives)
        try:
            yield core
        finally:
            core.journal = before


async def sequences(core: World) -> list[int]:
    async with core.journal.database.reading() as connection:
        return list(await connection.scalars(sa.select(T.segments.c.sequence).order_by(T.segments.c.sequence)))


async def test_what_is_old_and_in_the_books_is_moved_and_all_goes_on(urls, valkey_url, tmp_path):
    async with lived(urls, valkey_url) as core:
        before, books = await sequences(core), await books_as_they_are(core)
        moved = await archive(core, tmp_path / "a.sqlite")
        assert (moved.first, moved.last) == (1, before[-1] - 1)
        assert moved.bytes > 1000
        assert await sequences(core) == before[-1:]
        assert await books_as_they_are(core) == books
        assert (await use_now(core, "more")).outcome is Outcome.CHARGED
        await core.client.flushall()
        assert (await use_now(core, "more")).replayed  # balances and ids come from the books and what follows them
        await core.fold()
        async with with_archives(core, tmp_path / "a.sqlite"):
            (tmp_path / "scratch").mkdir()
            report = await verify(core, tmp_path / "scratch")
            assert report.findings == []
            assert report.cells[0].segments == (await sequences(core))[-1]


async def test_books_and_balances_are_made_anew_from_archives_and_journal(urls, valkey_url, tmp_path):
    first, second = tmp_path / "a.sqlite", tmp_path / "b.sqlite"
    async with lived(urls, valkey_url) as core:
        half = Archiving(core.journal, core.ledger, MONTH_LATER_MS)
        to = Archive(core.journal.database, first)
        await to.prepare()
        await to.keep(0, 1, 4)
        await core.journal.drop(0, 4)  # an archive of an earlier year
        await to.close()
        assert (await half.run(0, None, quiet)).first == 5
        assert (await archive(core, second)).first == 5
        books, last = await books_as_they_are(core), (await sequences(core))[-1]
        left = await core.remaining()
        for known in ([], [first], [second]):
            async with with_archives(core, *known):
                with pytest.raises(FailedPreconditionError) as told:
                    await books_rebuild(core).run(quiet)
                assert told.value.reason == "JOURNAL_ARCHIVED"
                with pytest.raises(FailedPreconditionError) as told:
                    await state_rebuild(core, from_journal=True).run(0, quiet)
                assert told.value.reason == "JOURNAL_ARCHIVED"
        assert await books_as_they_are(core) == books, "nothing was thrown away"
        async with with_archives(core, second, first):
            assert (await books_rebuild(core).run(quiet)).segments == {0: last}
            assert await books_as_they_are(core) == books
            assert (await state_rebuild(core, from_journal=True).run(0, quiet)).segments == last
        assert await core.remaining() == left
        assert (await use_now(core, "more")).outcome is Outcome.CHARGED


async def test_what_is_young_or_not_in_the_books_yet_stays(valkey_url, sqlite_url, tmp_path):
    async with world(example(), valkey_url, sqlite_url) as core:
        for day in range(20):
            core.clock.at_ms = NOW_MS + day * DAY_MS
            await use_now(core, f"e{day}")
            if day == 5:
                await core.fold()
        assert (await archive(core, tmp_path / "a.sqlite")).last == (await core.ledger.cursor(0)).sequence == 6
        await core.fold()
        assert (await archive(core, tmp_path / "a.sqlite", days=10)).first == 7
        assert await sequences(core) == list(range(10, 21))  # 10 days old and younger
        assert (await archive(core, tmp_path / "a.sqlite", days=10)).last == 9  # nothing more
        async with with_archives(core, tmp_path / "a.sqlite"):
            assert len(await core.contents()) == 20


async def test_who_is_interrupted_begins_again(valkey_url, sqlite_url, tmp_path, monkeypatch):
    file = tmp_path / "a.sqlite"
    async with lived((sqlite_url, ""), valkey_url) as core:
        before = await sequences(core)

        async def die(*_: object) -> None:
            raise ConnectionError

        with monkeypatch.context() as patched:
            patched.setattr(core.journal, "drop", die)
            with pytest.raises(ConnectionError):
                await archive(core, file)
        assert await sequences(core) == before
        assert (await archive(core, file)).last == before[-1] - 1
        async with with_archives(core, file):
            assert len(await core.contents()) == before[-1]


async def test_an_archive_of_another_installation_is_not_taken(valkey_url, sqlite_url, tmp_path):
    file = tmp_path / "a.sqlite"
    async with lived((sqlite_url, ""), valkey_url) as core:
        await archive(core, file)
        await core.client.flushall()
    async with lived((sqlite_url.replace("test_", "other_"), ""), valkey_url) as other:
        before, books = await sequences(other), await books_as_they_are(other)
        with pytest.raises(FailedPreconditionError) as told:
            await archive(other, file)
        assert told.value.reason == "ARCHIVE_DIFFERS"
        assert await sequences(other) == before
        await archive(other, tmp_path / "b.sqlite")
        async with with_archives(other, file):
            with pytest.raises(MeterlineError) as refused:
                await books_rebuild(other).run(quiet)
            assert refused.value.reason == "SEGMENT_NOT_CHAINED"
        assert await books_as_they_are(other) == books


async def test_nothing_is_moved_to_what_is_no_archive(valkey_url, sqlite_url):
    """Least of all to the journal itself: it has all segments already, and would let go of them."""
    async with lived((sqlite_url, ""), valkey_url) as core:
        before = await sequences(core)
        for database in (core.journal.database, core.ledger.database):
            with pytest.raises(FailedPreconditionError, match="ARCHIVE_MISFIT"):
                await archive(core, Path(database.engine.url.database or ""))
        assert await sequences(core) == before


async def test_a_damaged_segment_is_not_moved(valkey_url, sqlite_url, tmp_path):
    async with lived((sqlite_url, ""), valkey_url) as core:
        where = sa.and_(T.segments.c.cell == 0, T.segments.c.sequence == 3)
        async with core.journal.database.transaction() as connection:
            kept = (await connection.execute(sa.select(T.segments.c.images).where(where))).scalar_one()
            await connection.execute(sa.update(T.segments).where(where).values(images=kept[:-1] + b"x"))
        with pytest.raises(InternalError, match="JOURNAL_CORRUPT"):
            await archive(core, tmp_path / "a.sqlite")
        assert (await sequences(core))[0] == 3


async def test_old_answers_are_told_as_far_as_the_books_have_them(valkey_url, sqlite_url, tmp_path):
    async with lived((sqlite_url, ""), valkey_url) as core:
        await archive(core, tmp_path / "a.sqlite")
        repeated = await core.use(MB, "refunded")
        assert repeated.replayed
        with pytest.raises(FailedPreconditionError) as told:
            await core.refunds.refund(OPERATOR_CALLER, repeated.usage_record_id, MB, reason="outage", request_id="r1")
        assert told.value.reason == "JOURNAL_ARCHIVED"


async def test_books_older_than_what_was_moved_need_the_archive(valkey_url, sqlite_url, tmp_path):
    file = tmp_path / "a.sqlite"
    async with lived((sqlite_url, ""), valkey_url) as core:
        before = await books_as_they_are(core)
        await archive(core, file)
        await FoldedTables(core.ledger.database).empty([0])  # as if restored from an old backup
        with pytest.raises(FailedPreconditionError):
            await core.fold()
        await core.client.flushall()
        with pytest.raises(UnavailableError) as told:
            await use_now(core, "more")
        assert told.value.reason == "JOURNAL_ARCHIVED"
        async with with_archives(core, file):
            await books_rebuild(core).run(quiet)
        assert await books_as_they_are(core) == before
        assert (await use_now(core, "more")).outcome is Outcome.CHARGED
