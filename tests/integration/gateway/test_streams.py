"""A method with a stream of answers, annotated for the test: one line of JSON a message."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import orjson
from google.api import http_pb2
from google.protobuf import descriptor_pool

from gateway.app import make_app
from gateway.backends import Backends
from gateway.settings import Settings
from gateway.transcode.bindings import bindings_of
from gateway.transcode.contracts import load_contracts
from meterline.accounts.v1 import accounts_pb2, accounts_pb2_grpc
from services.common.errors import PermissionDeniedError, UnavailableError
from services.runtime.server import Server
from tests.integration.gateway.world import KEY, door


class Accounts(accounts_pb2_grpc.AccountServiceServicer):
    async def WatchAccountChanges(  # noqa: N802 - as in the contract
        self, request: accounts_pb2.WatchAccountChangesRequest, _: Any
    ) -> AsyncIterator[accounts_pb2.WatchAccountChangesResponse]:
        if request.from_cursor == 9:
            raise PermissionDeniedError("SERVICES_ONLY", "Only services may watch.")
        for cursor in (1, 2):
            yield accounts_pb2.WatchAccountChangesResponse(cursor=cursor)
        if request.from_cursor == 5:
            raise UnavailableError("STORE_AWAY", "The store is away; try again.")


@asynccontextmanager
async def client() -> AsyncIterator[httpx.AsyncClient]:
    service = descriptor_pool.Default().FindServiceByName("meterline.accounts.v1.AccountService")
    bindings = list(bindings_of(service.methods_by_name["WatchAccountChanges"], http_pb2.HttpRule(get="/v1/changes")))
    servicer = Accounts()  # type: ignore[abstract] # what it lacks is not called
    servicers = ((servicer, accounts_pb2_grpc.add_AccountServiceServicer_to_server),)
    async with (
        Server("127.0.0.1:0", door("accounts"), servicers, ()) as server,
        Backends({"accounts": f"127.0.0.1:{server.port}"}, bindings) as backends,
    ):
        app = make_app(Settings(), load_contracts(), bindings, backends)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://gateway", headers={"authorization": KEY}
        ) as http:
            yield http


async def test_each_answer_is_a_line():
    async with client() as http:
        answer = await http.get("/v1/changes")
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert [orjson.loads(line)["cursor"] for line in answer.text.splitlines()] == ["1", "2"]


async def test_a_failure_before_the_first_answer_has_its_own_status():
    async with client() as http:
        answer = await http.get("/v1/changes?from_cursor=9")
    assert (answer.status_code, answer.json()["code"]) == (403, "SERVICES_ONLY")


async def test_a_later_failure_is_the_last_line():
    async with client() as http:
        answer = await http.get("/v1/changes?from_cursor=5")
    *_, last = answer.text.splitlines()
    problem = orjson.loads(last)["problem"]
    assert (problem["code"], problem["request_id"]) == ("STORE_AWAY", answer.headers["x-request-id"])
