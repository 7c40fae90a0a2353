"""The application: finds what answers a request, and shows every failure as a problem."""

import re
import time
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from prometheus_client import Gauge
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars

from gateway.backends import Backends
from gateway.calls import REQUEST_ID, Call, Guard
from gateway.exchange import Exchange, Target
from gateway.limits import Concurrency, Rate
from gateway.pages import pages
from gateway.problems import MEDIA_TYPE, Problem
from gateway.settings import SERVICE, Settings
from gateway.transcode.bindings import Binding
from gateway.transcode.contracts import Contracts
from gateway.transcode.templates import Router, Template
from services.runtime.telemetry import LATENCY, REQUESTS, logger

IN_WORK = Gauge("meterline_gateway_requests_in_work", "Requests that the gateway works on.")
CLIENT_GONE = 499
PATH_LOGGED_MAX = 512
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_FAULT = Problem(500, "INTERNAL", "The gateway failed; the fault is logged under this request id.")

log = logger(SERVICE)


class Gateway:
    """The ASGI application."""

    def __init__(self, router: Router[Target]) -> None:
        self._router = router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, log it and count it."""
        if scope["type"] != "http":
            return
        started = time.perf_counter()
        headers = Headers(scope=scope)
        asked = headers.get(REQUEST_ID, "")
        exchange = Exchange(scope, receive, headers, asked if _REQUEST_ID.fullmatch(asked) else uuid4().hex)
        bind_contextvars(request_id=exchange.request_id)
        with IN_WORK.track_inprogress():
            response, status = await self._answer(exchange)
            if response is not None:
                await response(scope, receive, _with_own_headers(send, exchange.request_id))
        _tell(exchange, status, time.perf_counter() - started)

    async def _answer(self, exchange: Exchange) -> tuple[Response | None, int]:
        try:
            response = await self._find(exchange)
        except ClientDisconnect:
            return None, CLIENT_GONE
        except Problem as problem:
            response = _shown(problem, exchange.request_id)
        except Exception:
            log.exception("fault", route=exchange.route)
            response = _shown(_FAULT, exchange.request_id)
        return response, response.status_code

    async def _find(self, exchange: Exchange) -> Response:
        found = self._router.find(exchange.raw_path)
        if found is None:
            raise Problem(404, "ROUTE_NOT_FOUND", "There is nothing at this path; /docs shows what there is.")
        targets, exchange.segments = found
        verb = exchange.scope["method"]
        allow = ", ".join(_allowed(targets))
        target = targets.get("GET" if verb == "HEAD" else verb)
        if target is not None:
            exchange.route = target.route
            return await target.answer(exchange)
        if verb == "OPTIONS":
            return Response(status_code=204, headers={"allow": allow})
        raise Problem(405, "METHOD_NOT_ALLOWED", f"{verb} is not possible here; {allow} are.", headers={"allow": allow})


def _allowed(targets: Mapping[str, Any]) -> list[str]:
    return sorted({*targets, "OPTIONS", *(["HEAD"] if "GET" in targets else [])})


def _shown(problem: Problem, request_id: str) -> Response:
    return Response(problem.body(request_id), problem.status, dict(problem.headers), MEDIA_TYPE)


def _with_own_headers(send: Send, request_id: str) -> Send:
    async def send_with(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=message["headers"])
            headers[REQUEST_ID] = request_id
            headers["x-content-type-options"] = "nosniff"
        await send(message)

    return send_with


def _tell(exchange: Exchange, status: int, seconds: float) -> None:
    REQUESTS.labels(SERVICE, exchange.route, str(status)).inc()
    LATENCY.labels(SERVICE, exchange.route).observe(seconds)
    log.info(
        "request",
        method=exchange.scope["method"],
        path=exchange.scope["path"][:PATH_LOGGED_MAX],
        route=exchange.route,
        status=status,
        ms=round(seconds * 1000, 3),
    )


def make_app(settings: Settings, contracts: Contracts, bindings: list[Binding], backends: Backends) -> ASGIApp:
    """Put the application together."""
    guard = Guard(
        settings.body_bytes_max,
        settings.deadline_ms,
        Rate(settings.rate_per_s, settings.rate_burst),
        Concurrency(settings.concurrency_max),
    )
    router: Router[Target] = Router()
    for binding in bindings:
        router.add(binding.template, binding.verb, Call(binding, backends, guard))
    for path, page in pages(contracts, bindings, backends).items():
        router.add(Template.parse(path), "GET", page)
    app: ASGIApp = Gateway(router)
    if settings.cors_origins:
        app = CORSMiddleware(
            app,
            allow_origins=settings.cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["etag", "retry-after", REQUEST_ID],
        )
    return app
