"""Whether a process does its work yet, asked from outside."""

import asyncio
from collections.abc import Awaitable, Callable

import grpc
import httpx
from grpc_health.v1 import health_pb2, health_pb2_grpc

PROBE_TIMEOUT_S = 2.0
SETTLE_S = 1.0

Readiness = Callable[[], Awaitable[bool]]


def grpc_serves(address: str) -> Readiness:
    """Ready when the gRPC health service at ``address`` (host:port) says SERVING for the whole server."""

    async def ready() -> bool:
        async with grpc.aio.insecure_channel(address) as channel:
            try:
                check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined] # its stubs lack it
                answer = await check(health_pb2.HealthCheckRequest(), timeout=PROBE_TIMEOUT_S)
            except grpc.aio.AioRpcError:
                return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    return ready


def http_answers(url: str) -> Readiness:
    """Ready when a GET of ``url`` is answered with 200."""

    async def ready() -> bool:
        async with httpx.AsyncClient(timeout=PROBE_TIMEOUT_S, trust_env=False) as client:
            try:
                return (await client.get(url)).status_code == httpx.codes.OK
            except httpx.HTTPError:
                return False

    return ready


async def has_settled() -> bool:
    """Ready after ``SETTLE_S`` seconds of life: for a process without a door to knock at."""
    await asyncio.sleep(SETTLE_S)
    return True
