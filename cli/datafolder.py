"""The folder in which a private Meterline keeps everything: stores, secrets, logs, and who is using it."""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson

from cli.output import Failure
from services.common.ids import new_id

LOG_BYTES_MAX = 10_000_000
"""A log that is longer when the system starts is put aside as NAME.log.1."""


class DataFolder:
    """One data folder. Made with mode 700, because stores and secrets lie in it.

    Args:
        path: the folder; need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold the folder for this process.

        Raises:
            Failure: it cannot be written, or another Meterline runs on it.
        """
        with contextlib.ExitStack() as lifetime:
            try:
                self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
                (self.path / "logs").mkdir(exist_ok=True)
                lock = lifetime.enter_context((self.path / "meterline.lock").open("a+"))
            except OSError as error:
                raise Failure(
                    f"cannot write in the data folder {self.path}: {error.strerror}."
                    " Choose another with --data-dir or METERLINE_DATA_DIR."
                ) from error
            self._lock(lock.fileno())
            lifetime.callback(self._system.unlink, missing_ok=True)
            yield

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(descriptor, 20, 0).decode().strip() or "unknown"
            raise Failure(
                f"the data folder {self.path} is used by another Meterline (process {owner})."
                " Stop it, or choose another folder with --data-dir."
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())

    def operator_key(self) -> str:
        """The operator's API key, made at the first start."""
        return self._secret("operator.key", lambda: f"{new_id('mk')}_{secrets.token_urlsafe(32)}")

    def service_secret(self) -> str:
        """The secret with which the services sign calls to each other, made at the first start."""
        return self._secret("service.secret", lambda: secrets.token_urlsafe(48))

    def _secret(self, name: str, make: Callable[[], str]) -> str:
        path = self.path / name
        if not path.exists():
            unfinished = self.path / f".{name}.new"
            unfinished.unlink(missing_ok=True)
            unfinished.touch(mode=0o600)
            unfinished.write_text(f"{make()}\n", encoding="ascii")
            unfinished.rename(path)
        return path.read_text(encoding="ascii").strip()

    def database_url(self, name: str) -> str:
        """The SQLAlchemy URL of the SQLite file ``name``."""
        return f"sqlite+aiosqlite:///{self.path / name}.sqlite"

    def log(self, name: str) -> Path:
        """The log of a process."""
        return self.path / "logs" / f"{name}.log"

    def rotate_log(self, name: str) -> None:
        """Put a log aside that has grown too long."""
        log = self.log(name)
        if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
            log.replace(log.with_suffix(".log.1"))

    @property
    def _system(self) -> Path:
        return self.path / "system.json"

    def write_system(self, system: dict[str, str]) -> None:
        """Note where the running system is, for the other commands."""
        self._system.write_bytes(orjson.dumps(system, option=orjson.OPT_INDENT_2))

    def read_system(self) -> dict[str, str] | None:
        """Where the system is that runs on this folder; None if none does."""
        try:
            system: dict[str, str] = orjson.loads(self._system.read_bytes())
            os.kill(int(system["pid"]), 0)
        except (FileNotFoundError, ProcessLookupError, orjson.JSONDecodeError, KeyError):
            return None
        return system
