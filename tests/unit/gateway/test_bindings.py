"""Annotations beyond those that the contracts use today, and those that are wrong."""

from typing import Any

import pytest
from google.api import http_pb2
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor

from gateway.problems import Place, Problem
from gateway.transcode.bindings import AnnotationError, Binding, all_bindings, bindings_of, router
from gateway.transcode.contracts import load_contracts
from gateway.transcode.requests import Parts, read_request
from meterline.accounts.v1 import companies_pb2
from services.common.errors import FieldViolation

COMPANIES = "meterline.accounts.v1.CompanyService"
BINDINGS = {f"{b.service}.{b.method.name}": b for b in all_bindings(load_contracts())}


def method(name: str, service: str = COMPANIES) -> MethodDescriptor:
    found: MethodDescriptor = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    return found


def read(binding: Binding, path: str, **parts: Any) -> Any:
    match = router([binding]).find(path)
    assert match is not None
    return read_request(binding, Parts(match[1], **parts)).message


def test_every_annotated_method_has_a_route_of_its_own():
    bindings = all_bindings(load_contracts())
    assert len({binding.route for binding in bindings}) == len(bindings) > 100
    router(bindings)


def test_internal_methods_have_no_route():
    assert "rating.WaitForChanges" not in BINDINGS
    assert "accounts.WatchAccountChanges" not in BINDINGS


def test_additional_bindings_and_verbs_of_their_own():
    rule = http_pb2.HttpRule(get="/v1/companies", additional_bindings=[{"get": "/v2/firms"}])
    rule.additional_bindings.add(custom=http_pb2.CustomHttpPattern(kind="LIST", path="/v3/companies"))
    routes = [binding.route for binding in bindings_of(method("ListCompanies"), rule)]
    assert routes == ["GET /v1/companies", "GET /v2/firms", "LIST /v3/companies"]


def test_the_body_of_an_answer_may_be_one_of_its_fields():
    rule = http_pb2.HttpRule(get="/v1/names", response_body="companies")
    (binding,) = bindings_of(method("ListCompanies"), rule)
    answer = companies_pb2.ListCompaniesResponse(companies=[companies_pb2.Company(name="Acme")])
    assert [company["name"] for company in binding.answer_writer(answer)] == ["Acme"]
    assert not binding.answers_etag


def test_a_query_reaches_fields_within_fields_and_lists():
    rule = http_pb2.HttpRule(get="/v1/companies:check")
    (binding,) = bindings_of(method("UpdateCompany"), rule)
    query = "company.address.city=Li%C3%A8ge&company.type=COMPANY_TYPE_PUBLIC&updateMask=name,company.vatNumber"
    request = read(binding, "/v1/companies:check", query=query)
    assert request.company.address.city == "Liège"
    assert request.company.type == companies_pb2.COMPANY_TYPE_PUBLIC
    assert list(request.update_mask.paths) == ["name", "company.vat_number"]


def test_a_repeated_parameter_is_a_list():
    repeated = next(
        (b, name)
        for b in BINDINGS.values()
        for name, p in b.query_parameters.items()
        if p.field.is_repeated and b.verb == "GET"
    )
    binding, name = repeated
    kind = binding.query_parameters[name].field.enum_type
    texts = [value.name for value in kind.values][1:3] if kind is not None else ["a", "b"]
    request = read(binding, str(binding.template), query="&".join(f"{name}={text}" for text in texts))
    assert len(getattr(request, name)) == 2


@pytest.mark.parametrize(
    ("name", "rule", "said"),
    [
        ("CreateCompany", {"post": "/v1/companies", "body": "firm"}, "has no field 'firm'"),
        ("GetCompany", {"get": "/v1/companies", "response_body": "firm"}, "has no field 'firm'"),
        ("GetCompany", {"get": "/v1/companies/{id}"}, "'id', which is no scalar field"),
        ("UpdateCompany", {"get": "/v1/companies/{company}"}, "'company', which is no scalar field"),
        ("GetCompany", {"body": "*"}, "without method and path"),
    ],
)
def test_an_annotation_that_is_wrong_stops_the_start(name: str, rule: dict[str, Any], said: str):
    with pytest.raises(AnnotationError, match=said):
        list(bindings_of(method(name), http_pb2.HttpRule(**rule)))


def test_a_stream_of_requests_has_no_http_form():
    stream = method("StreamUsage", "meterline.rating.v1.ChargingService")
    with pytest.raises(AnnotationError, match="stream of requests"):
        list(bindings_of(stream, http_pb2.HttpRule(post="/v1/usage:stream", body="*")))


@pytest.mark.parametrize(
    ("name", "field", "place", "shown"),
    [
        ("accounts.CreateCompany", "company.address.city", Place.POINTER, "#/address/city"),
        ("accounts.CreateCompany", "company", Place.POINTER, "#"),
        ("accounts.CreateCompany", "address.city", Place.POINTER, "#/address/city"),
        ("accounts.CreateCompany", "request_id", Place.PARAMETER, "request_id"),
        ("accounts.UpdateCompany", "company.id", Place.PARAMETER, "company_id"),
        ("accounts.UpdateCompany", "update_mask", Place.PARAMETER, "update_mask"),
        ("accounts.ListCompanies", "page_token", Place.PARAMETER, "page_token"),
        ("rating.ChargeUsage", "events[3].quantity", Place.POINTER, "#/events/3/quantity"),
        ("catalog.PublishTariff", "tariff_id", Place.PARAMETER, "tariff_id"),
        ("catalog.PublishTariff", "effective_time", Place.POINTER, "#/effective_time"),
    ],
)
def test_a_field_of_a_message_is_named_as_the_caller_knows_it(name: str, field: str, place: Place, shown: str):
    fault = BINDINGS[name].fault(FieldViolation(field, "is wrong"), {})
    assert (fault.place, fault.name) == (place, shown)


def test_a_field_that_a_header_has_filled_is_named_as_the_header():
    fault = BINDINGS["accounts.CreateCompany"].fault(
        FieldViolation("request_id", "long"), {"request_id": "Idempotency-Key"}
    )
    assert (fault.place, fault.name) == (Place.HEADER, "Idempotency-Key")


def test_a_moment_of_zero_is_a_moment():
    binding = next(b for b in BINDINGS.values() if "start_time" in b.query_parameters)
    request = read(binding, str(binding.template), query="start_time=1970-01-01T00:00:00Z")
    assert request.HasField("start_time")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b'{"name": "a", "email": 1, "colour": 1, "address": {"city": []}}', ["#/email", "#/colour", "#/address/city"]),
        (b'{"phone_number": "1", "phoneNumber": "2"}', ["#/phoneNumber"]),
        (b'{"a/b~c": 1}', ["#/a~1b~0c"]),
        (b'{"create_time": "yesterday", "type": 1.5}', ["#/create_time", "#/type"]),
    ],
)
def test_each_wrong_member_is_named(body: bytes, pointer: list[str]):
    with pytest.raises(Problem) as caught:
        read(BINDINGS["accounts.CreateCompany"], "/v1/companies", body=body)
    assert [fault.name for fault in caught.value.errors] == pointer
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("number", "value"),
    [
        ("9223372036854775807", 2**63 - 1),
        ('"-9223372036854775808"', -(2**63)),
        ('"9007199254740993"', 2**53 + 1),
        ("1.0", 1),
        ("1e3", 1000),
    ],
)
def test_a_whole_number_is_read_exactly(number: str, value: int):
    body = f'{{"batch_id": {number}}}'.encode()
    assert read(BINDINGS["rating.ChargeUsage"], "/v1/usage:charge", body=body).batch_id == value


@pytest.mark.parametrize(
    "number", ["9223372036854775808", "1.5", "1e19", '" 1"', '"1_000"', '"٣"', '""', "true", "[1]"]
)
def test_what_is_no_whole_number_of_64_bits_is_not_read(number: str):
    with pytest.raises(Problem, match="whole number"):
        read(BINDINGS["rating.ChargeUsage"], "/v1/usage:charge", body=f'{{"batch_id": {number}}}'.encode())
