"""A gRPC server whose every method passes one door: who calls, limits, deadline, errors, logs, metrics."""

import asyncio
import gc
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Self, cast

import grpc
import uvloop
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.common.errors import InternalError, InvalidArgumentError, MeterlineError
from services.common.identity import Principal
from services.runtime.identity import Authenticator
from services.runtime.limits import require_within_limits
from services.runtime.paging import is_paged, paged
from services.runtime.statuses import abort
from services.runtime.telemetry import LATENCY, REQUESTS, logger

MESSAGE_BYTES_MAX = 4 * 1024 * 1024
STREAMS_MAX = 4096
DRAIN_SECONDS = 10.0
CHECK_EVERY_SECONDS = 2.0
"""How often a server asks whether what it cannot work without is there."""
CHECK_SECONDS = 2.0
"""How long it waits for each; what is silent for longer is away."""

OPTIONS: Sequence[tuple[str, Any]] = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", 4 * MESSAGE_BYTES_MAX),
    ("grpc.max_concurrent_streams", STREAMS_MAX),
    ("grpc.so_reuseport", 0),  # a second instance on the same port is an error, not a surprise
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),  # an unknown name is ignored without a word
)

log = logger("server")


@dataclass(frozen=True, slots=True)
class Call:
    """The call in whose context code runs: who calls which method."""

    caller: Principal
    method: str


_CALL: ContextVar[Call] = ContextVar("meterline_call")


def current_call() -> Call:
    """Return the call in whose context this code runs."""
    return _CALL.get()


Check = Callable[[], Awaitable[object]]
"""Asks something that a service cannot work without; raises if it is away."""
Adder = Callable[[Any, Any], None]
"""A generated `add_…Servicer_to_server` function."""


class _Collector:
    """Stands in for a server while generated code adds a servicer, to learn its handlers."""

    def __init__(self) -> None:
        self.services: dict[str, dict[str, Any]] = {}

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """Ignore the wrapped form."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        """Keep the plain form."""
        self.services[service] = handlers


def _reader(read: Callable[[bytes], Message]) -> Callable[[bytes], Message | DecodeError]:
    """Read a message; what is none is told by its behavior, since gRPC itself would call it a fault of the server."""

    def read_or_tell(content: bytes) -> Message | DecodeError:
        try:
            return read(content)
        except DecodeError as error:
            return error

    return read_or_tell


def _require_message(request: object) -> None:
    if isinstance(request, DecodeError):
        raise InvalidArgumentError(
            "MESSAGE_UNREADABLE", f"The request is not a message of its contract ({request}). Send what that says."
        )


class Door:
    """Wraps each handler of a service.

    Args:
        service: name of the service, for metrics.
        authenticator: resolves callers.
        unchecked: methods (last part of the name) whose requests the limits check leaves to their handler,
            because they answer for each element.
    """

    def __init__(self, service: str, authenticator: Authenticator, unchecked: Iterable[str] = ()) -> None:
        self._service = service
        self._authenticator = authenticator
        self._unchecked = frozenset(unchecked)

    def handlers(self, servicer: object, add: Adder) -> list[grpc.GenericRpcHandler]:
        """Return the handlers of a servicer, each behind this door."""
        collector = _Collector()
        add(servicer, collector)
        wrapped = []
        for service, methods in collector.services.items():
            short = service.removeprefix("meterline.")
            behind = {name: self._wrap(f"{service}/{name}", f"{short}/{name}", h) for name, h in methods.items()}
            wrapped.append(grpc.method_handlers_generic_handler(service, behind))
        return wrapped

    def _wrap(self, method: str, short: str, handler: Any) -> Any:
        if handler.request_streaming:
            make: Any = grpc.stream_stream_rpc_method_handler
            behavior: Any = self._stream(method, short, handler.stream_stream)
        elif handler.response_streaming:
            make, behavior = grpc.unary_stream_rpc_method_handler, self._stream(method, short, handler.unary_stream)
        else:
            inner = paged(method, handler.unary_unary) if is_paged(method) else handler.unary_unary
            make, behavior = grpc.unary_unary_rpc_method_handler, self._unary(method, short, inner)
        read = handler.request_deserializer if handler.request_streaming else _reader(handler.request_deserializer)
        return make(behavior, read, handler.response_serializer)

    def _unary(self, method: str, short: str, inner: Callable[..., Awaitable[Message]]) -> Any:
        checked = method.rpartition("/")[2] not in self._unchecked
        authenticate = self._authenticator.principal
        answered = REQUESTS.labels(self._service, short, "OK")
        latency = LATENCY.labels(self._service, short)

        async def behavior(request: Message, context: grpc.aio.ServicerContext[Any, Any]) -> Message:
            started = time.perf_counter()
            try:
                caller = await authenticate(_metadata(context))
                _CALL.set(Call(caller, method))
                _require_message(request)
                if checked:
                    require_within_limits(request)
                response = await inner(request, context)
            except MeterlineError as error:
                REQUESTS.labels(self._service, short, error.code).inc()
                await abort(context, error)
            except (grpc.aio.AbortError, asyncio.CancelledError):
                raise
            except Exception:
                log.exception("fault", method=short)
                await abort(context, self._fault(short))
            answered.inc()
            latency.observe(time.perf_counter() - started)
            return response

        return behavior

    def _stream(self, method: str, short: str, inner: Callable[..., AsyncIterator[Message]]) -> Any:
        async def behavior(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Message]:
            try:
                caller = await self._authenticator.principal(_metadata(context))
                _CALL.set(Call(caller, method))
                _require_message(request)
                if isinstance(request, Message):
                    require_within_limits(request)
                async for response in inner(request, context):
                    yield response
            except MeterlineError as error:
                REQUESTS.labels(self._service, short, error.code).inc()
                await abort(context, error)
            except (grpc.aio.AbortError, asyncio.CancelledError, GeneratorExit):
                raise
            except Exception:
                log.exception("fault", method=short)
                await abort(context, self._fault(short))
            REQUESTS.labels(self._service, short, "OK").inc()

        return behavior

    def _fault(self, short: str) -> InternalError:
        REQUESTS.labels(self._service, short, "INTERNAL").inc()
        return InternalError("INTERNAL", "The server failed; the fault is logged. Repeat with the same request id.")


def _metadata(context: grpc.aio.ServicerContext[Any, Any]) -> Sequence[tuple[str, str | bytes]]:
    return cast("Sequence[tuple[str, str | bytes]]", context.invocation_metadata() or ())


class Server:
    """A gRPC server with health and reflection; `async with` starts it and drains it.

    Args:
        listen: host:port.
        door: what every call passes.
        servicers: each with the generated function that adds it.
        names: of the services, for health and reflection.
        checks: by the name of what they ask; while one fails, health says NOT_SERVING.
    """

    def __init__(
        self,
        listen: str,
        door: Door,
        servicers: Sequence[tuple[object, Adder]],
        names: Sequence[str],
        checks: Mapping[str, Check] | None = None,
    ) -> None:
        self._listen = listen
        self._server = grpc.aio.server(options=OPTIONS)
        for servicer, add in servicers:
            # Reflection tells what is loaded; nothing else loads the module of a service without messages of its own.
            import_module(add.__module__.removesuffix("_grpc"))
            self._server.add_generic_rpc_handlers(tuple(door.handlers(servicer, add)))
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._names = names
        self._checks = checks or {}
        self._checking: asyncio.Task[None] | None = None
        self._ending = False
        reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], self._server)
        self.port = 0

    async def __aenter__(self) -> Self:
        try:
            self.port = self._server.add_insecure_port(self._listen)
        except RuntimeError as error:
            raise SystemExit(f"Cannot listen on {self._listen}: is the port taken? {error}") from error
        await self._server.start()
        if self._checks:
            self._checking = asyncio.create_task(self._check())
        else:
            await self._say(serving=True)
        return self

    async def _check(self) -> None:
        """Say to health checks, until the end, whether the service can do its work."""
        was: list[str] | None = None
        while not self._ending:  # drivers of databases may turn a cancellation into an error of their own
            passes = await asyncio.gather(*map(_passes, self._checks.values()))
            away = [name for name, is_there in zip(self._checks, passes, strict=True) if not is_there]
            if away != was:
                (log.warning if away else log.info)("stores", away=away)
                await self._say(serving=not away)
                was = away
            await asyncio.sleep(CHECK_EVERY_SECONDS)

    async def _say(self, *, serving: bool) -> None:
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *self._names):
            await self._health.set(name, status)

    async def __aexit__(self, *_: object) -> None:
        self._ending = True
        if self._checking is not None:
            self._checking.cancel()
            await asyncio.wait([self._checking])
        await self._health.enter_graceful_shutdown()
        await self._server.stop(DRAIN_SECONDS)


async def _passes(check: Check) -> bool:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check()
    except Exception:  # noqa: BLE001 - whatever it is, what was asked did not answer
        return False
    return True


GC_YOUNG_MAX = 50_000
"""Objects after which the collector looks for cycles; batches make thousands of short-lived lists without any."""
SWITCH_SECONDS = 0.0005
"""How long a thread keeps Python while another waits for it. Usual are 5 ms: for so long could the event loop hold up a
commit that is done, though everybody waits for it."""


def run(main: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run a process until SIGINT or SIGTERM sets the event that `main` waits for."""
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(GC_YOUNG_MAX, 20, 100)
    gc.freeze()  # what was imported stays: the collector need not look at it again

    async def body() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        await main(stop)

    uvloop.run(body())
