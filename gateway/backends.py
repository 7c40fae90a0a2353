"""The services behind the gateway: one connection each, and whether they serve."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.transcode.bindings import Binding
from services.runtime.server import MESSAGE_BYTES_MAX

HEALTH_SECONDS = 2.0
_RETRY = {
    "maxAttempts": 3,
    "initialBackoff": "0.05s",
    "maxBackoff": "0.3s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
_OPTIONS: Sequence[tuple[str, Any]] = (
    ("grpc.max_receive_message_length", 16 * MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", 4 * MESSAGE_BYTES_MAX),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


def _service_config(reads: Sequence[Binding]) -> str:
    """Calls that only read are repeated while a service is away; whether to repeat a write, its caller decides."""
    names = [{"service": b.method.containing_service.full_name, "method": b.method.name} for b in reads]
    return json.dumps({"methodConfig": [{"name": names, "retryPolicy": _RETRY}]} if names else {})


class Backends:
    """The services; `async with` closes their connections.

    Args:
        addresses: host:port of each service by its name.
        bindings: what is called there.
    """

    def __init__(self, addresses: Mapping[str, str], bindings: Sequence[Binding]) -> None:
        self._channels: dict[str, grpc.aio.Channel] = {}
        for service, address in addresses.items():
            config = _service_config([b for b in bindings if b.service == service and b.verb == "GET"])
            options = (*_OPTIONS, ("grpc.service_config", config))
            self._channels[service] = grpc.aio.insecure_channel(address, options=options)
        self._calls = {binding.rpc: self._call(binding) for binding in bindings}

    def _call(self, binding: Binding) -> Any:
        channel = self._channels[binding.service]
        make = channel.unary_stream if binding.method.server_streaming else channel.unary_unary
        return make(
            binding.rpc,
            request_serializer=binding.request_class.SerializeToString,
            response_deserializer=binding.response_class.FromString,
        )

    def call(self, binding: Binding, request: Message, *, metadata: Any, seconds: float) -> Any:
        """Begin a call; the result is awaited, or iterated if the method streams."""
        return self._calls[binding.rpc](request, metadata=metadata, timeout=seconds)

    async def states(self) -> dict[str, str]:
        """What each service says of itself: SERVING, NOT_SERVING, or UNREACHABLE if it does not answer."""
        answers = await asyncio.gather(*(self._state(channel) for channel in self._channels.values()))
        return dict(zip(self._channels, answers, strict=True))

    async def _state(self, channel: grpc.aio.Channel) -> str:
        check: Any = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined] # its stub lacks it
        try:
            answer = await check(health_pb2.HealthCheckRequest(), timeout=HEALTH_SECONDS)
        except grpc.aio.AioRpcError:
            return "UNREACHABLE"
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(channel.close() for channel in self._channels.values()))
