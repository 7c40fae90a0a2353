"""The core on a Valkey Cluster of three masters: eight cells spread over them, each in one slot."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import cast

import pytest_asyncio
from redis.asyncio import Redis

from services.common.errors import UnavailableError
from services.rating.domain.escrow import Kind
from services.rating.domain.events import Answer
from services.rating.domain.reasons import Outcome
from services.rating.engine.driver import Engine
from services.rating.usecases.cells import Cell
from services.runtime.valkey_cluster import cluster_client
from tests.integration.rating.many import MB, PRICE, ManyTerms, count, many
from tests.integration.rating.test_escrow import burst, use_up
from tests.valkey_cluster import valkey_cluster


@pytest_asyncio.fixture
async def cluster(tmp_path):
    async with valkey_cluster(tmp_path) as started:
        yield started


async def again(call: Callable[..., Awaitable[Answer]], *arguments: object) -> Answer:
    """Call until there is an answer, as clients do."""
    async with asyncio.timeout(20):
        while True:
            with suppress(UnavailableError):
                return await call(*arguments)
            await asyncio.sleep(0.2)


def meta_key(cell: Cell) -> str:
    return f"{{c{cell.engine.cell}}}m"


async def test_cells_are_spread_over_masters_and_no_call_crosses_a_slot(cluster, sqlite_url, tmp_path):
    ledger = f"sqlite+aiosqlite:///{tmp_path / 'ledger.sqlite'}"
    async with many(ManyTerms(64, 1_500 * PRICE), cluster.url, sqlite_url, ledger) as core:
        answered = await burst(core, 2_000)
        assert count((a for _, _, a in answered), Outcome.CHARGED) == 1_500
        masters = Counter([await cluster.master_of(meta_key(cell)) for cell in core.cells])
        assert len(masters) == 3
        assert all(calls > 0 for calls in await cluster.counted("fcall"))
        assert sum(await cluster.counted("command|getkeys")) == 0  # the client knows where a call goes
        for number in range(3):
            async with cluster.client(number) as client:
                errors = await client.info("errorstats")
                assert "errorstat_CROSSSLOT" not in errors
                assert "errorstat_MOVED" not in errors
        await core.fold()
        standing = await core.standing(Kind.CREDIT)
        assert standing.total == sum(standing.spent.values()) == await core.charged()


async def test_an_emptied_cluster_is_rebuilt_cell_by_cell(cluster, sqlite_url, tmp_path):
    ledger = f"sqlite+aiosqlite:///{tmp_path / 'ledger.sqlite'}"
    async with many(ManyTerms(64, 1_000 * PRICE), cluster.url, sqlite_url, ledger) as core:
        await burst(core, 400)
        await core.fold()
        await burst(core, 200, seed=2)
        for number in range(3):
            async with cluster.client(number) as client:
                await client.flushall()
                await client.function_flush()
        repeated = await core.use(core.endpoint_in(0), MB, "b2-0")
        assert repeated.outcome is Outcome.CHARGED
        answered = await burst(core, 600, seed=3)
        assert count((a for _, _, a in answered), Outcome.CHARGED) in {399, 400}  # b2-0 may have been in cell 0
        assert await core.charged() == 1_000 * PRICE


async def test_a_master_that_fails_takes_only_its_own_cells_along(cluster, sqlite_url, tmp_path):
    ledger = f"sqlite+aiosqlite:///{tmp_path / 'ledger.sqlite'}"
    async with many(ManyTerms(64, 10**12), cluster.url, sqlite_url, ledger) as core:
        await burst(core, 200)
        homes = {cell.engine.cell: await cluster.master_of(meta_key(cell)) for cell in core.cells}
        failed = homes[0]
        os.kill(cluster.masters[failed].pid, signal.SIGSTOP)  # it hangs, as a machine that is gone does
        try:
            gone = asyncio.create_task(core.use(core.endpoint_in(0), MB, "gone"))
            for number, home in homes.items():
                if home != failed:
                    answer = await asyncio.wait_for(core.use(core.endpoint_in(number), MB, f"x{number}"), 2)
                    assert answer.outcome is Outcome.CHARGED
            os.kill(cluster.masters[failed].pid, signal.SIGKILL)
            for number, home in homes.items():
                if home != failed:
                    answer = await asyncio.wait_for(core.use(core.endpoint_in(number), MB, f"y{number}"), 2)
                    assert answer.outcome is Outcome.CHARGED
            refused = await asyncio.gather(gone, return_exceptions=True)
            assert isinstance(refused[0], UnavailableError)
        finally:
            await cluster.masters[failed].stop()
        async with cluster.masters[failed]:  # it comes back with nothing in it
            answer = await again(core.use, core.endpoint_in(0), MB, "gone")
            assert answer.outcome is Outcome.CHARGED
            assert await core.charged() == (200 + 2 * sum(home != failed for home in homes.values()) + 1) * PRICE


async def test_calls_whose_connections_another_closes_are_told_to_repeat(cluster):
    """As all are that are under way when one call finds a node gone."""
    client = cluster_client(cluster.url)
    engines = [Engine(cast("Redis", client), number) for number in range(8)]
    told: list[object] = []
    loop = asyncio.get_running_loop()
    end = loop.time() + 1

    async def ask(engine: Engine) -> None:
        while loop.time() < end:
            told.extend(await asyncio.gather(engine.position(), return_exceptions=True))

    async def close() -> None:
        while loop.time() < end:
            await asyncio.sleep(0.003)
            await client.aclose()

    await asyncio.gather(close(), *(ask(engine) for engine in engines for _ in range(4)))
    assert {type(answer) for answer in told} == {type(None), UnavailableError}


async def test_a_cell_may_be_moved_to_another_master_under_load(cluster, sqlite_url, tmp_path):
    ledger = f"sqlite+aiosqlite:///{tmp_path / 'ledger.sqlite'}"
    async with many(ManyTerms(64, 3_000 * PRICE), cluster.url, sqlite_url, ledger) as core:
        await burst(core, 100)
        key = meta_key(core.cells[2])
        source = await cluster.master_of(key)
        load = asyncio.create_task(burst(core, 4_000, seed=2))
        await asyncio.sleep(0.2)
        await cluster.move_slot(key, (source + 1) % 3)
        assert count((a for _, _, a in await load), Outcome.CHARGED) == 2_900
        assert await cluster.master_of(key) == (source + 1) % 3
        assert (await core.use(core.endpoint_in(2), MB, "b1-0", mode=1)).outcome is not None
        assert await core.charged() == 3_000 * PRICE


async def test_a_master_that_hangs_does_not_hold_up_leases_to_other_cells(cluster, sqlite_url, tmp_path):
    ledger = f"sqlite+aiosqlite:///{tmp_path / 'ledger.sqlite'}"
    terms = ManyTerms(64, 1_000 * PRICE)
    async with many(terms, cluster.url, sqlite_url, ledger) as core:
        await burst(core, 200)
        homes = [await cluster.master_of(meta_key(cell)) for cell in core.cells]
        hanging = homes[0]
        alive = [float(home != hanging) for home in homes]
        os.kill(cluster.masters[hanging].pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(20):
                answered = await burst(core, 1_000, alive, seed=2)
        finally:
            os.kill(cluster.masters[hanging].pid, signal.SIGCONT)
        before = count((a for _, _, a in answered), Outcome.CHARGED)
        await again(core.use, core.endpoint_in(0), MB, "back")
        # What the cells that hung had leased comes when they are heard again.
        answered = await use_up(core, 1_000 * PRICE)
        after, charged = count((a for _, _, a in answered), Outcome.CHARGED), await core.charged()
        assert 200 + before + after <= charged // PRICE <= 200 + before + after + 1
        assert charged == 1_000 * PRICE
