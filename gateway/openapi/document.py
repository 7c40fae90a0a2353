"""The OpenAPI document: paths, operations, and what all of them share."""

from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import MethodDescriptor

from gateway.limits import TIMEOUT_HEADER
from gateway.openapi.schemas import Schema, Schemas, component
from gateway.problems import MEDIA_TYPE
from gateway.streams import MEDIA_TYPE as LINES
from gateway.transcode.bindings import WHOLE, Binding
from gateway.transcode.contracts import Contracts
from gateway.transcode.parameters import Parameter
from gateway.transcode.requests import IDEMPOTENCY_KEY, IF_MATCH
from services.runtime.limits import is_output_only, is_required

VERSION = "3.1.1"
API_VERSION = "v1"
JSON = "application/json"

_ABOUT = """Connectivity management and real-time charging at every level of an account tree.

Every operation is a method of a gRPC service, translated; names, limits and texts are those of the contract.

- Send an API key as `Authorization: Bearer mk_...`. What is outside the key's account tree does not exist for it.
- Failures are `application/problem+json` (RFC 9457): `code` is stable, `detail` says what to do, `errors` names each
  part of the request that is wrong.
- 64-bit integers are strings in answers, and strings or numbers in requests. Times are RFC 3339, durations `3600s`.
- Lists: send `next_page_token` back as `page_token` until it is empty, with the same filters.
- Writes with a `request_id`, or an `Idempotency-Key`, can be repeated: the first answer comes again.
- `PATCH` changes the members that the body has, each as a whole; `null` clears one; `update_mask` can say it otherwise.
"""

_HEADERS: dict[str, Schema] = {
    "IdempotencyKey": {
        "name": IDEMPOTENCY_KEY,
        "in": "header",
        "description": "Fills `request_id` if that is empty: a repeat returns the first answer.",
        "schema": {"type": "string", "maxLength": 128},
    },
    "IfMatch": {
        "name": IF_MATCH,
        "in": "header",
        "description": "Fills `etag` if that is empty: with another version than the current one the answer is 412.",
        "schema": {"type": "string"},
    },
    "RequestTimeout": {
        "name": TIMEOUT_HEADER,
        "in": "header",
        "description": "Seconds after which the caller no longer waits; the server's own bound holds too.",
        "schema": {"type": "string", "pattern": r"^[0-9]{1,6}(\.[0-9]{1,6})?$"},
    },
}

_PROBLEM: Schema = {
    "type": "object",
    "description": "A failure, by RFC 9457.",
    "required": ["type", "title", "status", "detail", "code", "request_id"],
    "properties": {
        "type": {"type": "string", "format": "uri", "description": "Names the kind of problem; ends with `code`."},
        "title": {"type": "string", "description": "The code in words."},
        "status": {"type": "integer", "description": "The HTTP status."},
        "detail": {"type": "string", "description": "What is wrong here, and what to do."},
        "code": {"type": "string", "pattern": "^[A-Z][A-Z0-9_]*$", "description": "Stable; for programs."},
        "request_id": {"type": "string", "description": "Name it when you ask for help."},
        "errors": {
            "type": "array",
            "description": "The parts of the request that are wrong.",
            "items": {
                "type": "object",
                "required": ["code", "detail"],
                "properties": {
                    "pointer": {"type": "string", "description": "In the body: a JSON pointer, `#/address/country`."},
                    "parameter": {"type": "string", "description": "A parameter of the path or the query."},
                    "header": {"type": "string", "description": "A header."},
                    "code": {"type": "string", "description": "Stable; for programs."},
                    "detail": {"type": "string", "description": "What it should be."},
                },
            },
        },
        "metadata": {
            "type": "object",
            "description": "Names and values that a program can use.",
            "additionalProperties": {"type": "string"},
        },
        "resource": {
            "type": "object",
            "description": "The object concerned.",
            "properties": {"type": {"type": "string"}, "id": {"type": "string"}},
        },
    },
}

_RETRY = {"Retry-After": {"description": "Seconds after which to try again.", "schema": {"type": "integer"}}}


def document(contracts: Contracts, bindings: list[Binding]) -> dict[str, Any]:
    """The document for all bindings."""
    components: dict[str, Schema] = {}
    inputs = Schemas(contracts.comments, components, inputs=True)
    answers = Schemas(contracts.comments, components, inputs=False)
    paths: dict[str, dict[str, Any]] = {}
    names: dict[tuple[str, ...], str] = {}
    for binding in bindings:
        # Paths that differ only in the names of their variables are one path to OpenAPI.
        path = names.setdefault((*binding.template.segments, binding.template.verb), str(binding.template))
        paths.setdefault(path, {})[binding.verb.lower()] = _operation(binding, inputs, answers)
    tags = {_tag(b.method): b.method.containing_service.full_name for b in bindings}
    return {
        "openapi": VERSION,
        "info": {
            "title": "Meterline",
            "version": API_VERSION,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"apiKey": []}],
        "tags": [{"name": tag, **answers.comment(service)} for tag, service in tags.items()],
        "paths": paths,
        "components": {
            "schemas": {**dict(sorted(components.items())), "Problem": _PROBLEM},
            "parameters": _HEADERS,
            "responses": {
                "Problem": {
                    "description": "What is wrong, and what to do.",
                    "headers": _RETRY,
                    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
                }
            },
            "securitySchemes": {
                "apiKey": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "API key",
                    "description": "An API key, `mk_...`; POST /v1/api-keys makes one.",
                }
            },
        },
    }


def _tag(method: MethodDescriptor) -> str:
    package = component(method.containing_service.full_name).partition(".")[0]
    return f"{package}.{method.containing_service.name}"


def _operation(binding: Binding, inputs: Schemas, answers: Schemas) -> Schema:
    method = binding.method
    said = answers.comment(method.full_name).get("description", "")
    package = component(method.full_name).partition(".")[0]
    operation: Schema = {
        "operationId": f"{package}.{method.name}" + (f".{binding.number}" if binding.number else ""),
        "tags": [_tag(method)],
        "summary": said.partition(". ")[0].partition("\n")[0].removesuffix("."),
        "description": said,
        "parameters": list(_parameters(binding, inputs)),
        "responses": {
            "200": _answer(binding, answers),
            "4XX": {"$ref": "#/components/responses/Problem"},
            "5XX": {"$ref": "#/components/responses/Problem"},
        },
    }
    if binding.body:
        content = {JSON: {"schema": _body(binding, inputs)}}
        operation["requestBody"] = {"required": _needs_body(binding), "content": content}
    return operation


def _parameters(binding: Binding, inputs: Schemas) -> Iterator[Schema]:
    for variable, parameter in zip(binding.template.variables, binding.path_parameters, strict=True):
        yield {**_parameter(variable.name, "path", parameter, inputs), "required": True}
    for name, parameter in binding.query_parameters.items():
        if is_output_only(parameter.field):
            continue
        required = {"required": True} if len(parameter.path) == 1 and is_required(parameter.field) else {}
        yield {**_parameter(name, "query", parameter, inputs), **required}
    wanted = {
        "IdempotencyKey": binding.request_id is not None,
        "IfMatch": binding.etag is not None and binding.verb != "GET",
        "RequestTimeout": True,
    }
    for name in (name for name, is_wanted in wanted.items() if is_wanted):
        yield {"$ref": f"#/components/parameters/{name}"}


def _parameter(name: str, place: str, parameter: Parameter, inputs: Schemas) -> Schema:
    about = inputs.comment(parameter.field.full_name)
    return {"name": name, "in": place, **about, "schema": inputs.field(parameter.field)}


def _needs_body(binding: Binding) -> bool:
    if binding.body_field is not None:
        return is_required(binding.body_field)
    in_path = {parameter.path[0] for parameter in binding.path_parameters}
    return any(is_required(field) and field.name not in in_path for field in binding.method.input_type.fields)


def _body(binding: Binding, inputs: Schemas) -> Schema:
    in_path = [parameter.path for parameter in binding.path_parameters]
    if binding.body == WHOLE:
        return inputs.object(binding.method.input_type, {path[0] for path in in_path if len(path) == 1})
    if binding.verb == "PATCH" and binding.body_message is not None:
        return inputs.patch(binding.body_message, {path[1] for path in in_path if path[0] == binding.body})
    return inputs.field(binding.body_field) if binding.body_field is not None else {}


def _answer(binding: Binding, answers: Schemas) -> Schema:
    output = binding.method.output_type
    whole = not binding.response_body
    schema = answers.message(output) if whole else answers.field(output.fields_by_name[binding.response_body])
    media_type = LINES if binding.method.server_streaming else JSON
    answer: Schema = {"description": "Done.", "content": {media_type: {"schema": schema}}}
    if binding.answers_etag:
        answer["headers"] = {"ETag": {"description": "Version of this state.", "schema": {"type": "string"}}}
    return answer
