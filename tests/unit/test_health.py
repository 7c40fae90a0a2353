"""The health probe of the containers: silence and refusal are not health."""

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
