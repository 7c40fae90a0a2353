"""A whole Meterline started by its launcher, ``meterline up``, as the separate processes that a user gets."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from tests.postgres import EmbeddedPostgres

DOORS = ("gateway", "accounts", "catalog", "endpoints", "rating")
DATABASES: Mapping[str, str] = {
    "METERLINE_ACCOUNTS_DATABASE_URL": "system_accounts",
    "METERLINE_CATALOG_DATABASE_URL": "system_catalog",
    "METERLINE_ENDPOINTS_DATABASE_URL": "system_endpoints",
    "METERLINE_RATING_JOURNAL_URL": "system_rating_journal",
    "METERLINE_RATING_DATABASE_URL": "system_rating_ledger",
}
PARTS: Mapping[str, tuple[str, ...]] = {
    **{name: (f"services.{name}",) for name in DOORS[1:]},
    "fold": ("services.rating", "fold"),
    "gateway": ("gateway",),
}
"""How the command line of each process ends; Valkey's is told by its program."""
LONG = "METERLINE_TEST_LONG_FAULTS" in os.environ
"""Whether tests that take long run on every kind of stores, and faults last long."""
START_TIMEOUT_S = 90
STOP_TIMEOUT_S = 40


def only_at_length() -> None:
    """Skip a test that takes long and of which shorter ones show the parts, unless METERLINE_TEST_LONG_FAULTS is set."""
    if not LONG:
        pytest.skip("takes long; METERLINE_TEST_LONG_FAULTS=1 runs it")


def only_on(kind: str, system: "System") -> None:
    """Skip a test that takes long on the other kind of stores, unless METERLINE_TEST_LONG_FAULTS is set."""
    if system.kind != kind and not LONG:
        pytest.skip(f"takes long; METERLINE_TEST_LONG_FAULTS=1 runs it on {system.kind} too")


@dataclass(frozen=True, slots=True)
class System:
    """A running Meterline.

    Attributes:
        kind: the stores that it runs on, ``embedded`` or ``postgresql``.
        process: the launcher.
        description: what ``meterline --json up`` printed: addresses and the operator's key.
        messages: what the launcher told since, one line an event.
    """

    kind: str
    process: subprocess.Popen[str]
    description: Mapping[str, str]
    messages: Path

    def part(self, name: str) -> psutil.Process:
        """The process of one part."""
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                line = child.cmdline()
                if name == "valkey" and line and "valkey" in Path(line[0]).name:
                    return child
                if tuple(line[-len(PARTS.get(name, "-")) :]) == PARTS.get(name):
                    return child
        raise LookupError(f"{name} does not run; the launcher said:\n{self.messages.read_text()}")

    def kill(self, name: str) -> None:
        """End a part as ``kill -9`` does, and see to it that it is dead."""
        victim = self.part(name)
        victim.kill()
        psutil.wait_procs([victim], timeout=5)

    def comebacks(self, name: str) -> int:
        """How often a part was started again so far."""
        return self.messages.read_text().count(f"{name} is ready again")


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody uses at the moment."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for door in sockets:
            door.bind(("127.0.0.1", 0))
        return [door.getsockname()[1] for door in sockets]


@contextlib.contextmanager
def launched(kind: str, folder: Path, stores: Mapping[str, str]) -> Iterator[System]:
    """Run ``meterline up`` on a data folder.

    Args:
        kind: what to call it.
        folder: for the data and the launcher's messages.
        stores: environment variables of the stores to use instead of the embedded ones.
    """
    ports = [f"--{name}-port={port}" for name, port in zip(DOORS, free_ports(len(DOORS)), strict=True)]
    options = ["--data-dir", str(folder / "data"), "--metrics-port=0", *ports]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("METERLINE_")} | dict(stores)
    messages = folder / "messages"
    with messages.open("ab") as told:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "cli", "--json", "up", *options],
            stdout=subprocess.PIPE, stderr=told, env=environment, text=True,
        )  # fmt: skip
    try:
        late = threading.Timer(START_TIMEOUT_S, process.kill)
        late.start()
        assert process.stdout is not None
        line = process.stdout.readline()
        late.cancel()
        assert line, f"meterline up did not start:\n{messages.read_text()}"
        yield System(kind, process, json.loads(line), messages)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def postgres_stores(server: EmbeddedPostgres) -> Iterator[dict[str, str]]:
    """One fresh database a store, gone afterwards."""
    administer(server, *(f"CREATE DATABASE {name}" for name in DATABASES.values()))
    yield {variable: server.url(name) for variable, name in DATABASES.items()}
    administer(server, *(f"DROP DATABASE {name} WITH (FORCE)" for name in DATABASES.values()))


def administer(server: EmbeddedPostgres, *statements: str) -> None:
    """Run statements as the superuser, outside of any transaction."""

    async def run() -> Any:
        connection = await asyncpg.connect(server.url("postgres").replace("+asyncpg", "", 1))
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    with ThreadPoolExecutor(1) as thread:  # a test's own event loop is none of its business
        thread.submit(asyncio.run, run()).result()
