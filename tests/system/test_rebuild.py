"""`meterline rebuild`, as whoever runs the system calls it: what `meterline verify` names is repaired, under load."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from cli.datafolder import DataFolder
from services.rating.storage.tables import usage
from services.runtime.database import Database
from services.runtime.valkey import EmbeddedValkey, connect
from tests.system.launching import System, only_at_length
from tests.system.market import build_market
from tests.system.steady import Load
from tests.system.stranger import Stranger
from tests.system.tooling import assert_sound, stores_of, tool


async def forget_a_balance(folder: str, endpoint_id: str) -> None:
    client = connect(EmbeddedValkey(Path(folder) / "valkey").url)
    (key,) = [key async for key in client.scan_iter(f"*h:{endpoint_id}")]
    assert await client.delete(key) == 1
    await client.aclose()


async def change_a_record(url: str, endpoint_id: str) -> None:
    database = Database(url)
    async with database.transaction() as connection:
        first = sa.select(sa.func.min(usage.c.event_id)).where(usage.c.endpoint_id == endpoint_id).scalar_subquery()
        changed = await connection.execute(sa.update(usage).where(usage.c.event_id == first).values(quantity=1))
    assert changed.rowcount == 1
    await database.close()


@pytest.mark.slow
async def test_what_differs_is_repaired_while_charging_goes_on(
    system: System, operator: Stranger, request: pytest.FixtureRequest
):
    only_at_length()
    folder, stores = system.description["data_folder"], stores_of(system.kind, request)
    load = await Load.on(await build_market(operator))

    async def meterline(*arguments: str) -> tuple[int, dict[str, Any]]:
        status, found, said = await tool(folder, stores, *arguments)
        assert found, said
        return status, found

    async with asyncio.TaskGroup() as group:
        group.create_task(load.run())
        await load.more(100)
        load.stop()
    await assert_sound(folder, stores)
    await forget_a_balance(folder, load.rich[0])
    ledger = stores.get("METERLINE_RATING_DATABASE_URL", DataFolder(Path(folder)).database_url("rating"))
    await change_a_record(ledger, load.rich[1])
    status, found = await meterline("verify")
    assert (status, found["counts"]) == (1, {"BOOKS_ROW_DIFFERS": 1, "STATE_MISSING": 1})
    repairs = [each["repair"] for each in found["findings"]]
    assert repairs == ["meterline rebuild --ledger", "meterline rebuild --valkey"]
    status, planned = await meterline("rebuild", "--valkey", "--dry-run")
    assert (status, planned["dry_run"]) == (0, True)
    assert (await meterline("verify"))[0] == 1, "a dry run repairs nothing"

    status, state = await meterline("rebuild", "--valkey")
    assert status == 0
    assert [cell["epoch"] for cell in state["cells"]] == [cell["epoch"] for cell in planned["cells"]]
    load._stop = False
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run())
        await load.more(50)
        status, books = await meterline("rebuild", "--ledger")
        assert (status, sum(books["segments"].values()) > 0) == (0, True)
        await load.more(50)
        assert (await meterline("rebuild", "--valkey", "--from-journal"))[0] == 0
        await load.more(50)
        await assert_sound(folder, stores)
        load.stop()
    await load.audit()
    await assert_sound(folder, stores)


@pytest.mark.slow
async def test_what_cannot_be_rebuilt_is_told(tmp_path: Path):
    folder = tmp_path / "data"
    folder.mkdir()
    for arguments, why in (
        (["--valkey"], "There is no journal at"),
        (["--ledger", "--cell", "0"], "--ledger takes neither --cell"),
        ([], "say what: --valkey or --ledger"),
    ):
        status, found, said = await tool(str(folder), {}, "rebuild", *arguments)
        assert (status > 0, found) == (True, None)
        assert why in " ".join(said.split())
