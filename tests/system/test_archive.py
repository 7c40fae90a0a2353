"""`meterline archive`, as whoever runs the system calls it, and what `verify` and `rebuild` make of it."""

import asyncio
import time
from pathlib import Path

import pytest

from cli.datafolder import DataFolder
from services.rating.engine.records import read_segment
from services.rating.storage.archive import Archive
from services.rating.storage.journal import Journal
from services.rating.storage.ledger import Ledger
from services.rating.usecases.archiving import Archiving, Moved
from services.runtime.database import Database
from tests.system.launching import launched
from tests.system.market import build_market
from tests.system.steady import Load
from tests.system.stranger import Stranger
from tests.system.tooling import tool


async def move_what_is_decided(folder: Path, file: Path) -> Moved:
    """What `meterline archive` would do in a week; waits until some of it is in the books."""
    journal, ledger = (Database(DataFolder(folder).database_url(name)) for name in ("journal", "rating"))
    archive = Archive(journal, file)
    await archive.prepare()
    archiving = Archiving(Journal(journal, read_segment), Ledger(ledger), time.time_ns() // 1_000_000)
    async with asyncio.timeout(20):
        while (moved := await archiving.run(0, archive, lambda _: None)).last < moved.first:
            await asyncio.sleep(0.1)
    for database in (archive, journal, ledger):
        await database.close()
    return moved


@pytest.mark.slow
async def test_what_is_moved_while_charging_goes_on_is_read_from_the_archive(tmp_path: Path):
    folder, files = tmp_path / "data", [tmp_path / "old.sqlite", tmp_path / "older.sqlite"]
    with launched("embedded", tmp_path, {}) as system:
        assert Path(system.description["data_folder"]) == folder
        async with Stranger.connected(system.description) as operator:
            load = await Load.on(await build_market(operator))
            async with asyncio.TaskGroup() as group:
                group.create_task(load.run())
                await load.more(100)
                first = await move_what_is_decided(folder, files[1])
                await load.more(100)
                second = await move_what_is_decided(folder, files[0])
                await load.more(50)
                load.stop()
        assert 0 < first.last < second.first == first.last + 1 <= second.last
        status, _, said = await tool(str(folder), {}, "verify")
        assert (status, "meterline rebuild` take --archive" in " ".join(said.split())) == (2, True), said
        named = [word for file in files for word in ("--archive", str(file))]
        for command in (["verify"], ["rebuild", "--ledger"], ["rebuild", "--valkey", "--from-journal"], ["verify"]):
            status, found, said = await tool(str(folder), {}, *command, *named)
            assert (status, (found or {}).get("findings", [])) == (0, []), said
        status, young, _ = await tool(str(folder), {}, "archive", "--to", str(files[0]))
        assert (status, [(each["first"], each["last"]) for each in young["cells"]]) == (
            0,
            [(second.last + 1, second.last)],
        )


async def test_what_cannot_be_archived_is_told(tmp_path: Path):
    for command, why in (
        (["archive", "--days", "90"], "Missing option '--to'"),
        (["archive", "--to", str(tmp_path / "a"), "--days", "6"], "6 is not in the range x>=7"),
        (["archive", "--to", str(tmp_path / "a")], "There is no journal at"),
        (["verify", "--archive", str(tmp_path / "b")], "does not exist"),
    ):
        status, found, said = await tool(str(tmp_path), {}, *command)
        assert (status, found) == (2, None)
        assert why in " ".join(said.split())
    assert list(tmp_path.iterdir()) == []
