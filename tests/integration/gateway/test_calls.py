"""Requests that succeed: what reaches the service, and what the caller gets."""

import pytest

from tests.integration.gateway.world import COMPANY, COMPANY_ID, ENDPOINT_ID, EVENT, KEY, World

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_body_becomes_the_field_that_the_annotation_names(world: World):
    answer = await world.http.post("/v1/companies", json=COMPANY, params={"request_id": "r1"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    (request,) = world.seen.requests
    assert request.company.address.city == "Brussels"
    assert request.request_id == "r1"
    company = answer.json()
    assert company["id"] == COMPANY_ID
    assert company["create_time"] == "2027-01-15T08:00:00Z"
    assert company["vat_number"] == ""  # what is empty is shown
    assert "update_time" not in company  # what is absent is not


async def test_names_in_camel_case_and_numbers_for_enums_are_understood(world: World):
    body = {"phoneNumber": "+3225476111", "type": 3, "name": "Acme", "address": COMPANY["address"]}
    assert (await world.http.post("/v1/companies", json=body)).json()["type"] == "COMPANY_TYPE_CUSTOMER"


async def test_the_path_gives_its_fields_and_the_query_the_rest(world: World):
    await world.http.get("/v1/companies", params={"pageSize": 7, "query": "Ac é&"})
    (request,) = world.seen.requests
    assert (request.page_size, request.query) == (7, "Ac é&")


async def test_an_empty_list_is_shown_as_one(world: World):
    assert (await world.http.get("/v1/companies")).json() == {"companies": [], "next_page_token": ""}


async def test_integers_of_64_bits_come_as_strings_and_go_as_either(world: World):
    answer = await world.http.post("/v1/usage:charge", json={"batch_id": 2**53 + 1, "events": [EVENT]})
    assert answer.json() == {
        "batch_id": str(2**53 + 1),
        "results": [
            {
                "outcome": "OUTCOME_CHARGED",
                "reason": "REASON_UNSPECIFIED",
                "refused_step": 0,
                "amounts_micros": [str(2**53 + 1)],
                "uncovered_quantity": "0",
                "usage_record_id": "",
                "replayed": False,
                "detail": "",
                "throttled": False,
            }
        ],
    }
    (request,) = world.seen.requests
    assert (request.batch_id, request.events[0].usage_time_ms) == (2**53 + 1, 1_800_000_000_000)
    assert request.events[0].endpoint_id == ENDPOINT_ID


async def test_a_refusal_of_the_network_is_an_answer_and_no_problem(world: World):
    answer = await world.http.post("/v1/events:charge", json=EVENT)
    assert (answer.status_code, answer.json()["reason"]) == (200, "REASON_NO_RATE")


async def test_the_credential_and_the_request_id_are_passed_on_unchanged(world: World):
    answer = await world.http.get("/v1/companies", headers={"x-request-id": "trace-7"})
    assert answer.headers["x-request-id"] == "trace-7"
    (metadata,) = world.seen.metadata
    assert (metadata["authorization"], metadata["x-request-id"]) == (KEY, "trace-7")


async def test_a_request_without_a_usable_id_gets_one(world: World):
    answer = await world.http.get("/v1/companies", headers={"x-request-id": "with a space"})
    assert len(answer.headers["x-request-id"]) == 32


async def test_an_idempotency_key_fills_an_empty_request_id_only(world: World):
    key = {"idempotency-key": "k1"}
    await world.http.post("/v1/companies", json=COMPANY, headers=key)
    await world.http.post("/v1/companies", json=COMPANY, headers=key, params={"request_id": "mine"})
    assert [request.request_id for request in world.seen.requests] == ["k1", "mine"]


async def test_an_etag_comes_as_a_header_and_goes_back_in_if_match(world: World):
    got = await world.http.get(f"/v1/companies/{COMPANY_ID}")
    assert got.headers["etag"] == '"3"'
    patched = await world.http.patch(
        f"/v1/companies/{COMPANY_ID}", json={"name": "Acme 2"}, headers={"if-match": got.headers["etag"]}
    )
    assert patched.status_code == 200
    assert world.seen.requests[-1].company.etag == "3"


async def test_what_has_not_changed_is_not_sent_again(world: World):
    answer = await world.http.get(f"/v1/companies/{COMPANY_ID}", headers={"if-none-match": '"3"'})
    assert (answer.status_code, answer.content) == (304, b"")


async def test_a_patch_changes_the_members_that_it_has_and_null_clears_one(world: World):
    body = {"id": COMPANY_ID, "email": "", "homepage": None, "vatNumber": "BE1", "create_time": None, "etag": "3"}
    await world.http.patch(f"/v1/companies/{COMPANY_ID}", json=body)
    (request,) = world.seen.requests
    assert sorted(request.update_mask.paths) == ["email", "homepage", "vat_number"]
    assert request.company.id == COMPANY_ID


async def test_a_patch_with_a_mask_is_left_as_it_is(world: World):
    await world.http.patch(
        f"/v1/companies/{COMPANY_ID}", json={"name": "A", "email": "b@c"}, params={"update_mask": "name,vatNumber"}
    )
    (request,) = world.seen.requests
    assert list(request.update_mask.paths) == ["name", "vat_number"]


async def test_head_answers_as_get_without_a_body(world: World):
    answer = await world.http.head(f"/v1/companies/{COMPANY_ID}")
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (200, b"", '"3"')


async def test_options_says_what_is_possible(world: World):
    answer = await world.http.options(f"/v1/companies/{COMPANY_ID}")
    assert (answer.status_code, answer.headers["allow"]) == (204, "GET, HEAD, OPTIONS, PATCH")
    assert "access-control-allow-origin" not in answer.headers
