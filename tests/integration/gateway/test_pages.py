"""What the gateway answers itself, and how it ends."""

import asyncio

import pytest
from openapi_spec_validator import validate

from gateway.transcode.bindings import all_bindings
from gateway.transcode.contracts import load_contracts
from tests.integration.gateway.world import World, running

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_alive_and_ready_are_two_things(world: World):
    assert (await world.http.get("/healthz")).json() == {"status": "alive"}
    ready = await world.http.get("/readyz")
    assert (ready.status_code, ready.headers["content-type"]) == (503, "application/problem+json")
    assert ready.json()["services"] == {
        "accounts": "SERVING",
        "catalog": "SERVING",
        "endpoints": "UNREACHABLE",
        "rating": "SERVING",
    }


async def test_the_pages_need_no_credential_and_come_from_here(world: World):
    del world.http.headers["authorization"]
    page = await world.http.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    for path in ("/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js", "/docs/start.js"):
        assert path in page.text
        asset = await world.http.get(path)
        assert asset.status_code == 200
        again = await world.http.get(path, headers={"if-none-match": asset.headers["etag"]})
        assert again.status_code == 304
    assert "//" not in page.text.replace("<!doctype", "")  # nothing from elsewhere


async def test_the_document_is_valid_and_has_every_annotated_method(world: World):
    document = (await world.http.get("/openapi.json")).json()
    validate(document)
    operations = sum(len(path) for path in document["paths"].values())
    assert operations == len(all_bindings(load_contracts()))


async def test_metrics_count_by_route_and_tell_no_credential(world: World):
    await world.http.get("/v1/companies")
    await world.http.get("/nowhere/at/all")
    text = (await world.http.get("/metrics")).text
    assert 'meterline_requests_total{code="200",method="GET /v1/companies",service="gateway"}' in text
    assert 'method="none"' in text
    assert "nowhere" not in text
    assert "mk_good" not in text


async def test_pages_of_other_origins_may_call_only_if_they_are_named(world: World):
    asks = {"origin": "https://console.example", "access-control-request-method": "GET"}
    assert "access-control-allow-origin" not in (await world.http.options("/v1/me", headers=asks)).headers
    async with running(cors_origins=["https://console.example"]) as open_world:
        named = await open_world.http.options("/v1/me", headers=asks)
        assert named.headers["access-control-allow-origin"] == "https://console.example"


async def test_a_stop_lets_what_is_in_work_finish():
    async with running() as world:
        wait = {"x-request-timeout": "1"}
        slow = asyncio.create_task(world.http.get("/v1/companies", params={"query": "slow"}, headers=wait))
        await asyncio.sleep(0.2)
        world.stop.set()
        assert (await slow).status_code == 504
        await asyncio.wait_for(world.serving, timeout=5)
