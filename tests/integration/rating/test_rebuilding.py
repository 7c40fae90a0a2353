"""A cell that lost its state, has an old one, or lost a decider, is rebuilt from the journal: nothing more, nothing less."""

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa

from services.common.errors import UnavailableError
from services.rating.domain.decisions import SessionAction
from services.rating.domain.reasons import Outcome
from services.rating.engine.driver import SOURCE, Engine
from tests.integration.rating.test_charging import example, session_call
from tests.integration.rating.world import NOW_MS, OPERATOR_CALLER, World, bring_back, event, snapshot, world
from tests.unit.rating.terms import ENDPOINT, ENTERPRISE, MB, RESELLER


async def state(core: World) -> dict[str, object]:
    await core.cell.open()
    return dict(await core.cell.engine.holders([ENDPOINT, ENTERPRISE, RESELLER]))


@pytest.mark.parametrize("folded", ["nothing folded", "half folded", "all folded"])
async def test_an_emptied_valkey_comes_back_as_it_was(folded, valkey_url, sqlite_url):
    async with world(example(), valkey_url, sqlite_url) as core:
        for n in range(10):
            await core.use(MB, f"a{n}")
        if folded != "nothing folded":
            await core.fold()
        await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.CREATE, 0, 0, 50 * MB))
        for n in range(10):
            await core.use(MB, f"b{n}")
        if folded == "all folded":
            await core.fold()
        before = await state(core)
        await core.client.flushall()
        repeated = await core.use(MB, "b3")
        assert repeated.replayed
        assert await state(core) == before
        released = await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.RELEASE, 1, MB, 0))
        assert released.state.name == "RELEASED"
        await core.fold()
        assert len(await core.charged_in_journal()) == 21  # twenty events and the session's report
        assert (await core.ledger.all_balances())["bal_a.b1"][1] == (await core.remaining())[0][1] == 479 * MB


async def test_a_valkey_with_old_data_is_found_out_before_anybody_is_told(valkey_url, sqlite_url):
    async with world(example(), valkey_url, sqlite_url) as core:
        await core.use(MB, "one")
        old = await snapshot(core.client)
        await core.use(MB, "two")
        await bring_back(core.client, old)
        assert (await core.use(MB, "two")).replayed
        assert (await core.use(MB, "three")).outcome is Outcome.CHARGED
        assert (await core.remaining())[0][1] == 497 * MB


async def test_old_data_without_memory_of_the_journal_is_found_out_by_the_journal(valkey_url, sqlite_url):
    async with world(example(), valkey_url, sqlite_url) as core:
        await core.use(MB, "one")
        old = await snapshot(core.client)
        await core.use(MB, "two")
    async with world(example(), valkey_url, sqlite_url) as core:
        await bring_back(core.client, old)
        assert (await core.use(MB, "two")).replayed
        assert (await core.remaining())[0][1] == 498 * MB


async def test_a_segment_whose_decider_died_is_journalled_by_the_next(valkey_url, sqlite_url):
    async with world(example(), valkey_url, sqlite_url) as core:
        await core.use(MB, "one")
        await decide_and_die(core, "lost")
        await core.use(MB, "next")
        assert len(await core.charged_in_journal()) == 3
        await core.fold()
        assert (await core.ledger.all_balances())["bal_a.b1"][1] == 490 * MB


async def test_two_processes_on_one_cell_lose_and_double_nothing(valkey_url, sqlite_url):
    async with world(example(), valkey_url, sqlite_url) as one, world(example(), valkey_url, sqlite_url) as two:
        await one.use(MB, "first")
        answers = await asyncio.gather(
            *(core.use(MB, f"e{n}") for n in range(50) for core in (one, two))  # each event sent to both
        )
        assert all(answer.outcome is Outcome.CHARGED for answer in answers)
        assert sum(not answer.replayed for answer in answers) == 50
        await one.fold()
        await two.fold()
        assert (await one.ledger.all_balances())["bal_a.b1"][1] == (500 - 51) * MB == (await one.remaining())[0][1]


async def test_processes_of_two_versions_do_not_take_the_function_from_each_other(valkey_url, sqlite_url):
    async with world(example(), valkey_url, sqlite_url) as one, world(example(), valkey_url, sqlite_url) as two:
        await one.use(MB, "first")
        other = SOURCE.replace("_function('decide', decide)", "_function('decide', function() return {} end)")
        assert other != SOURCE
        await Engine(one.client, 0, source=other).install()  # it decides in a way of its own
        two.cell.engine = Engine(two.client, 0, source=SOURCE + "-- the next version\n")
        for n in range(10):
            answers = [await core.use(MB, f"e{n}") for core in (one, two)]
            assert [(answer.outcome, answer.replayed) for answer in answers] == [
                (Outcome.CHARGED, False),
                (Outcome.CHARGED, True),
            ]
        assert await one.cell.engine.position() == (1, 11)
        assert len(await one.client.execute_command("FUNCTION LIST")) == 3


async def test_a_flipped_byte_in_the_journal_is_never_folded(valkey_url, sqlite_url):
    import sqlalchemy as sa

    from services.common.errors import InternalError
    from services.rating.storage.tables import segments

    async with world(example(), valkey_url, sqlite_url) as core:
        await core.use(MB, "one")
        await core.use(MB, "two")
        async with core.journal.database.transaction() as connection:
            row = (await connection.execute(sa.select(segments.c.outcomes).where(segments.c.sequence == 2))).one()
            flipped = bytes([row.outcomes[0] ^ 1]) + row.outcomes[1:]
            await connection.execute(sa.update(segments).where(segments.c.sequence == 2).values(outcomes=flipped))
        with pytest.raises(InternalError, match="JOURNAL_CORRUPT"):
            await core.fold()


async def test_the_journal_on_postgresql_keeps_the_same_promises(valkey_url, postgres_url, sqlite_url):
    async with world(example(), valkey_url, postgres_url, sqlite_url) as core:
        await asyncio.gather(*(core.use(MB, f"e{n}") for n in range(40)))
        before = await state(core)
        await core.client.flushall()
        assert (await core.use(MB, "e7")).replayed
        assert await state(core) == before
        await core.fold()
        assert len(await core.charged_in_journal()) == 40


async def test_a_rebuild_that_was_overtaken_changes_nothing_any_more(valkey_url, sqlite_url):
    from services.rating.domain.decisions import CellClosedError

    async with world(example(), valkey_url, sqlite_url) as core:
        await core.use(MB, "one")
        old = {f"h:{ENDPOINT}": await kept(core)}
        await core.use(MB, "two")
        before = {f"h:{ENDPOINT}": await kept(core)}
        late, quick = Engine(core.client, 0), Engine(core.client, 0)
        await late.begin_rebuild(2)
        assert await quick.being_rebuilt()
        assert not await late.being_rebuilt()
        assert (await core.client.hget("{c0}m", "epoch")) is None  # nobody decides meanwhile
        await quick.begin_rebuild(3)
        await quick.clear()
        await quick.load(before, 0)
        await quick.open(3, 2)
        for late_write in (late.clear(), late.load(old, 0), late.load_ids([], 0, 10**6), late.open(2, 1)):
            with pytest.raises(CellClosedError):
                await late_write
        assert await kept(core) == before[f"h:{ENDPOINT}"]
        assert await quick.position() == (3, 2)


async def test_a_rebuild_that_loses_what_it_wrote_ends(valkey_url, sqlite_url):
    from services.rating.domain.decisions import CellClosedError

    async with world(example(), valkey_url, sqlite_url) as core:
        await core.use(MB, "one")
        engine = Engine(core.client, 0)
        await engine.begin_rebuild(2)
        await engine.clear()
        half = await core.client.dump("{c0}m") or b""
        await engine.load({f"h:{ENDPOINT}": b"x"}, 0)
        await core.client.flushdb()
        await core.client.restore("{c0}m", 0, half)  # the server came back as it was before the load
        with pytest.raises(CellClosedError):
            await engine.open(2, 1)


async def test_a_session_is_not_denied_because_valkey_lost_it(valkey_url, sqlite_url):
    async with world(example(), valkey_url, sqlite_url) as core:
        await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.CREATE, 0, 0, 50 * MB))
        await core.client.flushall()
        released = await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.RELEASE, 1, MB, 0))
        assert released.state.name == "RELEASED"


async def test_nothing_counts_that_was_decided_on_another_process_s_lost_history(valkey_url, sqlite_url):
    async with world(example(), valkey_url, sqlite_url) as one, world(example(), valkey_url, sqlite_url) as two:
        await one.use(MB, "one")
        old = {key: await one.client.dump(key) or b"" async for key in one.client.scan_iter("*")}
        await two.use(2 * MB, "two")
        await one.client.flushdb()
        for key, value in old.items():
            await one.client.restore(key, 0, value)
        # A third process, which has seen only segment 1, decides segment 2 anew and dies before it journals it.
        await decide_and_die(one, "lost")
        assert (await two.use(4 * MB, "three")).outcome is Outcome.CHARGED
        assert (await one.remaining())[0][1] == (500 - 7) * MB
        assert (await one.use(2 * MB, "two")).replayed
        assert not (await one.use(8 * MB, "lost")).replayed


async def decide_and_die(core: World, event_id: str) -> None:
    """Decide an event and forget about it."""
    from services.rating.domain.decisions import ChargeOp
    from services.rating.domain.records import body_digest, id_digest
    from services.rating.usecases.charging import program_for

    known, lost = core.terms.known[ENDPOINT], event(8 * MB, event_id)
    program = program_for(known, 1, lost.network_id, 3, NOW_MS)
    digests = id_digest(ENDPOINT, event_id), body_digest(lost.record)
    op = ChargeOp(*digests, ENDPOINT, program, 8 * MB, NOW_MS, 1, lost.record)
    epoch, sequence = await core.cell.engine.position() or (0, 0)
    versions = {ENDPOINT: 1, ENTERPRISE: 1, RESELLER: 1}
    decided = await core.cell.engine.decide([op], versions, epoch, sequence, NOW_MS, 10**6)
    assert decided.segment is not None


async def kept(core: World) -> bytes:
    """The endpoint's holder, as it stands in Valkey."""
    image: Any = await core.client.get("{c0}h:" + ENDPOINT)
    return bytes(image)


async def test_who_waits_for_a_journaller_that_is_given_up_is_told(valkey_url, sqlite_url):
    from services.rating.domain.decisions import CellClosedError

    async with world(example(), valkey_url, sqlite_url) as core:
        journaller = await core.cell.open()
        waiting = asyncio.create_task(journaller.durable(1, bytes(8)))
        await asyncio.sleep(0)
        await core.cell._stop_committing()
        with pytest.raises(CellClosedError):
            await asyncio.wait_for(waiting, 1)


async def test_books_that_are_ahead_of_the_journal_are_told_and_nothing_is_charged(valkey_url, sqlite_url):
    """The journal is another one, or lost its end: whatever is decided now would not be what the books know."""
    async with world(example(), valkey_url, sqlite_url) as core:
        for number in range(3):
            await core.use(MB, f"a{number}")
        await core.fold()
        async with core.journal.database.transaction() as connection:
            await connection.execute(sa.text("DELETE FROM segment WHERE sequence > 1"))
        await core.client.flushall()
        with pytest.raises(UnavailableError, match="BOOKS_AHEAD"):
            await core.use(MB, "b")
