"""`meterline verify`, as whoever runs the system calls it: while it runs and when it is stopped."""

import asyncio
import json
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
            with sqlite3.connect(tmp_path / "data" / "rating.sqlite") as books:
                while not books.execute("SELECT count(*) FROM ledger_entry WHERE sequence > 3").fetchone()[0]:
                    await asyncio.sleep(0.05)
    folder = str(tmp_path / "data")
    (about,) = await assert_sound(folder, {})
    assert about["state"] == "not compared: Valkey does not answer"
    with sqlite3.connect(tmp_path / "data" / "rating.sqlite") as books:
        columns = [row[1] for row in books.execute("PRAGMA table_info(ledger_entry)")]
        copied = ", ".join("number + 1000 * n" if column == "number" else column for column in columns)
        numbers = "WITH RECURSIVE ns(n) AS (SELECT 1 UNION SELECT n + 1 FROM ns WHERE n < 1200)"
        one = "(SELECT * FROM ledger_entry LIMIT 1)"
        books.execute(f"{numbers} INSERT INTO ledger_entry SELECT {copied} FROM {one}, ns")
    status, found, said = await tool(folder, {}, "verify")
    assert (status, found["counts"].get("BOOKS_ROW_UNKNOWN")) == (1, 1200), found["counts"]
    with sqlite3.connect(tmp_path / "data" / "rating.sqlite") as books:
        books.execute("DELETE FROM ledger_entry WHERE number >= 1000")
    assert len(json.dumps(found)) > 65_536, "more than a pipe holds"
    with sqlite3.connect(tmp_path / "data" / "journal.sqlite") as journal:
        journal.execute("UPDATE segment SET images = substr(images, 1, 10) WHERE sequence = 3")
    status, found, said = await tool(folder, {}, "verify")
    assert status == 1, said
    (finding,) = found["findings"]
    assert (finding["code"], finding["place"]) == ("SEGMENT_CORRUPT", "cell 0 segment 3")


@pytest.mark.parametrize("command", [["verify"], ["rebuild", "--ledger"], ["rebuild", "--valkey"]])
async def test_a_damaged_file_is_named(tmp_path: Path, command: list[str]):
    for name in ("journal", "rating"):
        (tmp_path / f"{name}.sqlite").write_bytes(b"no database at all" * 1000)
    status, found, said = await tool(str(tmp_path), {}, *command)
    assert (status, found) == (2, None)
    assert "journal.sqlite is damaged" in said
    assert "Traceback" not in said


async def test_a_folder_that_is_not_there_is_named(tmp_path: Path):
    status, found, said = await tool(str(tmp_path / "nowhere"), {}, "verify")
    assert (status, found) == (2, None)
    assert "there is no data folder" in said
