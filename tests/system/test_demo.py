"""``meterline demo`` in small, with the real services: it checks itself, and a second run says the same."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

TIMEOUT_S = 100
SIZE = ("--endpoints", "120", "--records", "2400", "--seed", "5")
DOORS = ("gateway", "accounts", "catalog", "endpoints", "rating")
LAWS = 10


async def meterline(*arguments: str, folder: Path) -> tuple[int, Any, str]:
    """Run a command; returns its status, its result and what else it said."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("METERLINE_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "cli", "--json", *arguments, "--data-dir", folder,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment,
    )  # fmt: skip
    try:
        async with asyncio.timeout(TIMEOUT_S):
            out, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
            await process.wait()
    return process.returncode or 0, json.loads(out) if out else None, said.decode()


@contextlib.asynccontextmanager
async def running(folder: Path) -> AsyncIterator[None]:
    """A ``meterline up`` on the folder."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in DOORS]
        for door in sockets:
            door.bind(("127.0.0.1", 0))
        ports = [f"--{name}-port={door.getsockname()[1]}" for name, door in zip(DOORS, sockets, strict=True)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "cli", "--json", "up", "--data-dir", folder, "--metrics-port=0", *ports,
        stdout=asyncio.subprocess.PIPE, stderr=(folder.parent / "messages").open("ab"),
    )  # fmt: skip
    try:
        assert process.stdout
        async with asyncio.timeout(TIMEOUT_S):
            assert await process.stdout.readline(), (folder.parent / "messages").read_text()
        yield
    finally:
        process.send_signal(signal.SIGINT)
        await process.wait()


@pytest.mark.slow
@pytest.mark.requirement("R052", "R255", "R256", "R264", "R271", "R275", "R276", "R277", "R278", "R284")
async def test_the_demo_starts_its_own_system_and_every_check_holds(tmp_path: Path):
    file = tmp_path / "usage.csv"
    status, result, said = await meterline("demo", *SIZE, "--usage-file", str(file), folder=tmp_path / "nothing")
    assert status == 0, said
    assert len(result["checks"]) == LAWS
    assert [check for check in result["checks"] if not check["holds"]] == []
    assert len(file.read_text().splitlines()) == 2401
    assert not (tmp_path / "nothing").exists(), "a demo of its own leaves nothing behind"
    assert result["accounts"][0]["account"] == "operator"
    reasons = {refusal["reason"] for account in result["accounts"] for refusal in account["refused"]}
    assert reasons >= {"NO_VALID_ADDON", "NETWORK_NOT_ALLOWED", "SERVICE_BARRED", "BALANCE_DEPLETED"}


@pytest.mark.slow
async def test_a_second_run_on_the_same_data_gives_the_same_statement(tmp_path: Path):
    folder = tmp_path / "data"
    async with running(folder):
        status, first, said = await meterline("demo", *SIZE, folder=folder)
        assert status == 0, said
        status, second, said = await meterline("demo", *SIZE, folder=folder)
        assert status == 0, said
        assert second["accounts"] == first["accounts"]
        (file,) = (folder / "demo").glob("*.csv")
        status, summary, said = await meterline("charge", str(file), folder=folder)
        assert status == 0, said
        assert summary["records"] == summary["replayed"] == 2400
        assert summary["levels"] == []
        enterprise = next(account for account in first["accounts"] if account["account"] == "Duna Telemetry")
        status, found, said = await meterline("balances", "--account", enterprise["account_id"], folder=folder)
        assert status == 0, said
        assert int(found["balances"][-1]["credit_limit"]) > 0
