"""Stores and wires that fail under load: what was acknowledged is in the books once, and all goes on by itself."""

import asyncio
import contextlib
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from cli.charge.records import write_csv
from meterline.rating.v1 import charging_pb2
from services.runtime.health import wrong_with
from services.runtime.valkey import EmbeddedValkey, connect
from tests.postgres import EmbeddedPostgres
from tests.system.launching import LONG, System, free_ports, launched
from tests.system.market import MB, Market, build_market, usage
from tests.system.steady import FEW, Load, everything
from tests.system.stranger import Stranger
from tests.system.tooling import assert_sound, stores_of, tool
from tests.system.wires import Wire, at_random

RECORDS = 6_000
SENDINGS = (2, 2, 1)
"""How often each client sends the file."""
CUT_SHARE, SEED = 0.2, 20
GONE_S = 60 if LONG else 6
"""How long PostgreSQL stays away."""
PATIENCE_S = 60
"""Longer than any deadline that the system sets itself."""


@contextlib.asynccontextmanager
async def loaded(market: Market) -> AsyncIterator[Load]:
    """A load that runs while the block lasts, and goes on for a while after it before the books are looked at."""
    load = await Load.on(market)
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run())
        await load.more(100)
        yield load
        await load.more(300)
        load.stop()
    await load.charge([event for name, event in load.sent.items() if name not in load.answers] or load.batch())
    await load.audit()


async def told(load: Load) -> grpc.aio.AioRpcError:
    """Charge an event that cannot be charged now; returns what is said, which must be UNAVAILABLE and not silence."""
    event, caller = usage(load.rich[0], MB), load.market.operator
    load.sent[event.event_id] = event
    request = charging_pb2.ChargeEventRequest(event=event)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await caller.charging.ChargeEvent(request, metadata=caller.metadata, timeout=PATIENCE_S)
    assert raised.value.code() == grpc.StatusCode.UNAVAILABLE, raised.value.details()
    return raised.value


@pytest.mark.slow
@pytest.mark.parametrize("system", ["embedded"], indirect=True)
async def test_a_file_sent_five_times_by_three_clients_whose_replies_get_lost_is_charged_once(
    system: System, market: Market, tmp_path: Path, request: pytest.FixtureRequest
):
    load = await Load.on(market)
    endpoints = [*load.rich, *load.poor]
    events = [usage(endpoints[number % len(endpoints)], MB) for number in range(RECORDS)]
    file = tmp_path / "usage.csv"
    file.write_text("".join(write_csv(events)))
    host, port = system.description["rating"].split(":")

    async with Wire((host, int(port)), at_random(CUT_SHARE, SEED)) as wire:
        through = {"METERLINE_RATING_ADDRESS": wire.address, "METERLINE_API_KEY": market.operator.key}

        async def client(times: int) -> list[dict[str, Any]]:
            sent = [await tool(system.description["data_folder"], through, "charge", str(file)) for _ in range(times)]
            assert all(status == 0 for status, _, _ in sent), sent
            return [summary for _, summary, _ in sent]

        summaries = [each for client in await asyncio.gather(*map(client, SENDINGS)) for each in client]
    assert wire.cut >= 5
    asked = Counter(event.endpoint_id for event in events)
    passed = sum(asked[name] for name in load.rich) + FEW * len(load.poor)
    assert all(asked[name] > FEW for name in load.poor), "some are refused"
    assert {(each["records"], each["accepted"], each["refused"]) for each in summaries} == {
        (RECORDS, passed, RECORDS - passed)
    }
    records = await everything(market.reseller, "usage-records", account_id=market.enterprise.account_id)
    assert sorted(record["event"]["event_id"] for record in records) == sorted(event.event_id for event in events)
    assert sum(record["outcome"] == "OUTCOME_CHARGED" for record in records) == passed
    await assert_sound(system.description["data_folder"], stores_of(system.kind, request))


async def told_by_health(system: System, wanted: str) -> None:
    """Wait until /readyz says something; empty is ready."""
    url = f"{system.description['gateway']}/readyz"
    async with asyncio.timeout(20):
        while (said := await asyncio.to_thread(wrong_with, url)) != wanted and not (wanted and wanted in said):
            await asyncio.sleep(0.2)


@contextlib.contextmanager
def no_room(process: psutil.Process) -> Iterator[None]:
    """Let a process write to no file: not to its stores, not to its log."""
    _, hard = process.rlimit(psutil.RLIMIT_FSIZE)
    process.rlimit(psutil.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        process.rlimit(psutil.RLIMIT_FSIZE, (hard, hard))


@pytest.mark.slow
@pytest.mark.parametrize("system", ["embedded"], indirect=True)
async def test_a_full_disk_is_told_and_gone_on_with_when_there_is_room(system: System, market: Market):
    restarts = system.comebacks("rating")
    async with loaded(market) as load:
        with no_room(system.part("rating")):
            error = await told(load)
            assert "disk" in (error.details() or ""), "what to do"
            acknowledged = len(load.answers)
            await asyncio.sleep(1)
            assert len(load.answers) == acknowledged, "nothing that cannot be kept"
            await told_by_health(system, "503")
        await told_by_health(system, "")
    await assert_sound(system.description["data_folder"], {})
    assert system.comebacks("rating") == restarts, "without a restart"


DAMAGE = {"torn": lambda blob: blob[: len(blob) // 2], "flipped": lambda blob: bytes([blob[0] ^ 1]) + blob[1:]}


@pytest.mark.slow
@pytest.mark.parametrize("system", ["embedded"], indirect=True)
@pytest.mark.parametrize("damage", DAMAGE if LONG else ["torn"])
async def test_a_damaged_segment_is_found_never_folded_and_gone_on_from_when_restored(
    system: System, market: Market, damage: str
):
    load = await Load.on(market)
    folder = system.description["data_folder"]
    await load.charge(load.batch())
    before = len(await everything(market.operator, "usage-records", account_id=market.enterprise.account_id))
    fold = system.part("fold")
    fold.suspend()
    try:
        for _ in range(3):
            await load.charge(load.batch())
        with sqlite3.connect(Path(folder) / "journal.sqlite") as journal:
            sequence, sound = journal.execute(
                "SELECT sequence, outcomes FROM segment ORDER BY sequence DESC LIMIT 1 OFFSET 1"
            ).fetchone()
            journal.execute("UPDATE segment SET outcomes = ? WHERE sequence = ?", (DAMAGE[damage](sound), sequence))
    finally:
        fold.resume()
    await load.charge(load.batch())
    await asyncio.sleep(1.5)
    status, found, said = await tool(folder, {}, "verify")
    assert status == 1, said
    corrupt = found["findings"][0]
    assert (corrupt["code"], corrupt["place"]) == ("SEGMENT_CORRUPT", f"cell 0 segment {sequence}")
    assert "Restore the segment" in corrupt["repair"]
    assert {each["code"] for each in found["findings"]} == {"SEGMENT_CORRUPT"}, "one damage, one finding"
    page = await market.operator.get("/v1/usage-records", account_id=market.enterprise.account_id, page_size=1000)
    assert len(page["usage_records"]) == before + 20, "what stands before it is folded, nothing from it on"
    system.kill("valkey")  # its state cannot be made again of such a journal
    event, caller = usage(load.rich[0], MB), market.operator
    load.sent[event.event_id] = event
    request = charging_pb2.ChargeEventRequest(event=event)
    with pytest.raises(grpc.aio.AioRpcError, match="checksum") as raised:
        await caller.charging.ChargeEvent(request, metadata=caller.metadata, timeout=PATIENCE_S)
    assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
    await told_by_health(system, "503")
    with sqlite3.connect(Path(folder) / "journal.sqlite") as journal:
        journal.execute("UPDATE segment SET outcomes = ? WHERE sequence = ?", (sound, sequence))
    await told_by_health(system, "")
    await load.charge([event])
    await load.audit()
    await assert_sound(folder, {})


@pytest.mark.slow
async def test_a_failover_to_a_replica_that_lagged_loses_nothing(tmp_path: Path):
    ports = free_ports(2)
    async with (
        EmbeddedValkey(tmp_path / "one", port=ports[0]) as first,
        EmbeddedValkey(tmp_path / "two", port=ports[1]) as second,
        Wire(("127.0.0.1", ports[0])) as wire,
    ):
        stores = {"METERLINE_VALKEY_URL": f"valkey://{wire.address}/0"}
        replica = connect(second.url)
        await replica.replicaof("127.0.0.1", ports[0])
        with contextlib.ExitStack() as stack:
            # beside this loop, which passes on what rating says to Valkey
            system = await asyncio.to_thread(stack.enter_context, launched("failover", tmp_path, stores))
            async with Stranger.connected(system.description) as operator, loaded(await build_market(operator)) as load:
                while (await replica.info("replication"))["master_link_status"] != "up":
                    await asyncio.sleep(0.05)
                await load.more(100)
                held = await replica.dbsize()
                await replica.replicaof("NO", "ONE")
                await load.more(200)
                psutil.Process(first.pid).kill()
                wire.server = ("127.0.0.1", ports[1])
                wire.cut_all()
                assert held > 0, "it lagged, it was not empty"
            await assert_sound(system.description["data_folder"], stores)
            assert system.comebacks("rating") == 0
        await replica.aclose()


@pytest.mark.slow
@pytest.mark.timeout(120 + 2 * GONE_S)
@pytest.mark.parametrize("system", ["postgresql"], indirect=True)
async def test_a_postgresql_that_is_gone_for_long_is_told_and_waited_for(
    system: System, market: Market, postgres_server: EmbeddedPostgres, request: pytest.FixtureRequest
):
    messages = system.messages.read_text()
    async with loaded(market) as load:
        with postgres_server.gone():
            came_back = time.monotonic() + GONE_S
            while time.monotonic() < came_back:
                error = await told(load)
                assert "again" in (error.details() or ""), "what to do"
                await asyncio.sleep(0.5)
            await told_by_health(system, "503")
    await told_by_health(system, "")
    await assert_sound(system.description["data_folder"], stores_of(system.kind, request))
    assert system.messages.read_text() == messages, "no process ended"
