"""The manners of the HTTP interface: idempotency keys, pages, entity tags, request ids, documentation, health."""

import asyncio

import grpc
import pytest
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from tests.system.launching import DOORS, System
from tests.system.market import Market, eur
from tests.system.stranger import Stranger, done, fresh


async def test_an_idempotency_key_makes_a_repeat_harmless(market: Market):
    enterprise, key = market.enterprise, {"Idempotency-Key": fresh("key")}
    body = {"name": fresh("zone"), "country_codes": ["BE"]}
    answers = await asyncio.gather(*(enterprise.ask("POST", "/v1/rate-zones", body, headers=key) for _ in range(5)))
    assert len({done(answer)["id"] for answer in answers}) == 1
    other = await enterprise.problem("POST", "/v1/rate-zones", body | {"name": fresh("zone")}, headers=key)
    assert (other["status"], other["code"]) == (409, "REQUEST_ID_REUSED")
    named = [one for one in (await enterprise.get("/v1/rate-zones"))["rate_zones"] if one["name"] == body["name"]]
    assert len(named) == 1


@pytest.mark.requirement("R325")
async def test_money_is_topped_up_once_for_one_request(market: Market):
    endpoint_id = await market.endpoint()
    body = {"endpoint_id": endpoint_id, "amount": eur(5), "request_id": fresh("topup")}
    first, again = [await market.enterprise.post("/v1/topups", body) for _ in range(2)]
    assert first["remaining"] == again["remaining"] == "5000000"
    reused = await market.enterprise.problem("POST", "/v1/topups", body | {"amount": eur(6)})
    assert reused["code"] == "REQUEST_ID_REUSED"
    (money,) = [
        balance
        for balance in (await market.enterprise.get("/v1/balances", endpoint_id=endpoint_id))["balances"]
        if balance["unit"] == "UNIT_MONEY"
    ]
    assert (money["remaining"], money["currency"]) == ("5000000", "EUR")


async def test_pages_hold_each_object_once_and_end(market: Market):
    made = await market.endpoints(7)
    for size in (3, 7, 1000):
        seen: list[str] = []
        token = ""
        while True:
            page = await market.enterprise.get("/v1/endpoints", page_size=size, page_token=token)
            seen += [endpoint["id"] for endpoint in page["endpoints"]]
            assert len(page["endpoints"]) <= size
            token = page["next_page_token"]
            if not token:
                break
        assert sorted(seen) == sorted(made)


async def test_an_entity_tag_guards_against_a_lost_update(market: Market):
    endpoint_id = await market.endpoint()
    path, enterprise = f"/v1/endpoints/{endpoint_id}", market.enterprise
    read = await enterprise.ask("GET", path)
    tag = read.headers["etag"]
    same = await enterprise.ask("GET", path, headers={"If-None-Match": tag})
    assert (same.status_code, same.content) == (304, b"")
    changed = await enterprise.ask("PATCH", path, {"name": "one"}, headers={"If-Match": tag})
    assert done(changed)["name"] == "one"
    lost = await enterprise.problem("PATCH", path, {"name": "two"}, headers={"If-Match": tag})
    assert (lost["status"], lost["code"]) == (412, "ETAG_MISMATCH")
    assert (await enterprise.get(path))["name"] == "one"
    now = (await enterprise.ask("GET", path)).headers["etag"]
    assert now == changed.headers["etag"] != tag


async def test_a_patch_changes_what_it_names_and_nothing_else(market: Market):
    endpoint_id = await market.endpoint()
    path = f"/v1/endpoints/{endpoint_id}"
    before = await market.enterprise.get(path)
    after = await market.enterprise.patch(path, {"tags": ["b", "a"]})
    volatile = {"tags", "etag", "update_time"}
    assert {k: v for k, v in after.items() if k not in volatile} == {
        k: v for k, v in before.items() if k not in volatile
    }
    assert sorted(after["tags"]) == ["a", "b"]


async def test_health_documentation_and_metrics_need_no_key(operator: Stranger):
    for path, says in (
        ("/healthz", "alive"), ("/readyz", "SERVING"), ("/openapi.json", '"3.1'), ("/docs", "<html"),
        ("/metrics", "meterline_requests_total"),
    ):  # fmt: skip
        answer = await operator.http.get(path, headers={"X-Request-Id": "mine"})
        assert answer.status_code == 200
        assert says in answer.text
        assert answer.headers["x-request-id"] == "mine"


def test_every_grpc_server_tells_its_whole_contract_by_reflection(system: System):
    for service in DOORS[1:]:
        with grpc.insecure_channel(system.description[service]) as channel:
            told = ProtoReflectionDescriptorDatabase(channel)
            names = [name for name in told.get_services() if name.startswith("meterline.")]
            assert len(names) >= 4
            for name in names:
                assert name.rpartition(".")[2] in [one.name for one in told.FindFileContainingSymbol(name).service]
