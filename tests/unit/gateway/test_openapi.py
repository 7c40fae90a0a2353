"""The OpenAPI document says what the contracts say."""

from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator

from gateway.openapi.document import document
from gateway.transcode.bindings import all_bindings
from gateway.transcode.contracts import load_contracts

DOCUMENT = document(load_contracts(), all_bindings(load_contracts()))
SCHEMAS = DOCUMENT["components"]["schemas"]


def operation(method: str, path: str) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][path][method]
    return found


def accepts(schema: dict[str, Any], value: Any) -> bool:
    resolved = {**schema, "components": DOCUMENT["components"]}
    return bool(OAS31Validator(resolved).is_valid(value))


def test_every_operation_field_and_schema_is_explained():
    operations = [operation for path in DOCUMENT["paths"].values() for operation in path.values()]
    assert all(operation["description"] and operation["summary"] for operation in operations)
    assert all(tag["description"] for tag in DOCUMENT["tags"])
    unexplained = [
        f"{name}.{field}"
        for name, schema in SCHEMAS.items()
        for field, about in schema.get("properties", {}).items()
        if "description" not in about
    ]
    assert unexplained == []


def test_operations_have_names_of_their_own():
    names = [operation["operationId"] for path in DOCUMENT["paths"].values() for operation in path.values()]
    assert len(set(names)) == len(names)


def test_paths_that_differ_in_the_names_of_variables_are_one():
    assert set(DOCUMENT["paths"]["/v1/companies/{company_id}"]) == {"get", "patch"}


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ("accounts.v1.Address", {"country": "BE", "city": "B", "street": "S", "number": "1"}, {"country": "be", "city": "B", "street": "S", "number": "1"}),
        ("accounts.v1.Address", {"country": "BE", "city": "B", "street": "S", "number": "1", "region": ""}, {"country": "BE"}),
        ("catalog.v1.Rate", {"services": ["SERVICE_DATA"], "price": {}, "rate_id": ""}, {"services": [], "price": {}}),
        ("catalog.v1.Rate", {"services": ["SERVICE_DATA"], "price": {}, "per_quantity": "1000000"}, {"services": ["SERVICE_DATA"], "price": {}, "per_quantity": -1}),
        ("catalog.v1.Rate", {"services": ["SERVICE_DATA"], "price": {}, "increment": 1024}, {"services": ["SERVICE_DATA"], "price": {}, "increment": "1 KB"}),
        ("catalog.v1.RateZone", {"name": "EU", "account_id": ""}, {"name": "EU", "account_id": "acc_1"}),
        ("catalog.v1.RateZone", {"name": "EU", "country_codes": ["BE", "NL"]}, {"name": "EU", "country_codes": ["BE", "BE"]}),
        ("catalog.v1.RateZone", {"name": "E" * 200}, {"name": "E" * 201}),
    ],
)  # fmt: skip
def test_limits_of_the_contract_are_limits_of_the_schema(schema: str, good: Any, bad: Any):
    assert accepts(SCHEMAS[schema], good)
    assert not accepts(SCHEMAS[schema], bad)


def test_what_the_server_gives_is_read_only_and_never_required():
    tariff = SCHEMAS["catalog.v1.Tariff"]
    assert tariff["properties"]["state"]["readOnly"] is True
    assert tariff["required"] == ["name", "currency"]


def test_a_change_requires_nothing_and_leaves_the_id_to_the_path():
    patch = SCHEMAS["catalog.v1.TariffPatch"]
    assert "required" not in patch
    assert "id" not in patch["properties"]
    assert operation("patch", "/v1/tariffs/{tariff_id}")["requestBody"]["required"] is True


def test_a_body_without_what_the_path_gives():
    body = operation("post", "/v1/tariffs/{tariff_id}:publish")["requestBody"]
    assert set(body["content"]["application/json"]["schema"]["properties"]) == {"effective_time", "request_id"}
    assert body["required"] is False


def test_headers_are_documented_where_they_do_something():
    def headers(method: str, path: str) -> set[str]:
        references = [p["$ref"] for p in operation(method, path)["parameters"] if "$ref" in p]
        return {reference.rpartition("/")[2] for reference in references}

    assert headers("patch", "/v1/tariffs/{tariff_id}") == {"IdempotencyKey", "IfMatch", "RequestTimeout"}
    assert headers("get", "/v1/tariffs/{tariff_id}") == {"RequestTimeout"}


def test_comments_are_joined_and_values_explained():
    mode = SCHEMAS["rating.v1.UsageMode"]
    assert "- `USAGE_MODE_ONLINE`: Asks first: charged whole or refused whole, with a reason." in mode["description"]
    assert "charged as an explicit uncovered quantity, and the endpoint is blocked." in mode["description"]
