"""Somebody with an API key and the documentation: speaks HTTP and gRPC to a running system, and nothing else."""

import contextlib
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import httpx

from meterline.rating.v1 import charging_pb2, charging_pb2_grpc

TIMEOUT_S = 30
_numbers = itertools.count(1)
Json = dict[str, Any]


def fresh(word: str) -> str:
    """A name that no other test uses."""
    return f"{word}-{next(_numbers)}"


@dataclass(frozen=True, slots=True)
class Stranger:
    """The holder of one API key.

    Attributes:
        http: to the gateway.
        rating: a gRPC channel to rating.
        key: the credential.
        account_id: the account that the key is bound to.
    """

    http: httpx.AsyncClient
    rating: grpc.aio.Channel
    key: str
    account_id: str = ""

    @classmethod
    @contextlib.asynccontextmanager
    async def connected(cls, description: Mapping[str, str]) -> AsyncIterator["Stranger"]:
        """The operator of a system, connected for as long as the block lasts."""
        async with (
            httpx.AsyncClient(base_url=description["gateway"], timeout=TIMEOUT_S, trust_env=False) as http,
            grpc.aio.insecure_channel(description["rating"]) as rating,
        ):
            unknown = cls(http, rating, description["operator_key"])
            yield cls(http, rating, unknown.key, (await unknown.get("/v1/me"))["account_id"])

    async def ask(self, method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
        """Send a request and return whatever comes back."""
        headers = {"authorization": f"Bearer {self.key}", **options.pop("headers", {})}
        if isinstance(body, bytes):
            return await self.http.request(method, path, content=body, headers=headers, **options)
        return await self.http.request(method, path, json=body, headers=headers, **options)

    async def get(self, path: str, **query: Any) -> Json:
        """Read what must be there."""
        return done(await self.ask("GET", path, params=query))

    async def post(self, path: str, body: Json | None = None, **query: Any) -> Json:
        """Do what must succeed."""
        return done(await self.ask("POST", path, body or {}, params=query))

    async def patch(self, path: str, body: Json) -> Json:
        """Change what must be changeable."""
        return done(await self.ask("PATCH", path, body))

    async def problem(self, method: str, path: str, body: Any = None, **options: Any) -> Json:
        """Ask for what must be refused; returns the problem."""
        answer = await self.ask(method, path, body, **options)
        assert answer.headers["content-type"] == "application/problem+json", f"{answer.status_code} {answer.text}"
        told: Json = answer.json()
        assert told["status"] == answer.status_code
        return told

    async def act_as(self, account_id: str, role: str = "ROLE_ADMIN") -> "Stranger":
        """Become the holder of a new key of an account."""
        made = await self.post("/v1/api-keys", {"account_id": account_id, "name": fresh("key"), "role": role})
        return Stranger(self.http, self.rating, made["credential"], account_id)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The metadata of a gRPC call."""
        return (("authorization", f"Bearer {self.key}"),)

    @property
    def charging(self) -> charging_pb2_grpc.ChargingServiceStub:
        """The charging service over gRPC."""
        return charging_pb2_grpc.ChargingServiceStub(self.rating)

    async def charge_one(self, event: charging_pb2.UsageEvent) -> charging_pb2.ChargeResult:
        """Charge by the unary call."""
        request = charging_pb2.ChargeEventRequest(event=event)
        return await self.charging.ChargeEvent(request, metadata=self.metadata, timeout=TIMEOUT_S)

    async def charge_batch(self, events: Sequence[charging_pb2.UsageEvent]) -> list[charging_pb2.ChargeResult]:
        """Charge by the batch call."""
        request = charging_pb2.ChargeUsageRequest(events=events)
        answer = await self.charging.ChargeUsage(request, metadata=self.metadata, timeout=TIMEOUT_S)
        return list(answer.results)

    async def charge_stream(
        self, batches: Mapping[int, Sequence[charging_pb2.UsageEvent]]
    ) -> dict[int, list[charging_pb2.ChargeResult]]:
        """Charge by a stream of batches; returns the results by the number of the batch."""
        requests = (charging_pb2.ChargeUsageRequest(batch_id=n, events=events) for n, events in batches.items())
        answers = self.charging.StreamUsage(iter(list(requests)), metadata=self.metadata, timeout=TIMEOUT_S)
        return {answer.batch_id: list(answer.results) async for answer in answers}


def done(answer: httpx.Response) -> Json:
    """The content of an answer that must be good."""
    assert answer.status_code == httpx.codes.OK, f"{answer.request.method} {answer.request.url}: {answer.text}"
    content: Json = answer.json()
    return content
