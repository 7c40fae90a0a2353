"""The OpenAPI document says what the contracts say."""

import re
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.field_mask_pb2 import FieldMask
from hypothesis import given
from hypothesis import strategies as st
from openapi_schema_validator import OAS31Validator

from gateway.openapi.document import document
from gateway.transcode.bindings import Binding, all_bindings
from gateway.transcode.contracts import load_contracts
from services.runtime.limits import violations
from tests.unit.gateway.messages import messages

BINDINGS = all_bindings(load_contracts())
DOCUMENT = document(load_contracts(), BINDINGS)
SCHEMAS = DOCUMENT["components"]["schemas"]
_VARIABLE = re.compile(r"\{[^}]*\}")


def path_of(binding: Binding) -> str:
    """Its path in the document, where a variable has the name that the first of its paths gave it."""
    shape = _VARIABLE.sub("{}", str(binding.template))
    paths: list[str] = [path for path in DOCUMENT["paths"] if _VARIABLE.sub("{}", path) == shape]
    return paths[0]


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
        ("accounts.v1.AddressInput", {"country": "BE", "city": "B", "street": "S", "number": "1"}, {"country": "be", "city": "B", "street": "S", "number": "1"}),
        ("accounts.v1.AddressInput", {"country": "BE", "city": "B", "street": "S", "number": "1", "region": ""}, {"country": "BE"}),
        ("catalog.v1.RateInput", {"services": ["SERVICE_DATA"], "price": {}, "rate_id": ""}, {"services": [], "price": {}}),
        ("catalog.v1.RateInput", {"services": ["SERVICE_DATA"], "price": {}, "per_quantity": "1000000"}, {"services": ["SERVICE_DATA"], "price": {}, "per_quantity": -1}),
        ("catalog.v1.RateInput", {"services": ["SERVICE_DATA"], "price": {}, "increment": 1024}, {"services": ["SERVICE_DATA"], "price": {}, "increment": "1 KB"}),
        ("catalog.v1.RateZoneInput", {"name": "EU", "account_id": ""}, {"name": "EU", "account_id": "acc_1"}),
        ("catalog.v1.RateZoneInput", {"name": "EU", "country_codes": ["BE", "NL"]}, {"name": "EU", "country_codes": ["BE", "BE"]}),
        ("catalog.v1.RateZoneInput", {"name": "E" * 200}, {"name": "E" * 201}),
    ],
)  # fmt: skip
def test_limits_of_the_contract_are_limits_of_the_schema(schema: str, good: Any, bad: Any):
    assert accepts(SCHEMAS[schema], good)
    assert not accepts(SCHEMAS[schema], bad)


def test_what_the_server_gives_is_in_answers_and_not_in_inputs():
    answer, given = SCHEMAS["catalog.v1.Tariff"], SCHEMAS["catalog.v1.TariffInput"]
    assert {"id", "state", "version", "rates"} <= set(answer["required"])
    assert "create_time" not in answer["required"]
    assert not {"id", "state", "create_time"} & set(given["properties"])
    assert given["required"] == ["name", "currency"]


@given(st.data())
def test_every_answer_that_can_be_written_fits_its_schema(data: st.DataObject):
    binding = data.draw(st.sampled_from(BINDINGS))
    answer = data.draw(messages(binding.method.output_type))
    documented = operation(binding.verb.lower(), path_of(binding))["responses"]["200"]["content"]["application/json"]
    assert accepts(documented["schema"], binding.answer_writer(answer))


@given(st.data())
def test_every_body_that_the_services_accept_fits_its_schema(data: st.DataObject):
    binding = data.draw(st.sampled_from([binding for binding in BINDINGS if binding.body]))
    request = data.draw(messages(binding.method.input_type))
    if binding.masks_itself:  # as a body without a mask says it
        members = getattr(request, binding.body).ListFields()
        request.update_mask.CopyFrom(FieldMask(paths=[field.name for field, _ in members]))
    wrong = {violation.field.partition("[")[0].partition(".")[0] for violation in violations(request)}
    for name in wrong:
        request.ClearField(name)  # so that many examples are left
    if not violations(request) and (not binding.body_field or request.HasField(binding.body)):
        body = getattr(request, binding.body) if binding.body_field else request
        documented = operation(binding.verb.lower(), path_of(binding))["requestBody"]["content"]["application/json"]
        assert accepts(documented["schema"], json_format.MessageToDict(body, preserving_proto_field_name=True))


def test_a_change_requires_nothing_and_leaves_the_id_to_the_path():
    patch = SCHEMAS["catalog.v1.TariffPatch"]
    assert patch["required"] == []
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
