"""Valkey comes back with old data while nobody charges: what is read of it is not believed before it is made good."""

import asyncio
from dataclasses import replace

import pytest

from services.common.errors import NotFoundError
from services.rating.domain.balances import Holder
from services.rating.domain.decisions import SessionAction, SessionOp, SessionState, Status, Visited
from services.rating.domain.reasons import Outcome
from services.rating.ports import Engine
from services.rating.usecases.sessions import Session, Sessions
from tests.integration.rating.many import MB as MANY_MB
from tests.integration.rating.many import PRICE, ManyTerms, many
from tests.integration.rating.test_charging import example, session_call
from tests.integration.rating.test_sessions import NAME, dear_abroad
from tests.integration.rating.world import NOW_MS, OPERATOR_CALLER, World, bring_back, snapshot, world
from tests.unit.rating.terms import ENDPOINT, EU, GB, MB, ZA

CREATE, UPDATE, RELEASE = SessionAction.CREATE, SessionAction.UPDATE, SessionAction.RELEASE


async def stays(sessions: Sessions, sequence: int, action: SessionAction = UPDATE) -> Session:
    """A gigabyte that a client reports which does not say where."""
    said = replace(session_call("s", action, sequence, GB, 0), endpoint_id="", network_id="", access_type=0)
    return await sessions.call(OPERATOR_CALLER, said)


@pytest.mark.parametrize("known", ["in this process", "in another one"])
async def test_a_session_that_moved_stays_where_it_went(known, valkey_url, sqlite_url):
    async with world(dear_abroad(), valkey_url, sqlite_url) as core:
        await core.sessions.call(OPERATOR_CALLER, session_call("s", CREATE, 0, 0, 0))
        old = await snapshot(core.client)
        await core.sessions.call(OPERATOR_CALLER, replace(session_call("s", UPDATE, 1, GB, 0), network_id=ZA))
        await bring_back(core.client, old)
        async with world(dear_abroad(), valkey_url, sqlite_url) as other:
            where = core if known == "in this process" else other
            assert (await stays(where.sessions, 2)).grants[0].amounts[0] == 100 * 10**6
            assert (await stays(where.sessions, 3, RELEASE)).grants[0].amounts[0] == 100 * 10**6
        used = [each.network_id for content in await core.contents() for each in content.used]
        assert used == [EU, ZA, ZA]


async def test_a_call_that_takes_a_session_to_be_elsewhere_decides_nothing(valkey_url, sqlite_url):
    """Whatever it read, and whenever: the Function knows better."""
    async with world(dear_abroad(), valkey_url, sqlite_url) as core:
        await core.sessions.call(OPERATOR_CALLER, session_call("s", CREATE, 0, 0, 0))
        for visited, status in (
            (Visited(ZA, 3), Status.STALE),
            (Visited(EU, 2), Status.STALE),
            (Visited(EU, 3), Status.DONE),
        ):
            times = (NOW_MS, NOW_MS, NOW_MS + 1)
            op = SessionOp(NAME, "s", UPDATE, 1, b"12345678", ENDPOINT, ZA, 3, *times, (), visited)
            assert (await core.cell.submit([op], {})).outcomes[0][0] == status


async def test_what_is_read_is_what_was_acknowledged(valkey_url, sqlite_url):
    async def seen(core: World) -> tuple[int, int, SessionState]:
        (balance, *_) = await core.balances.of_owner(OPERATOR_CALLER, ENDPOINT, "")
        session = await core.sessions.get(OPERATOR_CALLER, NAME)
        return balance.remaining, session.sequence, session.state

    async with world(example(), valkey_url, sqlite_url) as core:
        await core.sessions.call(OPERATOR_CALLER, session_call("s", CREATE, 0, 0, MB))
        old = await snapshot(core.client)
        await core.sessions.call(OPERATOR_CALLER, session_call("s", UPDATE, 1, MB, MB))
        await core.use(9 * MB, "x")
        await core.sessions.call(OPERATOR_CALLER, session_call("t", CREATE, 0, 0, MB))
        right = await seen(core)
        assert right == (490 * MB, 1, SessionState.OPEN)
        await bring_back(core.client, old)
        assert await seen(core) == right
        await bring_back(core.client, old)
        async with world(example(), valkey_url, sqlite_url) as other:
            assert await seen(other) == right
            with pytest.raises(NotFoundError):
                await other.sessions.get(OPERATOR_CALLER, NAME.replace("ses_", "ses_x"))


async def test_nobody_is_refused_for_what_a_cell_gave_back(valkey_url, sqlite_url, tmp_path):
    """A session of one cell held nearly all of a limit that another cell needs; that it ended is lost in Valkey."""
    ledger = f"sqlite+aiosqlite:///{tmp_path / 'ledger.sqlite'}"
    async with many(ManyTerms(64, 100 * PRICE), valkey_url, sqlite_url, ledger, renewing=False) as core:
        first, second = core.endpoint_in(0), core.endpoint_in(1)
        assert (await core.use(first, MANY_MB, "a")).outcome is Outcome.CHARGED
        opened = replace(session_call("s", CREATE, 0, 0, 95 * MANY_MB), endpoint_id=second)
        session = await core.sessions.call(OPERATOR_CALLER, opened)
        assert session.grants[0].granted == 95 * MANY_MB
        old = await snapshot(core.client)
        ended = replace(session_call("s", RELEASE, 1, 0, 0), session_id=session.id)
        await core.sessions.call(OPERATOR_CALLER, ended)
        await bring_back(core.client, old)
        assert (await core.use(first, 50 * MANY_MB, "b")).outcome is Outcome.CHARGED


async def test_nobody_is_refused_for_what_lies_in_a_cell_that_is_back(valkey_url, sqlite_url, tmp_path):
    ledger = f"sqlite+aiosqlite:///{tmp_path / 'ledger.sqlite'}"
    async with many(ManyTerms(64, 100 * PRICE), valkey_url, sqlite_url, ledger, renewing=False) as core:
        assert (await core.use(core.endpoint_in(0), MANY_MB, "a")).outcome is Outcome.CHARGED
        second = replace(session_call("s", CREATE, 0, 0, 95 * MANY_MB), endpoint_id=core.endpoint_in(1))
        session = await core.sessions.call(OPERATOR_CALLER, second)
        await core.sessions.call(OPERATOR_CALLER, replace(session_call("s", RELEASE, 1, 0, 0), session_id=session.id))
        core.kit.escrow._silent_until[1] = asyncio.get_running_loop().time() + 60  # its Valkey was away a moment ago
        assert (await core.use(core.endpoint_in(0), 50 * MANY_MB, "b")).outcome is Outcome.CHARGED


async def position(engine: Engine) -> tuple[int, int] | None:
    return await engine.position()


async def test_a_reader_that_goes_away_ends_no_rebuild(valkey_url, sqlite_url):
    async with world(example(), valkey_url, sqlite_url) as core:
        await core.use(MB, "x")
        await core.fold()
        await core.client.flushall()
        reading = asyncio.create_task(core.cell.read(position))
        while not await core.client.hget("{c0}m", "building"):
            await asyncio.sleep(0)
        reading.cancel()
        async with asyncio.timeout(5):  # one that was ended in the middle is taken to be alive for 15 s
            assert await core.cell.read(position) == (2, 1)


async def test_what_is_lost_while_it_is_read_is_read_again(valkey_url, sqlite_url):
    async with world(example(), valkey_url, sqlite_url) as core:
        await core.use(MB, "x")
        losses = iter([core.client.flushall])

        async def look(engine: Engine) -> dict[str, Holder]:
            for lose in losses:
                await lose()
            return await engine.holders([ENDPOINT])

        assert (await core.cell.read(look))[ENDPOINT].buckets[0].remaining == 499 * MB
