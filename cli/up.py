"""``meterline up``: everything on this machine as separate processes, on the embedded stores unless told otherwise."""

import asyncio
import contextlib
import os
import shlex
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from cli.datafolder import DataFolder
from cli.output import Failure, Output, json_option
from cli.supervisor import Program, ProgramFailedError, Supervisor
from services.runtime.valkey import EmbeddedValkey, ValkeyStartError, answers

SERVICES = ("accounts", "catalog", "endpoints", "rating")
HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Ports:
    """The TCP ports of 127.0.0.1 on which a private Meterline listens; ``metrics`` is the first of five, 0 for none."""

    gateway: int = 8080
    accounts: int = 7001
    catalog: int = 7002
    endpoints: int = 7003
    rating: int = 7004
    metrics: int = 7101

    def address(self, name: str) -> str:
        """host:port of a process."""
        return f"{HOST}:{getattr(self, name)}"

    def metrics_address(self, name: str) -> str:
        """host:port of the metrics of a service or of the fold; empty for none."""
        return f"{HOST}:{self.metrics + (*SERVICES, 'fold').index(name)}" if self.metrics else ""

    def all(self) -> dict[str, str]:
        """Every address that must be free, by the name of its option."""
        doors = {name: self.address(name) for name in ("gateway", *SERVICES)}
        return doors | {f"metrics of {n}": self.metrics_address(n) for n in (*SERVICES, "fold") if self.metrics}


DEFAULT_PORTS = Ports()


@dataclass(frozen=True, slots=True)
class System:
    """A running Meterline: where it is and how to speak to it."""

    folder: DataFolder
    ports: Ports
    supervisor: Supervisor

    def describe(self) -> dict[str, str]:
        """What a client needs, as the file ``system.json`` and ``--json`` give it."""
        gateway = f"http://{self.ports.address('gateway')}"
        return {
            "gateway": gateway,
            "documentation": f"{gateway}/docs",
            **{name: self.ports.address(name) for name in SERVICES},
            "data_folder": str(self.folder.path),
            "logs": str(self.folder.path / "logs"),
            "operator_key_file": str(self.folder.path / "operator.key"),
            "pid": str(os.getpid()),
        }


@contextlib.asynccontextmanager
async def running(folder: DataFolder, ports: Ports, tell: Callable[[str], None]) -> AsyncIterator[System]:
    """Run a whole Meterline on ``folder`` for as long as the block lasts.

    SIGINT, SIGTERM and SIGHUP cancel the task that runs the block; a second one kills what has not stopped yet.

    Args:
        folder: where its data is, and stays.
        ports: where it listens.
        tell: gets a sentence whenever something happens.

    Raises:
        Failure: the folder or a port is taken, or a process does not start.
    """
    with folder.claimed():
        _require_free(ports)
        try:
            supervisor = Supervisor(_waves(folder, ports), tell)
            with _stopping_on_signals(supervisor, tell):
                async with supervisor:
                    system = System(folder, ports, supervisor)
                    folder.write_system(system.describe())
                    yield system
        except (ProgramFailedError, ValkeyStartError) as error:
            raise Failure(str(error)) from error


@contextlib.contextmanager
def _stopping_on_signals(supervisor: Supervisor, tell: Callable[[str], None]) -> Iterator[None]:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    received: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        received.append(number)
        if len(received) > 1:
            supervisor.kill()
        elif task is not None:
            tell(f"{number.name}: stopping; once more to kill")
            task.cancel()

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in signals:
        loop.add_signal_handler(number, stop, number)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


def _require_free(ports: Ports) -> None:
    for name, address in ports.all().items():
        host, _, port = address.rpartition(":")
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, int(port)))
            except OSError as error:
                option = "--metrics-port" if name.startswith("metrics") else f"--{name}-port"
                raise Failure(
                    f"port {port} ({name}) is not free: {error.strerror}. Choose another with {option}."
                ) from None


def _waves(folder: DataFolder, ports: Ports) -> list[list[Program]]:
    """The programs in the order in which they start: hot store; services; what works on top of them."""
    from cli.readiness import Readiness, grpc_serves, has_settled, http_answers

    environment = _environment(folder, ports)

    own = {
        "accounts": {"METERLINE_BOOTSTRAP_OPERATOR_KEY": folder.operator_key()},
        "fold": {"METERLINE_RATING_METRICS_LISTEN": ports.metrics_address("fold")},
    }

    def program(name: str, *arguments: str, ready: Readiness) -> Program:
        folder.rotate_log(name)
        # -P: modules come from the installation, not from the folder that the user is in
        command = [sys.executable, "-P", "-m", *arguments]
        return Program(name, command, environment | own.get(name, {}), folder.log(name), ready)

    services = [program(name, f"services.{name}", ready=grpc_serves(ports.address(name))) for name in SERVICES]
    fold = program("fold", "services.rating", "fold", ready=has_settled)
    gateway = program("gateway", "gateway", ready=http_answers(f"http://{ports.address('gateway')}/readyz"))
    waves = [services, [fold, gateway]]
    return waves if "METERLINE_VALKEY_URL" in os.environ else [[_private_valkey(folder)], *waves]


def _private_valkey(folder: DataFolder) -> Program:
    server = EmbeddedValkey(folder.path / "valkey")
    folder.rotate_log("valkey")

    async def ready() -> bool:
        return await answers(server.url)

    return Program("valkey", server.command, server.environment, folder.log("valkey"), ready, server.data_dir)


def _environment(folder: DataFolder, ports: Ports) -> dict[str, str]:
    """What every process is told. Stores that the caller's environment names are used instead of the embedded ones."""
    embedded = {
        **{f"METERLINE_{name.upper()}_DATABASE_URL": folder.database_url(name) for name in SERVICES},
        "METERLINE_RATING_JOURNAL_URL": folder.database_url("journal"),
        "METERLINE_VALKEY_URL": EmbeddedValkey(folder.path / "valkey").url,
        "METERLINE_LOG_LEVEL": "INFO",
        "METERLINE_LOG_FORMAT": "json",
    }
    own = {
        "METERLINE_SERVICE_SECRET": folder.service_secret(),
        "METERLINE_GATEWAY_LISTEN": ports.address("gateway"),
        **{f"METERLINE_{name.upper()}_ADDRESS": ports.address(name) for name in SERVICES},
        **{f"METERLINE_{name.upper()}_LISTEN": ports.address(name) for name in SERVICES},
        **{f"METERLINE_{name.upper()}_METRICS_LISTEN": ports.metrics_address(name) for name in SERVICES},
        "PYTHONUNBUFFERED": "1",
    }
    return {**embedded, **os.environ, **own}


def _port_option(name: str, default: int, text: str, *, least: int = 1) -> Callable[[Any], Any]:
    kind = click.IntRange(least, 65_535)
    return click.option(f"--{name}-port", type=kind, default=default, show_default=True, help=text)


data_dir_option = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=True),
    envvar="METERLINE_DATA_DIR",
    default=".meterline",
    show_default=True,
    show_envvar=True,
    help="Folder of the stores, secrets and logs.",
)


@click.command()
@data_dir_option
@_port_option("gateway", DEFAULT_PORTS.gateway, "HTTP.")
@_port_option("accounts", DEFAULT_PORTS.accounts, "gRPC of accounts.")
@_port_option("catalog", DEFAULT_PORTS.catalog, "gRPC of catalog.")
@_port_option("endpoints", DEFAULT_PORTS.endpoints, "gRPC of endpoints.")
@_port_option("rating", DEFAULT_PORTS.rating, "gRPC of rating.")
@_port_option("metrics", DEFAULT_PORTS.metrics, "First of five ports with metrics; 0 for none.", least=0)
@json_option
@click.pass_obj
def up(output: Output, /, data_dir: Path, **ports: int) -> None:
    """Start the four services, the fold and the gateway on this machine.

    The data folder is made at the first start and resumed at the next. Ctrl-C stops everything in order; a second
    Ctrl-C kills.
    """
    chosen = Ports(**{name.removesuffix("_port"): port for name, port in ports.items()})
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(_up(DataFolder(data_dir), chosen, output))


async def _up(folder: DataFolder, ports: Ports, output: Output) -> None:
    async with running(folder, ports, output.say) as system:
        description = system.describe() | {"operator_key": folder.operator_key()}
        output.result(description, lambda: _picture(description))
        await system.supervisor.watch()


def _picture(description: Mapping[str, str]) -> str:
    key_file, gateway = description["operator_key_file"], description["gateway"]
    rows = {
        "gateway": f"{gateway}  (HTTP; also /openapi.json and /metrics)",
        "documentation": description["documentation"],
        **{name: f"{description[name]}  (gRPC)" for name in SERVICES},
        "data folder": f"{description['data_folder']}  (kept for the next start)",
        "logs": f"{description['logs']}{os.sep}*.log",
        "operator's API key": description["operator_key"],
        "": f"(also in {key_file})",
        "try it": f'curl -H "authorization: Bearer $(cat {shlex.quote(key_file)})" {gateway}/v1/me',
        "stop it": "Ctrl-C",
    }
    return "\n".join(["", *(f"  {label:<20}{value}" for label, value in rows.items()), ""])
