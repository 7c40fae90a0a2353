"""A server on this machine that speaks the few endpoints of Stripe that payments use, with its shapes and its manners.

It follows https://docs.stripe.com/api/payment_intents and .../idempotent_requests: the first answer to a key is saved,
500s included, and replayed; other parameters under a known key are an `idempotency_error`; what fails validation is
not saved. What a PaymentMethod does stands in its id, as with Stripe's own test cards.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

SECRET_KEY = "sk_test_51HarbourLighthouseKeeper"
DECLINES = {
    "pm_card_visa_chargeDeclined": ("card_declined", "generic_decline"),
    "pm_card_visa_chargeDeclinedInsufficientFunds": ("card_declined", "insufficient_funds"),
    "pm_card_chargeDeclinedExpiredCard": ("expired_card", None),
    "pm_card_authenticationRequired": ("authentication_required", "authentication_required"),
}


class Dropped(Response):
    """Begins an answer and hangs up."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - what ASGI calls
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000")]})
        await send({"type": "http.response.body", "body": b"{", "more_body": False})


class StripeServer:
    """PaymentIntents in memory.

    Attributes:
        url: base address.
        intents: by id, newest last.
        asked: method and path of each request.
        forms: what each creation was asked with.
        before: answers to the next requests in place of their work; None lets one through.
        after: answers to the next requests in place of the true ones, their work done.
        stall_s: seconds from the work to its answer.
    """

    def __init__(self) -> None:
        self.url = ""
        self.intents: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.forms: list[dict[str, str]] = []
        self.before: list[Callable[[], Response] | None] = []
        self.after: list[Callable[[], Response]] = []
        self.stall_s = 0.0
        self._saved: dict[str, tuple[dict[str, str], int, Any]] = {}
        self._numbers = itertools.count(1)

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/payment_intents", self.create, methods=["POST"]),
                Route("/v1/payment_intents", self.list, methods=["GET"]),
                Route("/v1/payment_intents/{id}", self.retrieve, methods=["GET"]),
                Route("/v1/payment_intents/{id}/cancel", self.cancel, methods=["POST"]),
            ]
        )

    async def create(self, request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode()))
        self.forms.append(form)
        return await self._answer(request, lambda: self._idempotent(request.headers["idempotency-key"], form))

    async def retrieve(self, request: Request) -> Response:
        return await self._answer(request, lambda: self._of(request, lambda intent: (200, intent)))

    async def cancel(self, request: Request) -> Response:
        return await self._answer(request, lambda: self._of(request, self._cancelled))

    async def list(self, request: Request) -> Response:
        def page() -> tuple[int, Any]:
            customer, limit = request.query_params["customer"], int(request.query_params.get("limit", "10"))
            found = [intent for intent in reversed(self.intents.values()) if intent["customer"] == customer]
            if after := request.query_params.get("starting_after"):
                found = found[[intent["id"] for intent in found].index(after) + 1 :]
            url = "/v1/payment_intents"
            return 200, {"object": "list", "url": url, "has_more": len(found) > limit, "data": found[:limit]}

        return await self._answer(request, page)

    async def _answer(self, request: Request, work: Callable[[], tuple[int, Any]]) -> Response:
        self.asked.append(f"{request.method} {request.url.path}")
        if self.before and (instead := self.before.pop(0)):
            return instead()
        if request.headers["authorization"] != f"Bearer {SECRET_KEY}":
            shown = request.headers["authorization"].removeprefix("Bearer ")
            return refusal(401, "invalid_request_error", None, f"Invalid API Key provided: {shown}")()
        status, body = work()
        if self.stall_s:
            await asyncio.sleep(self.stall_s)
        if self.after:
            return self.after.pop(0)()
        return JSONResponse(body, status, {"request-id": f"req_{next(self._numbers)}"})

    def _idempotent(self, key: str, form: dict[str, str]) -> tuple[int, Any]:
        if key in self._saved:
            first, status, body = self._saved[key]
            if first != form:
                message = (
                    "Keys for idempotent requests can only be used with the same parameters they were first used with."
                )
                return 400, {"error": {"type": "idempotency_error", "message": message}}
            return status, body
        if form["payment_method"] == "pm_missing":
            message = "No such PaymentMethod: 'pm_missing'"
            error = {"code": "resource_missing", "param": "payment_method", "message": message}
            return 400, {"error": {"type": "invalid_request_error", **error}}
        status, body = self._created(form)
        self._saved[key] = (form, status, _copy(body))
        return status, body

    def save_as_server_error(self, key: str) -> None:
        """Let the saved answer of a key be a 500, as when Stripe fails after it took the money."""
        form, _, _ = self._saved[key]
        error = {"type": "api_error", "message": "An unknown error occurred"}
        self._saved[key] = (form, 500, {"error": error})

    def _created(self, form: dict[str, str]) -> tuple[int, Any]:
        intent = {
            "id": f"pi_{next(self._numbers):024}",
            "object": "payment_intent",
            "amount": int(form["amount"]),
            "amount_received": 0,
            "currency": form["currency"],
            "customer": form["customer"],
            "payment_method": form["payment_method"],
            "metadata": {"meterline_payment": form["metadata[meterline_payment]"]},
            "last_payment_error": None,
            "cancellation_reason": None,
            "livemode": False,
            "status": "succeeded",
        }
        self.intents[str(intent["id"])] = intent
        if form["payment_method"] in DECLINES:
            code, decline_code = DECLINES[form["payment_method"]]
            error = {"type": "card_error", "code": code, "message": "Your card was declined."}
            error |= {"decline_code": decline_code} if decline_code else {}
            intent |= {"status": "requires_payment_method", "last_payment_error": error}
            return 402, {"error": {**error, "payment_intent": _copy(intent)}}
        if form["payment_method"] == "pm_usBankAccount":
            intent["status"] = "processing"
        elif form["payment_method"] == "pm_action":
            intent["status"] = "requires_action"
        else:
            intent["amount_received"] = intent["amount"]
        return 200, intent

    def _of(self, request: Request, work: Callable[[dict[str, Any]], tuple[int, Any]]) -> tuple[int, Any]:
        intent = self.intents.get(request.path_params["id"])
        if intent is None:
            return 404, {"error": {"type": "invalid_request_error", "code": "resource_missing", "message": "No such"}}
        return work(intent)

    def _cancelled(self, intent: dict[str, Any]) -> tuple[int, Any]:
        if intent["status"] in {"succeeded", "canceled"}:
            error = {"code": "payment_intent_unexpected_state", "message": "You cannot cancel this PaymentIntent"}
            return 400, {"error": {"type": "invalid_request_error", **error, "payment_intent": _copy(intent)}}
        intent["status"] = "canceled"
        return 200, intent


def refusal(status: int, kind: str, code: str | None, message: str = "It failed.") -> Callable[[], Response]:
    """An answer with one of Stripe's errors."""
    error = {"type": kind, "code": code, "message": message}
    return lambda: JSONResponse({"error": {key: value for key, value in error.items() if value}}, status)


def not_stripe() -> Response:
    """What a proxy in between answers."""
    return PlainTextResponse("<html>502 Bad Gateway</html>", 502)


def _copy(intent: dict[str, Any]) -> dict[str, Any]:
    return {**intent}


@asynccontextmanager
async def stripe_server() -> AsyncIterator[StripeServer]:
    """The server, on a free port."""
    fake = StripeServer()
    config = uvicorn.Config(fake.app(), host="127.0.0.1", port=0, log_level="critical", lifespan="off")
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined] # the tests keep theirs
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.005)
    fake.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    yield fake
    server.should_exit = server.force_exit = True
    await running
