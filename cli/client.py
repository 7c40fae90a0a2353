"""How the other commands find a running Meterline and speak to it: an address, an API key, a channel."""

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import click
import grpc
from google.protobuf.message import Message

from cli.datafolder import DataFolder
from cli.output import Failure
from services.common.errors import MeterlineError, UnavailableError
from services.runtime.statuses import from_rpc_error

M = TypeVar("M", bound=Message)

DEADLINE_S = 60.0
RECEIVED_BYTES_MAX = 64 * 1024 * 1024
_RETRY = {
    "maxAttempts": 5,
    "initialBackoff": "0.1s",
    "maxBackoff": "2s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
_STREAM = {"service": "meterline.rating.v1.ChargingService", "method": "StreamUsage"}  # it resends by itself
_OPTIONS = (
    ("grpc.max_receive_message_length", RECEIVED_BYTES_MAX),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.service_config", json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": _RETRY}, {"name": [_STREAM]}]})),
)


@dataclass(frozen=True, slots=True)
class Target:
    """A service to call and whom to call as.

    Attributes:
        address: host:port of the service's gRPC.
        key: an API key's credential, `mk_...`.
    """

    address: str
    key: str


def system_of(folder: DataFolder) -> Mapping[str, str]:
    """Where the system is that runs on the data folder.

    Raises:
        Failure: none runs there.
    """
    system = folder.read_system()
    if system is None:
        raise Failure(
            f"no Meterline runs on the data folder {folder.path}. Start one with `meterline up`,"
            " or say where it is with --address and --key (METERLINE_RATING_ADDRESS, METERLINE_API_KEY)."
        )
    return system


def operator_key_of(folder: DataFolder) -> str:
    """The operator's API key in the data folder.

    Raises:
        Failure: there is none that this user may read.
    """
    path = folder.path / "operator.key"
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"cannot read {path}: {error}. Give an API key with --key or METERLINE_API_KEY.") from error


def rating_target(address: str | None, key: str | None, data_dir: Path) -> Target:
    """Rating's address and the key to use: what was given, and the data folder for what was not."""
    folder = DataFolder(data_dir)
    return Target(address or system_of(folder)["rating"], key or operator_key_of(folder))


def rating_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --address, --key and --data-dir to a command, which gets them as one argument ``target``."""

    @click.option(
        "--address",
        metavar="HOST:PORT",
        envvar="METERLINE_RATING_ADDRESS",
        show_envvar=True,
        help="gRPC of rating; else the one that runs on the data folder.",
    )
    @click.option(
        "--key",
        metavar="mk_...",
        envvar="METERLINE_API_KEY",
        show_envvar=True,
        help="API key; else the operator's in the data folder.",
    )
    @click.option(
        "--data-dir",
        type=click.Path(path_type=Path),
        envvar="METERLINE_DATA_DIR",
        default=".meterline",
        show_default=True,
        show_envvar=True,
        help="Folder of a Meterline on this machine.",
    )
    @functools.wraps(command)
    def run(*args: Any, address: str | None, key: str | None, data_dir: Path, **kwargs: Any) -> Any:
        return command(*args, target=rating_target(address, key, data_dir), **kwargs)

    return run


class Connection:
    """``async with Connection(target) as connection``: a channel on which every call carries the key."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.metadata = (("authorization", f"Bearer {target.key}"),)
        self.channel = grpc.aio.insecure_channel(target.address, options=_OPTIONS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc_info: object) -> None:
        await self.channel.close()

    async def call(self, method: "grpc.aio.UnaryUnaryMultiCallable[Any, M]", request: Message) -> M:
        """Call a unary method of a stub on this channel, with a deadline of ``DEADLINE_S`` seconds.

        Raises:
            MeterlineError: as the service raised it.
        """
        try:
            response: M = await method(request, metadata=self.metadata, timeout=DEADLINE_S)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        return response


def failure_of(error: MeterlineError, target: Target) -> Failure:
    """What a person is told of an error of a service."""
    if isinstance(error, UnavailableError) and error.reason == "UNAVAILABLE":
        return Failure(f"cannot reach Meterline at {target.address}: {error.message}. Is it running?")
    fields = "".join(f"\n  {violation.field}: {violation.description}" for violation in error.violations)
    return Failure(f"{error.message} ({error.reason}){fields}")
