"""The bounds of a request: its size, its time, how many at once, how many a second."""

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from gateway.problems import Fault, Place, Problem, not_now, unreadable

KEYS_MAX = 10_000
"""Credentials whose rate is remembered; beyond it, those unused for longest are forgotten."""

TIMEOUT_HEADER = "X-Request-Timeout"
_SECONDS = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")
_JSON = re.compile(r"application/(json|[a-z0-9.+-]+\+json)\s*(;\s*charset=\"?utf-8\"?\s*)?", re.IGNORECASE)


class Rate:
    """A token bucket for each key.

    Args:
        per_s: tokens that come back in a second; 0 does not limit.
        burst: tokens in a full bucket.
        clock: seconds that only go forward.
    """

    def __init__(self, per_s: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._burst = float(burst)
        self._clock = clock
        self._buckets: OrderedDict[int, tuple[float, float]] = OrderedDict()

    def take(self, key: str) -> None:
        """Take a token.

        Raises:
            Problem: 429; there is none.
        """
        if not self._per_s:
            return
        now, bucket = self._clock(), hash(key)
        tokens, at = self._buckets.pop(bucket, (self._burst, now))
        tokens = min(self._burst, tokens + (now - at) * self._per_s)
        allowed = tokens >= 1
        self._buckets[bucket] = (tokens - 1 if allowed else tokens, now)
        if len(self._buckets) > KEYS_MAX:
            self._buckets.popitem(last=False)
        if not allowed:
            detail = f"This credential makes more than {self._per_s:g} requests a second; wait, or send batches."
            raise not_now(429, "RATE_LIMITED", detail, ceil((1 - tokens) / self._per_s))


class Concurrency:
    """A bound on the requests that are in work at once."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.now = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count one request.

        Raises:
            Problem: 503; there are as many as there may be.
        """
        if self.now >= self._most:
            raise not_now(503, "GATEWAY_BUSY", f"{self._most} requests are in work, as many as may be; try again.")
        self.now += 1
        try:
            yield
        finally:
            self.now -= 1


async def read_body(headers: Headers, receive: Receive, most: int) -> bytes:
    """Return the body of a request.

    Args:
        headers: of the request.
        receive: gives its body.
        most: bytes that it may have.

    Raises:
        Problem: 413, too long; 415, not JSON.
        ClientDisconnect: the caller has gone.
    """
    declared = headers.get("content-length", "")
    if declared.isdigit() and int(declared) > most:
        raise _too_large(most)
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        if len(body) > most:
            raise _too_large(most)
        if not message.get("more_body", False):
            break
    if body:
        _require_json(headers)
    return bytes(body)


def _too_large(most: int) -> Problem:
    detail = f"The body is longer than {most} bytes; send less at once."
    return Problem(413, "BODY_TOO_LARGE", detail, headers={"connection": "close"})


def _require_json(headers: Headers) -> None:
    accepts = {"accept": "application/json"}
    if headers.get("content-encoding", "identity").lower() != "identity":
        detail = "Compressed bodies are not read; send the JSON as it is."
        raise Problem(415, "CONTENT_ENCODING_UNSUPPORTED", detail, headers={"accept-encoding": "identity"})
    if not _JSON.fullmatch(headers.get("content-type", "")):
        sent = headers.get("content-type", "")[:100] or "of no type"
        detail = f"Send the body as JSON with `Content-Type: application/json`; this one is {sent}."
        raise Problem(415, "CONTENT_TYPE_UNSUPPORTED", detail, headers=accepts)


def deadline_s(headers: Headers, most_ms: int) -> float:
    """How many seconds the request may take: what its caller asks for, at most what is allowed.

    Raises:
        Problem: 400; the header is no number of seconds.
    """
    asked = headers.get(TIMEOUT_HEADER)
    if asked is None:
        return most_ms / 1000
    if not _SECONDS.fullmatch(asked) or not float(asked):
        raise unreadable([Fault(Place.HEADER, TIMEOUT_HEADER, "HEADER_INVALID", "must be seconds, for example 2.5")])
    return min(float(asked), most_ms / 1000)
