"""Checks requests against the limits that stand beside their fields in the contract, before any code sees them."""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import islice
from typing import Any

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from meterline.type.v1 import limits_pb2
from services.common.errors import FieldViolation, InvalidArgumentError
from services.common.ids import is_id

Check = Callable[[Any], str]
"""Takes a value; returns what is wrong with it, or an empty string."""

_MAX_VIOLATIONS = 50
REQUIRED = "FIELD_REQUIRED"


def is_required(field: FieldDescriptor) -> bool:
    """Whether the contract says REQUIRED."""
    return field_behavior_pb2.REQUIRED in field.GetOptions().Extensions[field_behavior_pb2.field_behavior]


def is_output_only(field: FieldDescriptor) -> bool:
    """Whether the contract says OUTPUT_ONLY."""
    return field_behavior_pb2.OUTPUT_ONLY in field.GetOptions().Extensions[field_behavior_pb2.field_behavior]


def limits_of(field: FieldDescriptor) -> limits_pb2.Limits:
    """The limits of a field as the contract states them."""
    limits: limits_pb2.Limits = field.GetOptions().Extensions[limits_pb2.limits]
    return limits


def _text_check(limits: limits_pb2.Limits) -> Check:
    pattern = re.compile(limits.pattern) if limits.pattern else None

    def check(text: str) -> str:
        if "\0" in text:  # which PostgreSQL cannot keep
            return "contains a NUL character"
        if limits.id_prefix and not is_id(limits.id_prefix, text):
            return f"is not an id of the form {limits.id_prefix}_..."
        if limits.min_length and len(text) < limits.min_length:
            return f"needs at least {limits.min_length} characters"
        if limits.max_length and len(text) > limits.max_length:
            return f"is longer than {limits.max_length} characters"
        if pattern and not pattern.fullmatch(text):
            return f"must be {limits.pattern_hint or limits.pattern}"
        return ""

    return check


def _number_check(limits: limits_pb2.Limits) -> Check:
    def check(number: int) -> str:
        if limits.has_minimum and number < limits.minimum:
            return f"must be at least {limits.minimum}"
        if limits.maximum and number > limits.maximum:
            return f"must be at most {limits.maximum}"
        return ""

    return check


def _value_check(field: FieldDescriptor) -> Check | None:
    limits = limits_of(field)
    if field.type == FieldDescriptor.TYPE_STRING:
        return _text_check(limits)
    if field.enum_type is not None:
        enum = field.enum_type
        known = frozenset(value.number for value in enum.values)
        return lambda number: "" if number in known else f"{number} is not a value of {enum.name}"
    if field.cpp_type in {FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64}:
        return _number_check(limits) if limits.ByteSize() else None
    return None


def _items_check(field: FieldDescriptor) -> Check:
    limits = limits_of(field)

    def check(items: Sequence[Any]) -> str:
        if len(items) < limits.min_items:
            return f"needs at least {limits.min_items} element(s)"
        if limits.max_items and len(items) > limits.max_items:
            return f"has {len(items)} elements; at most {limits.max_items} are permitted"
        if limits.unique and len(set(items)) != len(items):
            return "has an element twice"
        return ""

    return check


FieldCheck = Callable[[Message, str], Iterator[FieldViolation]]
"""Takes a message and the path to it; yields what is wrong with one of its fields."""


def _message_check(field: FieldDescriptor) -> FieldCheck | None:
    name, required, nested = field.name, is_required(field), _checks(field.message_type)

    def check(message: Message, path: str) -> Iterator[FieldViolation]:
        if message.HasField(name):
            yield from _violations(getattr(message, name), nested, f"{path}{name}.")
        elif required:
            yield FieldViolation(f"{path}{name}", "is required", REQUIRED)

    return check if nested or required else None


def _scalar_check(field: FieldDescriptor) -> FieldCheck | None:
    name, required, value_check = field.name, is_required(field), _value_check(field)
    if value_check is None and not required:
        return None
    unset_is_a_value = field.cpp_type != FieldDescriptor.CPPTYPE_STRING and not required

    def check(message: Message, path: str) -> Iterator[FieldViolation]:
        value = getattr(message, name)
        if not value and required:
            yield FieldViolation(f"{path}{name}", "is required", REQUIRED)
        elif value_check and (value or unset_is_a_value) and (wrong := value_check(value)):
            yield FieldViolation(f"{path}{name}", wrong)

    return check


def _repeated_check(field: FieldDescriptor) -> FieldCheck:
    name, required, items_check = field.name, is_required(field), _items_check(field)
    nested = _checks(field.message_type) if field.message_type is not None else ()
    value_check = None if field.message_type is not None else _value_check(field)

    def check(message: Message, path: str) -> Iterator[FieldViolation]:
        items = getattr(message, name)
        if not items and required:
            yield FieldViolation(f"{path}{name}", "is required and needs at least one element", REQUIRED)
        elif wrong := items_check(items):
            yield FieldViolation(f"{path}{name}", wrong)
        elif value_check:
            for index, item in enumerate(items):
                if wrong := value_check(item):
                    yield FieldViolation(f"{path}{name}[{index}]", wrong)
        elif nested:
            for index, item in enumerate(items):
                yield from _violations(item, nested, f"{path}{name}[{index}].")

    return check


def _field_check(field: FieldDescriptor) -> FieldCheck | None:
    if field.is_repeated:
        return _repeated_check(field)
    return _scalar_check(field) if field.message_type is None else _message_check(field)


@cache
def _checks(descriptor: Descriptor) -> tuple[FieldCheck, ...]:
    fields = (field for field in descriptor.fields if not is_output_only(field))
    return tuple(check for field in fields if (check := _field_check(field)) is not None)


def _violations(message: Message, checks: Sequence[FieldCheck], path: str) -> Iterator[FieldViolation]:
    for check in checks:
        yield from check(message, path)


def _matters(request: Message, violation: FieldViolation) -> bool:
    """Whether a violation counts: an update need not carry the required fields that it does not change."""
    if violation.reason != REQUIRED or "update_mask" not in request.DESCRIPTOR.fields_by_name:
        return True
    _, _, inside = violation.field.partition(".")
    changed: Sequence[str] = request.update_mask.paths  # type: ignore[attr-defined]
    is_nested = "." in inside or "[" in inside  # in a field that is set: without a mask, or with `*`, it changes
    if not inside or (is_nested and (not changed or "*" in changed)):
        return True
    return any(inside == path or inside.startswith((f"{path}.", f"{path}[")) for path in changed)


def violations(request: Message) -> list[FieldViolation]:
    """All violations of a request, at most 50."""
    found = (v for v in _violations(request, _checks(request.DESCRIPTOR), "") if _matters(request, v))
    return list(islice(found, _MAX_VIOLATIONS))


def require_within_limits(request: Message) -> None:
    """Raise INVALID_ARGUMENT that names every field of the request that is outside its limits."""
    if found := violations(request):
        first = found[0]
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise InvalidArgumentError(first.reason, f"{first.field} {first.description}{more}.", violations=found)
