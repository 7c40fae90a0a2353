"""Requests that fail: each is a problem document with a stable code and the part of the request that is wrong."""

import asyncio
from typing import Any

import httpx
import orjson
import pytest

from tests.integration.gateway.world import COMPANY, COMPANY_ID, EVENT, TARIFF_ID, World, running

pytestmark = pytest.mark.asyncio(loop_scope="module")


def problem(answer: httpx.Response) -> dict[str, Any]:
    """The document, once its form is checked."""
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["status"] == answer.status_code
    assert document["type"] == f"urn:meterline:problem:{document['code']}"
    assert document["title"]
    assert document["detail"]
    assert document["request_id"] == answer.headers["x-request-id"]
    return document


def said(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, problem(answer)["code"]


async def test_an_object_that_is_not_there_is_404_and_named(world: World):
    answer = await world.http.get(f"/v1/companies/{TARIFF_ID.replace('tar', 'com')}")
    assert said(answer) == (404, "COMPANY_NOT_FOUND")
    assert problem(answer)["resource"]["type"] == "company"


async def test_every_wrong_member_of_a_body_is_named_with_its_pointer(world: World):
    body = COMPANY | {"colour": "red", "type": "SHOP", "address": {"country": 32, "city": "Brussels"}}
    answer = await world.http.post("/v1/companies", json=body)
    errors = {(error["pointer"], error["code"]) for error in problem(answer)["errors"]}
    assert errors == {
        ("#/colour", "FIELD_UNKNOWN"),
        ("#/type", "FIELD_INVALID"),
        ("#/address/country", "FIELD_INVALID"),
    }
    assert not world.seen.requests


async def test_a_limit_of_the_contract_that_a_service_enforces_is_shown_in_terms_of_the_body(world: World):
    answer = await world.http.post("/v1/companies", json=COMPANY | {"address": {"country": "Belgium"}})
    assert problem(answer)["errors"][0]["pointer"] == "#/address/country"
    answer = await world.http.post("/v1/usage:charge", json={"events": [EVENT, EVENT | {"quantity": -1}]})
    assert problem(answer)["errors"][0]["pointer"] == "#/events/1/quantity"


async def test_a_fault_that_only_the_service_sees_is_shown_in_terms_of_the_body(world: World):
    answer = await world.http.patch(f"/v1/companies/{COMPANY_ID}", json={"phone_number": "+1"})
    assert problem(answer)["errors"] == [
        {"pointer": "#/phone_number", "code": "FIELD_INVALID", "detail": "is no phone number"}
    ]


async def test_a_fault_in_a_parameter_or_a_header_names_it(world: World):
    by_query = await world.http.get("/v1/companies", params={"page_size": 1001})
    assert problem(by_query)["errors"][0]["parameter"] == "page_size"
    by_path = await world.http.get("/v1/companies/4711")
    assert problem(by_path)["errors"][0]["parameter"] == "company_id"
    by_header = await world.http.post("/v1/companies", json=COMPANY, headers={"idempotency-key": "k" * 129})
    assert problem(by_header)["errors"][0]["header"] == "Idempotency-Key"


@pytest.mark.parametrize(
    ("query", "parameter", "code"),
    [
        ("colour=red", "colour", "PARAMETER_UNKNOWN"),
        ("page_size=many", "page_size", "FIELD_INVALID"),
        ("page_size=99999999999", "page_size", "FIELD_INVALID"),
        ("page_size=", "page_size", "FIELD_INVALID"),
        ("page_size=1&page_size=2", "page_size", "FIELD_INVALID"),
    ],
)
async def test_a_wrong_query_parameter_is_named(world: World, query: str, parameter: str, code: str):
    (error,) = problem(await world.http.get(f"/v1/companies?{query}"))["errors"]
    assert (error["parameter"], error["code"]) == (parameter, code)


@pytest.mark.parametrize(
    ("body", "code", "column"),
    [
        (b'{"name": "Acme",}', "JSON_MALFORMED", 16),
        (b"{'name': 1}", "JSON_MALFORMED", 2),
        (b'{"name": NaN}', "JSON_MALFORMED", 10),
        (b'"\xff"', "JSON_MALFORMED", None),
        (b'{"name": "\\ud800"}', "JSON_MALFORMED", None),
        (b"[" * 100_000, "JSON_MALFORMED", None),
        (b'{"address":' * 1000 + b"1" + b"}" * 1000, "FIELD_UNKNOWN", None),
        (b"[]", "FIELD_INVALID", None),
        (b"null", "FIELD_INVALID", None),
        (b'{"name": 1e400}', "JSON_MALFORMED", None),
        (b'{"name": ["a"]}', "FIELD_INVALID", None),
    ],
)
async def test_a_body_that_is_no_json_or_the_wrong_json_is_a_problem_with_its_place(
    world: World, body: bytes, code: str, column: int | None
):
    answer = await world.http.post("/v1/companies", content=body, headers={"content-type": "application/json"})
    assert said(answer) == (400, code)
    if column is not None:
        assert problem(answer)["position"]["column"] == column


async def test_as_many_faults_as_a_caller_can_use_are_named(world: World):
    answer = await world.http.post("/v1/usage:charge", json={"events": [{"colour": 1}] * 1000})
    assert len(problem(answer)["errors"]) == 50


async def test_a_path_and_a_body_that_contradict_each_other_are_refused(world: World):
    answer = await world.http.patch(f"/v1/companies/{COMPANY_ID}", json={"id": "com_other", "name": "A"})
    (error,) = problem(answer)["errors"]
    assert (error["pointer"], error["code"]) == ("#/id", "PATH_MISMATCH")


async def test_a_body_where_none_is_expected_is_refused(world: World):
    answer = await world.http.request("GET", "/v1/companies", json={"page_size": 1})
    assert said(answer) == (400, "BODY_NOT_EXPECTED")


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/json; charset=latin-1"},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
)
async def test_a_body_of_another_type_is_415(world: World, headers: dict[str, str]):
    answer = await world.http.post("/v1/companies", content=orjson.dumps(COMPANY), headers=headers)
    assert answer.status_code == 415
    assert problem(answer)["detail"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v2/companies", 404, "ROUTE_NOT_FOUND"),
        ("GET", "/", 404, "ROUTE_NOT_FOUND"),
        ("GET", "/v1/companies/", 404, "ROUTE_NOT_FOUND"),
        ("POST", f"/v1/tariffs/{TARIFF_ID}:paint", 404, "ROUTE_NOT_FOUND"),
        ("DELETE", "/v1/companies", 405, "METHOD_NOT_ALLOWED"),
        ("GET", f"/v1/tariffs/{TARIFF_ID}:publish", 405, "METHOD_NOT_ALLOWED"),
        ("POST", "/healthz", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/v1/companies/%FF", 400, "PATH_INVALID"),
        ("GET", "/v1/companies?query=%FF", 400, "QUERY_INVALID"),
    ],
)
async def test_a_path_that_is_not_there_and_a_method_that_is_not_possible(
    world: World, method: str, path: str, status: int, code: str
):
    answer = await world.http.request(method, path)
    assert said(answer) == (status, code)
    assert ("allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize(
    "credential", [None, "", "Basic bWU6eW91", "Bearer", "Bearer mk_ünïcode", "Bearer " + "k" * 5000]
)
async def test_without_a_credential_the_answer_is_401_with_a_challenge(world: World, credential: str | None):
    del world.http.headers["authorization"]
    headers = {} if credential is None else {"authorization": credential.encode()}
    answer = await world.http.get("/v1/companies", headers=headers)  # type: ignore[arg-type] # bytes are possible
    assert said(answer) == (401, "CREDENTIAL_INVALID")
    assert answer.headers["www-authenticate"] == 'Bearer realm="meterline"'


async def test_with_a_bad_credential_the_challenge_says_so(world: World):
    answer = await world.http.get("/v1/companies", headers={"authorization": "Bearer mk_bad"})
    assert said(answer) == (401, "CREDENTIAL_INVALID")
    assert answer.headers["www-authenticate"].endswith('error="invalid_token"')


async def test_another_version_than_that_of_if_match_is_412_and_without_the_header_409(world: World):
    path = f"/v1/companies/{COMPANY_ID}"
    assert said(await world.http.patch(path, json={"name": "A"}, headers={"if-match": '"2"'})) == (412, "ETAG_MISMATCH")
    assert said(await world.http.patch(path, json={"name": "A", "etag": "2"})) == (409, "ETAG_MISMATCH")
    assert said(await world.http.patch(path, json={"name": "A"}, headers={"if-match": "2"})) == (400, "HEADER_INVALID")


async def test_a_condition_that_cannot_be_checked_is_refused(world: World):
    answer = await world.http.post("/v1/usage:charge", json={"events": [EVENT]}, headers={"if-match": '"2"'})
    assert said(answer) == (400, "HEADER_NOT_SUPPORTED")


async def test_the_wrong_state_is_a_conflict_with_what_a_program_needs_to_know(world: World):
    answer = await world.http.post(f"/v1/tariffs/{TARIFF_ID}:publish")
    assert said(answer) == (409, "TARIFF_EMPTY")
    assert problem(answer)["metadata"] == {"rates": "0"}
    assert problem(answer)["resource"] == {"type": "tariff", "id": TARIFF_ID}


async def test_a_service_that_is_away_is_503_and_names_no_address(world: World):
    answer = await world.http.get("/v1/endpoints")
    assert said(answer) == (503, "SERVICE_UNAVAILABLE")
    assert answer.headers["retry-after"] == "1"
    assert "127.0.0.1" not in answer.text


async def test_a_service_says_itself_when_to_try_again(world: World):
    answer = await world.http.get("/v1/companies", params={"query": "busy"})
    assert said(answer) == (503, "STORE_AWAY")
    assert answer.headers["retry-after"] == "3"


async def test_a_fault_of_a_service_is_500_and_tells_nothing_of_its_insides(world: World):
    answer = await world.http.get("/v1/companies", params={"query": "broken"})
    assert said(answer) == (500, "INTERNAL")
    assert "secret" not in answer.text


async def test_a_method_that_a_service_does_not_have_is_501(world: World):
    assert said(await world.http.get("/v1/networks")) == (501, "UNIMPLEMENTED")


async def test_a_caller_may_ask_for_less_time_but_not_for_more(world: World):
    answer = await world.http.get("/v1/companies?query=slow", headers={"x-request-timeout": "0.2"})
    assert said(answer) == (504, "DEADLINE_EXCEEDED")
    async with running(deadline_ms=200) as short:
        answer = await short.http.get("/v1/companies?query=slow", headers={"x-request-timeout": "60"})
        assert said(answer) == (504, "DEADLINE_EXCEEDED")
    for wrong in ("soon", "0", "-1"):
        answer = await world.http.get("/v1/companies", headers={"x-request-timeout": wrong})
        assert problem(answer)["errors"][0]["header"] == "X-Request-Timeout"


async def test_bodies_heads_rates_and_concurrency_are_bounded():
    bounds = {"body_bytes_max": 1000, "head_bytes_max": 2000, "rate_per_s": 0.01, "rate_burst": 6, "concurrency_max": 1}
    async with running(**bounds) as world:
        long = orjson.dumps(COMPANY | {"name": "A" * 2000})
        json = {"content-type": "application/json"}
        assert said(await world.http.post("/v1/companies", content=long, headers=json)) == (413, "BODY_TOO_LARGE")

        async def chunks():  # without a length
            yield long[:500]
            yield long[500:]

        assert said(await world.http.post("/v1/companies", content=chunks(), headers=json)) == (413, "BODY_TOO_LARGE")
        headed = await world.http.get("/v1/companies", headers={"x-long": "a" * 3000})
        assert (headed.status_code, headed.json()["code"]) == (431, "HEADERS_TOO_LARGE")

        first = asyncio.create_task(
            world.http.get("/v1/companies", params={"query": "slow"}, headers={"x-request-timeout": "0.5"})
        )
        await asyncio.sleep(0.2)
        second = await world.http.get("/v1/companies")
        assert said(second) == (503, "GATEWAY_BUSY")
        assert second.headers["retry-after"] == "1"
        assert said(await first) == (504, "DEADLINE_EXCEEDED")

        codes = [(await world.http.get("/v1/companies")).status_code for _ in range(3)]
        assert codes == [200, 200, 429]
        limited = await world.http.get("/v1/companies")
        assert said(limited) == (429, "RATE_LIMITED")
        assert int(limited.headers["retry-after"]) >= 90
        other = await world.http.get("/v1/companies", headers={"authorization": "Bearer mk_bad"})
        assert other.status_code == 401  # another credential has a bucket of its own


async def test_what_is_no_http_gets_a_problem_too(world: World):
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    writer.write(b"HELLO\r\n\r\n")
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert orjson.loads(body)["code"] == "HTTP_MALFORMED"


async def test_a_head_without_end_is_cut_off():
    async with running(head_bytes_max=2000) as world:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
        writer.write(b"GET /healthz HTTP/1.1\r\nx-long: ")
        for _ in range(10):
            writer.write(b"a" * 1000)
        answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 431")
