"""The health probe of the containers: silence and refusal are not health."""

import asyncio
import http.server
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from services.runtime.health import wrong_with
from services.runtime.server import CHECK_EVERY_SECONDS, Server


@contextmanager
def answering(status: int) -> Iterator[str]:
    """A page that answers with a status."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/readyz"
        server.shutdown()


@pytest.mark.parametrize(("status", "wrong"), [("SERVING", ""), ("NOT_SERVING", "NOT_SERVING")])
def test_a_grpc_server_is_healthy_when_it_says_so(status: str, wrong: str):
    server = grpc.server(ThreadPoolExecutor(1))
    servicer = health.HealthServicer()
    servicer.set("", health_pb2.HealthCheckResponse.ServingStatus.Value(status))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        assert wrong_with(f"127.0.0.1:{port}").endswith(wrong)
        assert bool(wrong_with(f"127.0.0.1:{port}")) == bool(wrong)
    finally:
        server.stop(None)


def test_a_page_is_healthy_when_it_answers_well():
    with answering(200) as url:
        assert wrong_with(url) == ""


@pytest.mark.parametrize("status", [503, 404])
def test_a_page_that_answers_badly_is_not_healthy(status: int):
    with answering(status) as url:
        assert str(status) in wrong_with(url)


def test_where_nobody_listens_nothing_is_healthy():
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        port = door.getsockname()[1]
    assert "UNAVAILABLE" in wrong_with(f"127.0.0.1:{port}")
    assert wrong_with(f"http://127.0.0.1:{port}/readyz")


async def test_a_server_says_that_it_does_not_serve_while_what_it_needs_is_away():
    away, asked = False, asyncio.Event()

    async def store() -> None:
        asked.set()
        if away:
            raise OSError("nobody is there")

    async def healthy(address: str) -> bool:
        await asyncio.sleep(CHECK_EVERY_SECONDS)
        return not await asyncio.to_thread(wrong_with, address)

    async with Server("127.0.0.1:0", None, (), ("meterline.x.v1.X",), {"store": store}) as server:  # type: ignore[arg-type] # nobody enters
        address = f"127.0.0.1:{server.port}"
        await asked.wait()
        assert await healthy(address)
        away = True
        for _ in range(5):
            if not await healthy(address):
                break
        assert "NOT_SERVING" in await asyncio.to_thread(wrong_with, address)
        away = False
        assert any([await healthy(address) for _ in range(3)])


async def test_what_does_not_answer_in_time_is_away(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("services.runtime.server.CHECK_SECONDS", 0.05)
    async with Server("127.0.0.1:0", None, (), (), {"store": asyncio.Event().wait}) as server:  # type: ignore[arg-type] # nobody enters
        await asyncio.sleep(0.3)
        assert "NOT_SERVING" in await asyncio.to_thread(wrong_with, f"127.0.0.1:{server.port}")
