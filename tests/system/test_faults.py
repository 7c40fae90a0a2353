"""`kill -9` of every process under load: what was acknowledged is in the books, once, and nothing else is."""

import asyncio
import json
import os
import random
import sys
from pathlib import Path

import grpc
import psutil
import pytest

from cli.charge.records import write_csv
from meterline.rating.v1 import charging_pb2
from services.runtime.valkey import EmbeddedValkey, connect
from tests.postgres import EmbeddedPostgres
from tests.system.launching import System, only_on
from tests.system.market import Market, usage
from tests.system.steady import Load, everything, until
from tests.system.tooling import assert_sound, stores_of

VICTIMS = ("rating", "fold", "accounts", "valkey", "catalog", "gateway", "endpoints", "rating")
COMEBACK_S = 30
RECORDS = 12_000
CALM_S, SEED = 0.5, 7
"""How long a victim is waited for at most, at random."""


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_every_process_is_killed_under_load_and_nothing_is_lost_or_doubled(
    system: System, market: Market, request: pytest.FixtureRequest
):
    only_on("postgresql", system)
    load, draw = await Load.on(market), random.Random(SEED)
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run())
        await load.more(100)
        for victim in VICTIMS:
            await asyncio.sleep(draw.uniform(0, CALM_S))
            before = system.comebacks(victim)
            system.kill(victim)
            await until(lambda name=victim, count=before: system.comebacks(name) > count, COMEBACK_S)
            await load.more(100)
        load.stop()
    assert load.repeats > 0, "the faults were felt"
    await load.audit()
    await assert_sound(system.description["data_folder"], stores_of(system.kind, request))


@pytest.mark.slow
async def test_a_valkey_emptied_under_load_is_rebuilt_from_the_journal(system: System, market: Market):
    load = await Load.on(market)
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run())
        for _ in range(3):
            await load.more(300)
            await empty_valkey(system)
        await load.more(300)
        load.stop()
    await load.audit()


@pytest.mark.slow
@pytest.mark.parametrize("system", ["embedded"], indirect=True)
async def test_a_valkey_that_hangs_is_told_and_gone_on_with(system: System, market: Market):
    load = await Load.on(market)
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run())
        await load.more(100)
        valkey = system.part("valkey")
        valkey.suspend()
        try:
            with pytest.raises(grpc.aio.AioRpcError) as told:
                await charge_patiently(market, usage(load.rich[0], 1))
            assert told.value.code() == grpc.StatusCode.UNAVAILABLE, "an answer, not silence"
        finally:
            valkey.resume()
        await load.more(300)
        load.stop()


@pytest.mark.slow
@pytest.mark.parametrize("system", ["postgresql"], indirect=True)
async def test_a_postgresql_that_crashes_under_load_is_waited_for(market: Market, postgres_server: EmbeddedPostgres):
    load = await Load.on(market)
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run())
        for _ in range(2):
            await load.more(200)
            crash(postgres_server)
        await load.more(200)
        load.stop()
    await load.audit()


async def charge_patiently(market: Market, event: charging_pb2.UsageEvent) -> charging_pb2.ChargeResult:
    """Charge one event with a deadline longer than any that the system sets itself."""
    request = charging_pb2.ChargeEventRequest(event=event)
    return await market.operator.charging.ChargeEvent(request, metadata=market.operator.metadata, timeout=60)


def crash(server: EmbeddedPostgres) -> None:
    """Kill one of its processes: the server then ends all the others too, recovers from its log and goes on."""
    processes = psutil.Process(server._server.pid).children()
    next(one for one in processes if "system_rating_journal" in " ".join(one.cmdline())).kill()


async def empty_valkey(system: System) -> None:
    """Remove all keys and functions, as if it had come back without its data."""
    client = connect(EmbeddedValkey(Path(system.description["data_folder"]) / "valkey").url)
    await client.flushall()
    await client.function_flush()
    await client.aclose()


@pytest.mark.slow
async def test_the_same_file_from_two_clients_at_once_is_charged_once(system: System, market: Market, tmp_path: Path):
    load = await Load.on(market)
    endpoints = [*load.rich, *load.poor]
    events = [usage(endpoints[number % len(endpoints)], 1000) for number in range(RECORDS)]
    file = tmp_path / "usage.csv"
    file.write_text("".join(write_csv(events)))
    clients = [asyncio.create_task(charge_file(system, file)) for _ in range(2)]
    while not (await market.reseller.get("/v1/usage-summaries"))["summaries"]:
        await asyncio.sleep(0.02)
    system.kill("valkey")
    assert not any(client.done() for client in clients), "in the middle of both"
    summaries = await asyncio.gather(*clients)
    assert [summary["records"] for summary in summaries] == [RECORDS, RECORDS]
    assert sum(summary["replayed"] for summary in summaries) == RECORDS, "each record was new to one of the two"
    records = await everything(market.reseller, "usage-records", account_id=market.enterprise.account_id)
    assert sorted(record["event"]["event_id"] for record in records) == sorted(event.event_id for event in events)


async def charge_file(system: System, file: Path) -> dict[str, int]:
    """Run ``meterline charge`` on it."""
    command = [sys.executable, "-P", "-m", "cli", "--json", "charge", str(file)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("METERLINE_")}
    environment["METERLINE_DATA_DIR"] = system.description["data_folder"]
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, said = await process.communicate()
    assert process.returncode == 0, said.decode()
    summary: dict[str, int] = json.loads(out)
    return summary
