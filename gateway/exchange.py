"""One HTTP request on its way through the gateway."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope


@dataclass(slots=True)
class Exchange:
    """A request.

    Attributes:
        scope: as ASGI gives it.
        receive: gives the body.
        headers: of the request.
        request_id: the caller's, or one of our own.
        segments: the segments of the path, percent-encoded.
        route: method and template that answer; for logs and metrics.
    """

    scope: Scope
    receive: Receive
    headers: Headers
    request_id: str
    segments: Sequence[str] = ()
    route: str = "none"

    @property
    def raw_path(self) -> str:
        """The path as sent, percent-encoded."""
        raw: bytes = self.scope.get("raw_path") or self.scope["path"].encode()
        return raw.decode("latin-1")


class Target(Protocol):
    """What answers requests on a route."""

    @property
    def route(self) -> str:
        """Method and template."""
        ...

    async def answer(self, exchange: Exchange) -> Response:
        """Answer a request, or raise a Problem."""
        ...


@dataclass(frozen=True, slots=True)
class Page:
    """A target that is a function."""

    route: str
    make: Callable[[Exchange], Awaitable[Response]]

    async def answer(self, exchange: Exchange) -> Response:
        """Answer a request."""
        return await self.make(exchange)
