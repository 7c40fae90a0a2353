"""An annotated method as a target: HTTP in, one gRPC call, HTTP out."""

import asyncio
import re
from dataclasses import dataclass
from typing import Any

import grpc
import orjson
from google.protobuf.message import Message
from starlette.responses import Response

from gateway.auth import authorization
from gateway.backends import Backends
from gateway.exchange import Exchange
from gateway.limits import Concurrency, Rate, deadline_s, read_body
from gateway.problems import Problem, from_rpc_error, not_now
from gateway.settings import SERVICE
from gateway.streams import lines
from gateway.transcode.bindings import Binding
from gateway.transcode.requests import IDEMPOTENCY_KEY, IF_MATCH, Parts, Request, read_request
from services.runtime.telemetry import logger

REQUEST_ID = "x-request-id"
JSON = "application/json"
_PRIVATE = {"cache-control": "no-store"}

log = logger(SERVICE)
_TAG = re.compile(r"[\x21\x23-\x7e]+")


@dataclass(frozen=True, slots=True)
class Guard:
    """The bounds that all calls share."""

    body_bytes_max: int
    deadline_ms: int
    rate: Rate
    concurrency: Concurrency


class Call:
    """Calls one method of a service for each request on its route."""

    def __init__(self, binding: Binding, backends: Backends, guard: Guard) -> None:
        self.route = binding.route
        self._binding = binding
        self._backends = backends
        self._guard = guard

    async def answer(self, exchange: Exchange) -> Response:
        """Translate, call, translate back."""
        credential = authorization(exchange.headers)
        self._guard.rate.take(credential)
        with self._guard.concurrency.one():
            seconds = deadline_s(exchange.headers, self._guard.deadline_ms)
            request = await self._read(exchange, seconds)
            metadata = (("authorization", credential), (REQUEST_ID, exchange.request_id))
            try:
                call = self._backends.call(self._binding, request.message, metadata=metadata, seconds=seconds)
                if self._binding.method.server_streaming:
                    return await lines(call, self._binding, exchange.request_id, self._problem)
                return self._respond(exchange, await call)
            except grpc.aio.AioRpcError as error:
                raise self._problem(error, request) from error

    async def _read(self, exchange: Exchange, seconds: float) -> Request:
        headers = exchange.headers
        try:
            async with asyncio.timeout(seconds):
                body = await read_body(headers, exchange.receive, self._guard.body_bytes_max)
        except TimeoutError as error:
            raise not_now(408, "BODY_TOO_SLOW", "The body did not arrive in time.") from error
        parts = Parts(
            segments=exchange.segments,
            query=exchange.scope["query_string"].decode("latin-1"),
            body=body,
            idempotency_key=headers.get(IDEMPOTENCY_KEY, ""),
            if_match=headers.get(IF_MATCH, ""),
        )
        return read_request(self._binding, parts)

    def _problem(self, error: grpc.aio.AioRpcError, request: Request | None = None) -> Problem:
        from_headers = request.from_headers if request is not None else {}
        problem = from_rpc_error(error, self._binding.service, lambda v: self._binding.fault(v, from_headers))
        if problem.status >= 500:
            log.warning("call failed", rpc=self._binding.rpc, grpc=error.code().name, details=error.details())
        if problem.code == "ETAG_MISMATCH" and IF_MATCH in from_headers.values():
            problem.status = 412  # RFC 9110, 13.1.1: the precondition was the caller's
        return problem

    def _respond(self, exchange: Exchange, answer: Message) -> Response:
        headers = dict(_PRIVATE)
        if self._binding.answers_etag and _TAG.fullmatch(etag := _etag(answer)):
            headers["etag"] = f'"{etag}"'
            if self._binding.verb == "GET" and exchange.headers.get("if-none-match") == headers["etag"]:
                return Response(status_code=304, headers=headers)
        return Response(orjson.dumps(self._binding.answer_writer(answer)), headers=headers, media_type=JSON)


def _etag(answer: Any) -> str:
    etag: str = answer.etag
    return etag
