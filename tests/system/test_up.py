"""``meterline up`` with the real services: it starts, answers, resumes, survives the death of a part, and leaves nothing."""

import asyncio
import contextlib
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

START_TIMEOUT_S = 60
DOORS = ("gateway", "accounts", "catalog", "endpoints", "rating")


class Meterline:
    """A running ``meterline up``."""

    def __init__(self, process: asyncio.subprocess.Process, description: dict[str, Any]) -> None:
        self.process = process
        self.description = description

    def part(self, *words: str) -> psutil.Process:
        """The process of one part, by the end of its command line."""
        (found,) = [
            c for c in psutil.Process(self.process.pid).children() if tuple(c.cmdline()[-len(words) :]) == words
        ]
        return found

    async def get(self, path: str) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.description['operator_key']}"}
        async with httpx.AsyncClient(base_url=self.description["gateway"], trust_env=False) as client:
            return await client.get(path, headers=headers)

    async def until_ready(self) -> None:
        async with asyncio.timeout(START_TIMEOUT_S):
            while (await self.get("/readyz")).status_code != httpx.codes.OK:
                await asyncio.sleep(0.1)


def free_ports() -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in DOORS]
        for door in sockets:
            door.bind(("127.0.0.1", 0))
        return [door.getsockname()[1] for door in sockets]


@contextlib.asynccontextmanager
async def meterline_up(folder: Path) -> AsyncIterator[Meterline]:
    ports = [word for name, port in zip(DOORS, free_ports(), strict=True) for word in (f"--{name}-port", str(port))]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "cli", "--json", "up", "--data-dir", folder, "--metrics-port", "0", *ports,
        stdout=asyncio.subprocess.PIPE, stderr=(folder.parent / "messages").open("ab"),
    )  # fmt: skip
    try:
        assert process.stdout
        async with asyncio.timeout(START_TIMEOUT_S):
            line = await process.stdout.readline()
        assert line, (folder.parent / "messages").read_text()
        yield Meterline(process, json.loads(line))
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
            await process.wait()


@pytest.mark.slow
async def test_it_starts_answers_stops_and_resumes_the_same_data(tmp_path: Path):
    seen = []
    for _ in range(2):
        async with meterline_up(tmp_path / "data") as system:
            parts = psutil.Process(system.process.pid).children()
            me = await system.get("/v1/me")
            assert me.status_code == httpx.codes.OK
            seen.append((system.description["operator_key"], me.json()["account_id"]))
            system.process.send_signal(signal.SIGTERM)
            assert await system.process.wait() == 0
            assert not any(part.is_running() for part in parts)
    assert seen[0] == seen[1]
    assert "was killed" not in (tmp_path / "messages").read_text()


@pytest.mark.slow
async def test_a_part_that_is_killed_comes_back(tmp_path: Path):
    async with meterline_up(tmp_path / "data") as system:
        for words in (("services.accounts",), ("services.rating",), ("services.rating", "fold")):
            victim = system.part(*words)
            victim.kill()
            psutil.wait_procs([victim], timeout=5)
            async with asyncio.timeout(START_TIMEOUT_S):
                while (
                    f"{words[-1].removeprefix('services.')} is ready again" not in (tmp_path / "messages").read_text()
                ):
                    await asyncio.sleep(0.1)
            await system.until_ready()


@pytest.mark.slow
async def test_nothing_outlives_a_launcher_that_is_killed(tmp_path: Path):
    async with meterline_up(tmp_path / "data") as system:
        parts = psutil.Process(system.process.pid).children()
        system.process.kill()
        await system.process.wait()
        _gone, alive = psutil.wait_procs(parts, timeout=5)
        assert [part.cmdline() for part in alive if part.status() != psutil.STATUS_ZOMBIE] == []
    async with meterline_up(tmp_path / "data") as again:
        assert (await again.get("/v1/me")).status_code == httpx.codes.OK
