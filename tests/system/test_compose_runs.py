"""The processes of compose.yaml with exactly its commands, environments and health checks, on real stores.

Only host names and ports are others, since there are no containers here.
"""

import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.runtime.valkey import EmbeddedValkey, connect
from tests.compose import COMPOSE, EXAMPLE, composed, recipes
from tests.postgres import EmbeddedPostgres
from tests.system.launching import administer, free_ports

TIMEOUT_S = 60
ORDER = ("accounts", "catalog", "endpoints", "rating", "rating-fold", "gateway")


def made_secrets() -> dict[str, str]:
    """The secrets as .env.example says to make them."""
    return {
        name: subprocess.run(command, shell=True, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S602
        for name, command in recipes(EXAMPLE.read_text()).items()
    }


@contextlib.contextmanager
def databases(server: EmbeddedPostgres, script: str, password: str) -> Iterator[None]:
    """Do what the script of the compose file has psql do: for each name, its statements. All gone afterwards."""
    loop = re.search(r"for name in ([\w ]+);", script)
    statements = re.search(r"<<'SQL'\n(.*?)\nSQL\n", script, re.DOTALL)
    assert loop
    assert statements
    with contextlib.ExitStack() as stack:
        for name in loop[1].split():
            sql = statements[1].replace(':"name"', f'"{name}"').replace(":'password'", f"'{password}'")
            stack.callback(administer, server, f"DROP DATABASE {name} WITH (FORCE)", f"DROP ROLE {name}")
            administer(server, *sql.splitlines())
        yield


class Containers:
    """Stands in for Compose."""

    def __init__(self, content: Mapping[str, Any], postgres: Path, valkey_port: int) -> None:
        self._services = content["services"]
        ports = dict(zip(ORDER, free_ports(len(ORDER)), strict=True))
        self.gateway = f"http://127.0.0.1:{ports['gateway']}"
        self._moved = {
            "@postgres:5432/": f"@/?host={postgres}&database=",
            "@valkey:6379": f"@127.0.0.1:{valkey_port}",
            **{f"{name}:{port}": f"127.0.0.1:{ports[name]}" for name, port in self._doors()},
            **{f"0.0.0.0:{port}": f"127.0.0.1:{ports[name]}" for name, port in self._doors()},
            **{f"127.0.0.1:{port}": f"127.0.0.1:{ports[name]}" for name, port in self._doors()},
        }
        self._metrics = dict(zip(ORDER, free_ports(len(ORDER)), strict=True))
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def _doors(self) -> Iterator[tuple[str, str]]:
        for name in ("accounts", "catalog", "endpoints", "rating", "gateway"):
            listen = self._services[name]["environment"][f"METERLINE_{name.upper()}_LISTEN"]
            yield name, listen.rpartition(":")[2]

    def _local(self, name: str, text: str) -> str:
        for container, here in self._moved.items():
            text = text.replace(container, here)
        return re.sub(r"(0\.0\.0\.0|127\.0\.0\.1):9100", f"127.0.0.1:{self._metrics[name]}", text)

    def start(self, name: str, log: Path) -> None:
        """Start a service with its command and nothing but its environment, as the image would."""
        service = self._services[name]
        environment = {key: self._local(name, str(value)) for key, value in service["environment"].items()}
        with log.open("wb") as out:
            self._running[name] = subprocess.Popen(
                [sys.executable, "-P", "-m", *service["command"]], env=environment, stdout=out, stderr=out, cwd="/"
            )

    def until_healthy(self, name: str, log: Path) -> None:
        """Ask by the health check of the file until it says yes."""
        _, _, *probe = self._services[name]["healthcheck"]["test"]
        command = [sys.executable, *(self._local(name, word) for word in probe)]
        deadline = time.monotonic() + TIMEOUT_S
        while (asked := subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")).returncode:
            assert self._running[name].poll() is None, log.read_text()
            assert time.monotonic() < deadline, asked.stderr + log.read_text()
            time.sleep(0.1)

    def stop(self) -> dict[str, int]:
        """Stop all as Compose does; returns the exit statuses."""
        for process in reversed(self._running.values()):
            process.terminate()
        return {name: process.wait(TIMEOUT_S) for name, process in self._running.items()}


@pytest.mark.slow
async def test_what_compose_starts_becomes_healthy_serves_and_stops(postgres_server: EmbeddedPostgres, tmp_path: Path):
    secrets = made_secrets()
    content = composed(COMPOSE.read_text(), secrets)
    script = content["configs"]["databases"]["content"]
    (port,) = free_ports(1)
    words = iter(content["services"]["valkey"]["command"][1:])
    given = {option.removeprefix("--"): value for option, value in zip(words, words, strict=True)}
    given |= {"maxmemory": "64mb"}
    password = given.pop("requirepass")
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(databases(postgres_server, script, secrets["METERLINE_DATABASE_PASSWORD"]))
        server = EmbeddedValkey(tmp_path / "valkey", port=port, options=given)
        await stack.enter_async_context(server)
        client = connect(server.url)
        await client.config_set("requirepass", password)
        await client.aclose()
        containers = Containers(content, postgres_server.folder, port)
        stack.callback(containers.stop)
        for name in ORDER:
            containers.start(name, tmp_path / name)
            containers.until_healthy(name, tmp_path / name)
        headers = {"authorization": f"Bearer {secrets['METERLINE_BOOTSTRAP_OPERATOR_KEY']}"}
        async with httpx.AsyncClient(base_url=containers.gateway, headers=headers, trust_env=False) as http:
            me = (await http.get("/v1/me")).json()
            assert me["account_kind"] == "ACCOUNT_KIND_OPERATOR"
            summary = await http.get("/v1/usage-summaries")
            assert (summary.status_code, summary.json()["summaries"]) == (200, [])
        assert set(containers.stop().values()) == {0}
