"""`meterline verify`, as whoever runs the system calls it: while it runs and when it is stopped."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from tests.system.launching import System, launched, only_on
from tests.system.market import MB, build_market, usage
from tests.system.steady import Load
from tests.system.stranger import Stranger
from tests.system.tooling import assert_sound, stores_of, tool


@pytest.mark.slow
async def test_nothing_is_found_under_load(system: System, operator: Stranger, request: pytest.FixtureRequest):
    only_on("postgresql", system)
    load = await Load.on(await build_market(operator))
    folder = system.description["data_folder"]
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run())
        await load.more(300)
        first = await assert_sound(folder, stores_of(system.kind, request))
        second = await assert_sound(folder, stores_of(system.kind, request))
        load.stop()
    assert {cell["state"] for cell in (*first, *second)} == {"compared"}
    before, after = (sum(cell["segments"] for cell in cells) for cells in (first, second))
    assert after > before > 0, "it went on charging"


@pytest.mark.slow
async def test_a_stopped_system_is_examined_too_and_damage_is_named(tmp_path: Path):
    with launched("embedded", tmp_path, {}) as system:
        async with Stranger.connected(system.description) as operator:
            market = await build_market(operator)
            endpoint = await market.endpoint(addons=[market.addon_a])
            load = Load(market, [endpoint], [])
            for _ in range(5):
                await load.charge([usage(endpoint, MB) for _ in range(10)])
    folder = str(tmp_path / "data")
    (about,) = await assert_sound(folder, {})
    assert about["state"] == "not compared: Valkey does not answer"
    with sqlite3.connect(tmp_path / "data" / "journal.sqlite") as journal:
        journal.execute("UPDATE segment SET images = substr(images, 1, 10) WHERE sequence = 3")
    status, found, said = await tool(folder, {}, "verify")
    assert status == 1, said
    (finding,) = found["findings"]
    assert (finding["code"], finding["place"]) == ("SEGMENT_CORRUPT", "cell 0 segment 3")
    status, found, said = await tool(str(tmp_path / "nowhere"), {}, "verify")
    assert (status, found) == (1, None)
    assert "there is no data folder" in said
