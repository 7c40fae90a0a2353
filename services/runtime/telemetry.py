"""Logs for machines or people, and metrics for Prometheus."""

import contextlib
import logging
import sys
from collections.abc import Callable
from typing import TextIO, cast

import orjson
import structlog
from prometheus_client import Counter, Histogram, start_http_server

REQUESTS = Counter("meterline_requests", "Calls answered.", ["service", "method", "code"])
LATENCY = Histogram(
    "meterline_request_seconds",
    "Time from the request to its answer.",
    ["service", "method"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)


class _Unfailing:
    """Where logs go; a full disk loses lines and disturbs nobody's work."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


def _json(event: object, default: Callable[[object], object]) -> str:
    return orjson.dumps(event, default, orjson.OPT_NON_STR_KEYS).decode()


def configure_logging(level: str, log_format: str) -> None:
    """Send logs to standard error, one line an event.

    Args:
        level: DEBUG, INFO, WARNING or ERROR.
        log_format: json, or console for people.
    """
    number = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if log_format == "console" else structlog.processors.JSONRenderer(_json)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _Unfailing(sys.stderr))),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=max(number, logging.WARNING), stream=sys.stderr)


def logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """Return a logger that names its part of the system."""
    bound: structlog.typing.FilteringBoundLogger = structlog.get_logger(part=name)
    return bound


def split_address(address: str) -> tuple[str, int]:
    """Split `host:port`; `[::1]:80` too."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def serve_metrics(address: str) -> None:
    """Serve `/metrics` on host:port in a thread; an empty address serves nothing."""
    if address:
        host, port = split_address(address)
        start_http_server(port, addr=host)
