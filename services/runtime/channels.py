"""Calls from one service to another: signed, with a deadline, and with errors of our own types."""

import json
import time
from collections.abc import AsyncIterator
from typing import Any, Self, TypeVar

import grpc
from google.protobuf.message import Message

from services.common.identity import Principal
from services.runtime.identity import TOKEN_SECONDS, ServiceTokens, service_principal
from services.runtime.server import MESSAGE_BYTES_MAX
from services.runtime.statuses import from_rpc_error

M = TypeVar("M", bound=Message)

DEADLINE_SECONDS = 10.0
_RETRY = {
    "maxAttempts": 3,
    "initialBackoff": "0.05s",
    "maxBackoff": "0.5s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
_OPTIONS = (
    ("grpc.max_receive_message_length", 16 * MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", 4 * MESSAGE_BYTES_MAX),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.ping_timeout_ms", 5_000),  # else a minute, whatever the time-out of keepalive is
    ("grpc.http2.max_pings_without_data", 0),  # as many as it takes: a feed says nothing for long
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    (
        "grpc.service_config",
        json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": _RETRY}]}),
    ),
)


class Channel:
    """A connection to another service, under this service's identity.

    Args:
        address: host:port.
        service: name of the calling service.
        tokens: signs the calls.
    """

    def __init__(self, address: str, service: str, tokens: ServiceTokens) -> None:
        self.grpc = grpc.aio.insecure_channel(address, options=_OPTIONS)
        self._own = service_principal(service)
        self._tokens = tokens
        self._signed: tuple[float, str] = (0.0, "")

    def metadata(self, on_behalf_of: Principal | None = None) -> tuple[tuple[str, str], ...]:
        """Metadata that says who calls: this service itself, or a principal that it passes on."""
        if on_behalf_of is not None:
            return (("authorization", f"Bearer {self._tokens.sign(on_behalf_of)}"),)
        until, token = self._signed
        if until < time.monotonic():
            token = self._tokens.sign(self._own)
            self._signed = (time.monotonic() + TOKEN_SECONDS / 2, token)
        return (("authorization", f"Bearer {token}"),)

    async def call(
        self,
        method: "grpc.aio.UnaryUnaryMultiCallable[Any, M]",
        request: Message,
        *,
        on_behalf_of: Principal | None = None,
        timeout: float = DEADLINE_SECONDS,  # noqa: ASYNC109 - the deadline travels with the call
    ) -> M:
        """Call a method; errors come back as the types that the other service raised."""
        try:
            response: M = await method(
                request, timeout=timeout, metadata=self.metadata(on_behalf_of), wait_for_ready=True
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        return response

    async def stream(self, method: "grpc.aio.UnaryStreamMultiCallable[Any, M]", request: Message) -> AsyncIterator[M]:
        """Read a server stream."""
        try:
            async for message in method(request, metadata=self.metadata()):
                yield message
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.grpc.close()
