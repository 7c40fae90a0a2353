"""The real gateway on a real port, before small servicers of some contracts that remember what they were asked."""
# ruff: noqa: N802 - methods are named as in the contracts

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx

from gateway.__main__ import listening, serve
from gateway.settings import Settings
from meterline.accounts.v1 import companies_pb2, companies_pb2_grpc
from meterline.catalog.v1 import tariffs_pb2, tariffs_pb2_grpc
from meterline.rating.v1 import charging_pb2, charging_pb2_grpc
from services.common.errors import AbortedError, FailedPreconditionError, UnavailableError, invalid, not_found
from services.common.identity import AccountKind, Principal, Role
from services.common.ids import derived_id
from services.runtime.identity import Authenticator, ServiceTokens, unauthenticated
from services.runtime.server import Door, Server

KEY = "Bearer mk_good"
COMPANY_ID = derived_id("com", "acme")
TARIFF_ID = derived_id("tar", "standard")
ENDPOINT_ID = derived_id("ep", "tracker")
COMPANY = {
    "name": "Acme",
    "type": "COMPANY_TYPE_CUSTOMER",
    "phone_number": "+3225476111",
    "address": {"country": "BE", "city": "Brussels", "street": "Rue Neuve", "number": "1"},
}
EVENT = {
    "event_id": "e1",
    "endpoint_id": ENDPOINT_ID,
    "service": "SERVICE_DATA",
    "network_id": "net_20601",
    "access_type": "ACCESS_TYPE_4G",
    "usage_time_ms": "1800000000000",
    "quantity": 1048576,
}


@dataclass
class Seen:
    """What the servicers were asked, in order, and with which metadata."""

    requests: list[Any] = field(default_factory=list)
    metadata: list[dict[str, Any]] = field(default_factory=list)

    def note(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata() or ()))


class Companies(companies_pb2_grpc.CompanyServiceServicer):
    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    async def CreateCompany(self, request: companies_pb2.CreateCompanyRequest, context: Any) -> companies_pb2.Company:
        self.seen.note(request, context)
        answer = companies_pb2.Company(etag="1")
        answer.MergeFrom(request.company)
        answer.id = COMPANY_ID
        answer.create_time.FromMilliseconds(1_800_000_000_000)
        return answer

    async def GetCompany(self, request: companies_pb2.GetCompanyRequest, context: Any) -> companies_pb2.Company:
        self.seen.note(request, context)
        if request.company_id != COMPANY_ID:
            raise not_found("company", request.company_id)
        return companies_pb2.Company(id=COMPANY_ID, name="Acme", etag="3")

    async def ListCompanies(
        self, request: companies_pb2.ListCompaniesRequest, context: Any
    ) -> companies_pb2.ListCompaniesResponse:
        self.seen.note(request, context)
        if request.query == "slow":
            await asyncio.sleep(5)
        if request.query == "broken":
            raise RuntimeError("with a secret in it")
        if request.query == "busy":
            raise UnavailableError("STORE_AWAY", "The store is away; try again.", retry_after_ms=2500)
        return companies_pb2.ListCompaniesResponse()

    async def UpdateCompany(self, request: companies_pb2.UpdateCompanyRequest, context: Any) -> companies_pb2.Company:
        self.seen.note(request, context)
        if request.company.etag not in {"", "3"}:
            raise AbortedError("ETAG_MISMATCH", "It has changed; read it again.")
        if request.company.phone_number == "+1":
            raise invalid("company.phone_number", "is no phone number")
        return request.company


class Tariffs(tariffs_pb2_grpc.TariffServiceServicer):
    async def PublishTariff(self, request: tariffs_pb2.PublishTariffRequest, _: Any) -> tariffs_pb2.Tariff:
        raise FailedPreconditionError(
            "TARIFF_EMPTY", "It has no rates.", metadata={"rates": "0"}, resource=("tariff", request.tariff_id)
        )


class Charging(charging_pb2_grpc.ChargingServiceServicer):
    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    async def ChargeUsage(
        self, request: charging_pb2.ChargeUsageRequest, context: Any
    ) -> charging_pb2.ChargeUsageResponse:
        self.seen.note(request, context)
        result = charging_pb2.ChargeResult(outcome=charging_pb2.OUTCOME_CHARGED, amounts_micros=[2**53 + 1])
        return charging_pb2.ChargeUsageResponse(batch_id=request.batch_id, results=[result] * len(request.events))

    async def ChargeEvent(self, request: charging_pb2.ChargeEventRequest, context: Any) -> charging_pb2.ChargeResult:
        self.seen.note(request, context)
        return charging_pb2.ChargeResult(outcome=charging_pb2.OUTCOME_REFUSED, reason=charging_pb2.REASON_NO_RATE)


async def _resolve(credential: str) -> Principal:
    if credential != "mk_good":
        raise unauthenticated()
    return Principal("key_1", derived_id("acc", "root"), AccountKind.OPERATOR, (), Role.ADMIN)


def door(service: str) -> Door:
    return Door(service, Authenticator(ServiceTokens("a secret of at least thirty-two characters"), _resolve))


@dataclass
class World:
    """The gateway's client and what the services saw."""

    http: httpx.AsyncClient
    seen: Seen
    port: int
    stop: asyncio.Event
    serving: "asyncio.Task[None]"


def free_address() -> str:
    with listening("127.0.0.1:0") as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


def client(port: int) -> httpx.AsyncClient:
    headers = {"authorization": KEY}
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False)


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[World]:
    """accounts, catalog and rating serve; endpoints is away."""
    seen = Seen()
    accounts = ((Companies(seen), companies_pb2_grpc.add_CompanyServiceServicer_to_server),)
    tariffs = Tariffs()  # type: ignore[abstract] # what it lacks is not called
    catalog = ((tariffs, tariffs_pb2_grpc.add_TariffServiceServicer_to_server),)
    charging = Charging(seen)  # type: ignore[abstract] # as above
    rating = ((charging, charging_pb2_grpc.add_ChargingServiceServicer_to_server),)
    async with (
        Server("127.0.0.1:0", door("accounts"), accounts, ()) as at_accounts,
        Server("127.0.0.1:0", door("catalog"), catalog, ()) as at_catalog,
        Server("127.0.0.1:0", door("rating"), rating, ()) as at_rating,
    ):
        told = Settings(
            accounts_address=f"127.0.0.1:{at_accounts.port}",
            catalog_address=f"127.0.0.1:{at_catalog.port}",
            rating_address=f"127.0.0.1:{at_rating.port}",
            endpoints_address=free_address(),
        ).model_copy(update=settings)
        stop = asyncio.Event()
        with listening("127.0.0.1:0") as listener:
            port = listener.getsockname()[1]
            serving = asyncio.create_task(serve(told, listener, stop))
            async with client(port) as http:
                yield World(http, seen, port, stop, serving)
            stop.set()
            await serving
