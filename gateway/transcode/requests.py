"""An HTTP request, taken apart by a binding and put together as a message."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import orjson
from google.protobuf.message import Message

from gateway.problems import Fault, Place, Problem, unreadable
from gateway.transcode.bindings import ETAG, UPDATE_MASK, Binding
from gateway.transcode.parameters import Parameter
from gateway.transcode.reading import Faults, TooManyFaultsError, WrongError
from services.runtime.limits import is_output_only

QUERY_PARAMETERS_MAX = 1000
IDEMPOTENCY_KEY = "Idempotency-Key"
IF_MATCH = "If-Match"
_ENTITY_TAG = re.compile(r'(?:W/)?"([\x21\x23-\x7e]*)"')


@dataclass(frozen=True, slots=True)
class Parts:
    """What of an HTTP request goes into a message.

    Attributes:
        segments: the segments of the path, percent-encoded.
        query: the query string.
        body: the body.
        idempotency_key: the header; empty if there is none.
        if_match: the header; empty if there is none.
    """

    segments: Sequence[str]
    query: str = ""
    body: bytes = b""
    idempotency_key: str = ""
    if_match: str = ""


@dataclass(slots=True)
class Request:
    """The message, and which of its fields came from headers."""

    message: Message
    from_headers: dict[str, str] = field(default_factory=dict)


def read_request(binding: Binding, parts: Parts) -> Request:
    """Make the message that a request asks for.

    Raises:
        Problem: 400; the body is not JSON, or parts of the request do not fit the contract, each of which is named.
    """
    request = Request(_read_body(binding, parts.body))
    faults = [*_read_path(binding, parts, request.message), *_read_query(binding, parts.query, request.message)]
    faults += _read_headers(binding, parts, request)
    if faults:
        raise unreadable(faults)
    return request


def _read_body(binding: Binding, body: bytes) -> Message:
    if not body.strip():
        return binding.request_class()
    if binding.body_reader is None:
        raise Problem(400, "BODY_NOT_EXPECTED", f"{binding.route} takes no body; send parameters in the query.")
    value, faults = _json(body), Faults()
    content: Any = None
    try:
        content = binding.body_reader(value, (), faults)
    except WrongError as wrong:
        faults.append(Fault(Place.POINTER, "#", wrong.code, str(wrong)))
    except TooManyFaultsError:
        pass
    except RecursionError as error:
        raise Problem(400, "JSON_TOO_DEEP", "The JSON nests too deeply.") from error
    if faults:
        raise unreadable(faults)
    if binding.body_field is None:
        whole: Message = content
        return whole
    message = binding.request_class(**{binding.body: content})
    if binding.masks_itself:
        getattr(message, UPDATE_MASK).paths.extend(_members(binding, value))
    return message


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Problem(
            400,
            "JSON_MALFORMED",
            f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}.",
            extra={"position": {"line": error.lineno, "column": error.colno, "offset": error.pos}},
        ) from error


def _members(binding: Binding, value: Mapping[str, Any]) -> list[str]:
    """The fields that the members of a PATCH name, without those that an update never changes."""
    in_path = {parameter.path[-1] for parameter in binding.path_parameters if parameter.path[0] == binding.body}
    fields = binding.body_message.fields if binding.body_message is not None else []
    return [
        field.name
        for field in fields
        if (field.name in value or field.json_name in value)
        and field.name not in in_path
        and field.name != ETAG
        and not is_output_only(field)
    ]


def _read_path(binding: Binding, parts: Parts, message: Message) -> list[Fault]:
    faults = []
    try:
        texts = binding.template.values(parts.segments)
    except UnicodeDecodeError as error:
        raise Problem(400, "PATH_INVALID", "The path is not UTF-8 once its %XX are decoded.") from error
    for variable, parameter, text in zip(binding.template.variables, binding.path_parameters, texts, strict=True):
        before = parameter.get(message) if parameter.is_set(message) else None
        try:
            parameter.set(message, [text])
        except WrongError as wrong:
            faults.append(Fault(Place.PARAMETER, variable.name, wrong.code, str(wrong)))
        else:
            if before is not None and before != parameter.get(message):
                inside = parameter.path[1:] if binding.body_field is not None else parameter.path
                detail = f"is {before!r} but the path says {text!r}"
                faults.append(Fault(Place.POINTER, "#/" + "/".join(inside), "PATH_MISMATCH", detail))
    return faults


def _read_query(binding: Binding, query: str, message: Message) -> list[Fault]:
    if not query:
        return []
    faults = []
    for name, texts in _grouped(query).items():
        parameter = binding.query_parameters.get(name) or binding.query_parameters.get(_snake(name))
        try:
            if parameter is None:
                raise WrongError(_not_a_parameter(binding), "PARAMETER_UNKNOWN")  # noqa: TRY301 - one fault a name
            parameter.set(message, texts)
        except WrongError as wrong:
            faults.append(Fault(Place.PARAMETER, name, wrong.code, str(wrong)))
    return faults


def _grouped(query: str) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=QUERY_PARAMETERS_MAX)
    except UnicodeDecodeError as error:
        raise Problem(400, "QUERY_INVALID", "The query is not UTF-8 once its %XX are decoded.") from error
    except ValueError as error:
        raise Problem(400, "QUERY_INVALID", f"The query has more than {QUERY_PARAMETERS_MAX} parameters.") from error
    for name, text in pairs:
        grouped.setdefault(name, []).append(text)
    return grouped


def _snake(name: str) -> str:
    return re.sub("[A-Z]", lambda match: f"_{match[0].lower()}", name)


def _not_a_parameter(binding: Binding) -> str:
    known = ", ".join(binding.query_parameters)
    return f"is not a parameter of {binding.route}; " + (f"known are {known}" if known else "it has none")


def _read_headers(binding: Binding, parts: Parts, request: Request) -> list[Fault]:
    faults = []
    if parts.idempotency_key and binding.request_id is not None:
        _fill(request, binding.request_id, parts.idempotency_key.strip('"'), IDEMPOTENCY_KEY)
    if parts.if_match and parts.if_match != "*" and binding.verb not in {"GET", "HEAD"}:
        match = _ENTITY_TAG.fullmatch(parts.if_match)
        if binding.etag is None:
            detail = f"{binding.route} cannot be made conditional; leave the header out"
            faults.append(Fault(Place.HEADER, IF_MATCH, "HEADER_NOT_SUPPORTED", detail))
        elif match is None:
            faults.append(Fault(Place.HEADER, IF_MATCH, "HEADER_INVALID", 'must be one entity tag, for example "3"'))
        else:
            _fill(request, binding.etag, match[1], IF_MATCH)
    return faults


def _fill(request: Request, parameter: Parameter, text: str, header: str) -> None:
    if not parameter.is_set(request.message):
        parameter.set(request.message, [text])
        request.from_headers[".".join(parameter.path)] = header
