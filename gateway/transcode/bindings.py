"""What an annotation binds: an HTTP method and path to a method of a service, field by field."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from google.api import http_pb2
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message

from gateway.problems import Fault, Place
from gateway.transcode.contracts import Contracts, http_rule
from gateway.transcode.parameters import Parameter, parameters
from gateway.transcode.reading import Reader, field_reader, message_reader
from gateway.transcode.templates import Router, Template
from gateway.transcode.writing import Writer, field_writer, message_writer
from services.common.errors import FieldViolation

WHOLE = "*"
"""The body is every field that the path does not give."""
REQUEST_ID = "request_id"
ETAG = "etag"
UPDATE_MASK = "update_mask"


class AnnotationError(ValueError):
    """An annotation asks for what the gateway does not do or names a field that is not there."""


@dataclass(frozen=True)
class Binding:
    """One HTTP method on one path template, bound to one method of a service.

    Attributes:
        method: the method of the service.
        verb: GET, POST, PUT, PATCH, DELETE or one of its own.
        template: the path.
        body: the field of the request that the HTTP body is; `*` for all that are not in the path; empty for none.
        response_body: the field of the answer that the HTTP body is; empty for the whole.
        number: which of the method's bindings it is, from 0.
    """

    method: MethodDescriptor
    verb: str
    template: Template
    body: str
    response_body: str
    number: int = 0

    def __post_init__(self) -> None:
        for name, within in ((self.body, self.method.input_type), (self.response_body, self.method.output_type)):
            if name and name != WHOLE and name not in within.fields_by_name:
                raise AnnotationError(f"{self.method.full_name}: {within.name} has no field {name!r}")
        missing = [v.path for v in self.template.variables if tuple(v.path.split(".")) not in self._by_path]
        if missing:
            raise AnnotationError(f"{self.method.full_name}: the path names {missing[0]!r}, which is no scalar field")
        if self.method.client_streaming:
            raise AnnotationError(f"{self.method.full_name}: a stream of requests has no HTTP form here")

    @property
    def service(self) -> str:
        """The service that answers: `accounts` of `meterline.accounts.v1.CompanyService`."""
        return str(self.method.full_name.split(".")[1])

    @property
    def rpc(self) -> str:
        """The method as gRPC names it in a path."""
        return f"/{self.method.containing_service.full_name}/{self.method.name}"

    @property
    def route(self) -> str:
        """Method and template, for logs and metrics."""
        return f"{self.verb} {self.template}"

    @cached_property
    def request_class(self) -> type[Message]:
        """The class of the request."""
        return message_factory.GetMessageClass(self.method.input_type)

    @cached_property
    def response_class(self) -> type[Message]:
        """The class of the answer."""
        return message_factory.GetMessageClass(self.method.output_type)

    @cached_property
    def _by_path(self) -> Mapping[tuple[str, ...], Parameter]:
        return {parameter.path: parameter for parameter in parameters(self.method.input_type)}

    @cached_property
    def path_parameters(self) -> tuple[Parameter, ...]:
        """The fields that the path gives, in the order of the template's variables."""
        return tuple(self._by_path[tuple(v.path.split("."))] for v in self.template.variables)

    @cached_property
    def query_parameters(self) -> Mapping[str, Parameter]:
        """The fields that the query may give, by their names in the contract."""
        if self.body == WHOLE:
            return {}
        in_path = {p.path for p in self.path_parameters}
        free = (p for path, p in self._by_path.items() if path not in in_path and path[0] != self.body)
        return {".".join(p.path): p for p in free}

    @cached_property
    def body_field(self) -> FieldDescriptor | None:
        """The field that the body is; None if the body is the whole request or there is none."""
        return self.method.input_type.fields_by_name[self.body] if self.body not in {"", WHOLE} else None

    @cached_property
    def body_message(self) -> Descriptor | None:
        """The type of the body, if it is a message."""
        if self.body == WHOLE:
            return self.method.input_type
        return self.body_field.message_type if self.body_field is not None else None

    @cached_property
    def body_reader(self) -> Reader | None:
        """Reads the JSON of the body."""
        if self.body == WHOLE:
            return message_reader(self.method.input_type)
        return field_reader(self.body_field) if self.body_field is not None else None

    @cached_property
    def answer_writer(self) -> Writer:
        """Writes an answer as a JSON value."""
        if not self.response_body:
            return message_writer(self.method.output_type)
        write, name = field_writer(self.method.output_type.fields_by_name[self.response_body]), self.response_body
        return lambda answer: write(getattr(answer, name))

    @cached_property
    def request_id(self) -> Parameter | None:
        """The field that `Idempotency-Key` fills."""
        return self._by_path.get((REQUEST_ID,))

    @cached_property
    def etag(self) -> Parameter | None:
        """The field that `If-Match` fills: that of the resource, or of the request."""
        return self._by_path.get((self.body, ETAG)) or self._by_path.get((ETAG,))

    @cached_property
    def masks_itself(self) -> bool:
        """Whether the members of the body say what is to change when the request has no `update_mask`."""
        return self.verb == "PATCH" and self.body_field is not None and (UPDATE_MASK,) in self._by_path

    @cached_property
    def answers_etag(self) -> bool:
        """Whether the answer is a resource with an etag."""
        return ETAG in self.method.output_type.fields_by_name and not self.response_body

    def fault(self, violation: FieldViolation, from_headers: Mapping[str, str]) -> Fault:
        """Say in terms of the HTTP request where a field of the message is.

        Args:
            violation: the field by its path in the request, for example `company.address.country` or
                `events[3].quantity`.
            from_headers: fields that headers have filled, with the headers.
        """
        place, name = self._place(violation.field, from_headers)
        return Fault(place, name, violation.reason, violation.description)

    def _place(self, field: str, from_headers: Mapping[str, str]) -> tuple[Place, str]:
        if field in from_headers:
            return Place.HEADER, from_headers[field]
        for variable in self.template.variables:
            if variable.path == field:
                return Place.PARAMETER, variable.name
        steps = re.findall(r"[^.\[\]]+", field)
        if self.body == WHOLE:
            return Place.POINTER, _pointer(steps)
        first = steps[0] if steps else ""
        if self.body and first == self.body:
            return Place.POINTER, _pointer(steps[1:])
        if self.body and first not in self.method.input_type.fields_by_name:
            return Place.POINTER, _pointer(steps)  # the service named it from the resource on
        return Place.PARAMETER, field


def _pointer(steps: list[str]) -> str:
    return "#" + "".join(f"/{step}" for step in steps)


def bindings_of(method: MethodDescriptor, rule: http_pb2.HttpRule) -> Iterator[Binding]:
    """The bindings that an annotation makes: its own and the additional ones.

    Raises:
        AnnotationError, TemplateError: it is wrong.
    """
    for number, each in enumerate((rule, *rule.additional_bindings)):
        pattern = each.WhichOneof("pattern")
        if pattern is None:
            raise AnnotationError(f"{method.full_name}: an annotation without method and path")
        verb, path = (each.custom.kind, each.custom.path) if pattern == "custom" else (pattern, getattr(each, pattern))
        yield Binding(method, verb.upper(), Template.parse(path), each.body, each.response_body, number)


def all_bindings(contracts: Contracts) -> list[Binding]:
    """Every binding of every annotated method, in the order of the contracts."""
    annotated = ((method, http_rule(method)) for method in contracts.methods())
    return [binding for method, rule in annotated if rule is not None for binding in bindings_of(method, rule)]


def router(bindings: list[Binding]) -> Router[Binding]:
    """The router of the bindings."""
    found: Router[Binding] = Router()
    for binding in bindings:
        found.add(binding.template, binding.verb, binding)
    return found
