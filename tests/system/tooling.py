"""Runs the command line's tools on a system that the tests started, as whoever runs it would."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from tests.postgres import EmbeddedPostgres
from tests.system.launching import DATABASES


def stores_of(kind: str, request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment variables of a system's stores, where it does not use the embedded ones."""
    if kind == "embedded":
        return {}
    server: EmbeddedPostgres = request.getfixturevalue("postgres_server")
    return {variable: server.url(name) for variable, name in DATABASES.items()}


async def tool(folder: str, stores: Mapping[str, str], *arguments: str) -> tuple[int, Any, str]:
    """Run `meterline --json ...`; returns its status, its result and what it said besides."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("METERLINE_")} | dict(stores)
    environment["METERLINE_DATA_DIR"] = folder
    command = [sys.executable, "-P", "-m", "cli", "--json", *arguments]
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, said = await process.communicate()
    assert process.returncode is not None
    return process.returncode, json.loads(out) if out else None, said.decode()


async def assert_sound(folder: str, stores: Mapping[str, str]) -> list[dict[str, Any]]:
    """See that `meterline verify` finds nothing; returns what it looked at, cell by cell."""
    status, found, said = await tool(folder, stores, "verify")
    assert found, said
    assert (status, found["findings"]) == (0, [])
    cells: list[dict[str, Any]] = found["cells"]
    return cells
