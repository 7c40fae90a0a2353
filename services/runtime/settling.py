"""Lets a write wait until rating has seen it, so that a caller who changed something can charge by it at once."""

import time
from collections.abc import Awaitable, Callable
from typing import cast

import grpc

from meterline.rating.v1 import charging_pb2, charging_pb2_grpc
from services.common.errors import MeterlineError
from services.runtime.channels import Channel
from services.runtime.telemetry import logger

SEEN_SECONDS = 1.0
"""Longest that a write waits until rating has seen it."""
PAUSE_SECONDS = 1.0
"""How long writes do not ask rating after it did not answer."""

log = logger("settling")


class Settling:
    """Asks rating what it has seen. Rating may be away: then writes go on without it, and ask again after a second.

    Args:
        channel: leads to rating.
        service: whose changes they are: accounts, catalog or endpoints.
        newest: tells the cursor of the newest change that matters to charging.
    """

    def __init__(self, channel: Channel, service: str, newest: Callable[[], Awaitable[int]]) -> None:
        self._channel = channel
        self._field = f"{service}_cursor"
        self._newest = newest
        self._charging = charging_pb2_grpc.ChargingServiceStub(channel.grpc)
        self._not_before = 0.0

    async def settle(self) -> None:
        """Wait up to a second until rating has seen all that is committed here; never fails."""
        if time.monotonic() < self._not_before:
            return
        wait = cast("grpc.aio.UnaryUnaryMultiCallable[object, object]", self._charging.WaitForChanges)
        try:
            request = charging_pb2.WaitForChangesRequest(**{self._field: await self._newest()})
            await wait(request, timeout=SEEN_SECONDS, metadata=self._channel.metadata())
        except grpc.aio.AioRpcError as error:
            self._pause(error.code().name)
        except MeterlineError as error:  # what is newest is not known
            self._pause(error.reason)

    def _pause(self, why: str) -> None:
        self._not_before = time.monotonic() + PAUSE_SECONDS
        log.info("rating has not seen a write", why=why)
