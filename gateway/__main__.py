"""Runs the gateway: `python -m gateway`."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from gateway.app import make_app
from gateway.backends import Backends
from gateway.protocol import protocol_with
from gateway.settings import SERVICE, SERVICES, Settings
from gateway.transcode.bindings import all_bindings
from gateway.transcode.contracts import load_contracts
from services.runtime.server import DRAIN_SECONDS, run
from services.runtime.telemetry import configure_logging, logger, split_address

BACKLOG = 1024
KEEP_ALIVE_SECONDS = 65


class HttpServer(uvicorn.Server):
    """uvicorn's server, which leaves signals to the process."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none: whoever runs the server says when it ends."""
        yield


def listening(address: str) -> socket.socket:
    """Return a socket that listens on host:port.

    Raises:
        SystemExit: it cannot.
    """
    host, port = split_address(address)
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise SystemExit(f"Cannot listen on {address}: is the port taken? {error}") from error


async def serve(settings: Settings, listener: socket.socket, stop: asyncio.Event) -> None:
    """Serve HTTP on a socket until `stop`; then finish what is in work, for at most ten seconds."""
    contracts = load_contracts()
    bindings = all_bindings(contracts)
    addresses = {service: settings.address(service) for service in SERVICES}
    async with Backends(addresses, bindings) as backends:
        server = HttpServer(
            uvicorn.Config(
                make_app(settings, contracts, bindings, backends),
                http=protocol_with(settings.head_bytes_max),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=int(DRAIN_SECONDS),
            )
        )
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        stopping.cancel()
        await serving


async def main(stop: asyncio.Event) -> None:
    """Serve until told to stop."""
    settings = Settings()
    configure_logging(settings.log_level, settings.log_format)
    with listening(settings.listen) as listener:
        logger(SERVICE).info("serving", port=listener.getsockname()[1])
        await serve(settings, listener, stop)


if __name__ == "__main__":
    run(main)
