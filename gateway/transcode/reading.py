"""JSON values -> messages, by readers that are made once for each type (proto3 JSON mapping).

Strict: unknown members, members given twice under both their names, and values of the wrong kind are faults; all are
collected, each with its JSON pointer. `google.protobuf` types whose JSON form is special are left to protobuf's own
json_format.
"""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from functools import cache, cached_property
from typing import Any, NamedTuple, NoReturn

from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from gateway.problems import Fault, Place

FAULTS_MAX = 50
DEPTH_MAX = 64

Pointer = tuple[Any, ...]
"""Where a value is: () for the whole body, or (pointer of what it is in, name or index)."""

Reader = Callable[[Any, Pointer, "Faults"], Any]
"""Takes a JSON value and where it is; returns what a message's constructor takes, or raises WrongError."""


class WrongError(ValueError):
    """A value is not what the contract says; the text says what it should be."""

    def __init__(self, detail: str, code: str = "FIELD_INVALID") -> None:
        super().__init__(detail)
        self.code = code


class TooManyFaultsError(Exception):
    """Enough is wrong to say so."""


class Faults(list[Fault]):
    """What is wrong with a body, at most FAULTS_MAX."""

    def note(self, at: Pointer, wrong: WrongError) -> None:
        """Add a fault.

        Raises:
            TooManyFaultsError: that is enough.
        """
        self.append(Fault(Place.POINTER, shown(at), wrong.code, str(wrong)))
        if len(self) >= FAULTS_MAX:
            raise TooManyFaultsError


def shown(at: Pointer) -> str:
    """A pointer as the URI fragment form of a JSON pointer: `#/events/3/quantity`."""
    names = []
    while at:
        at, name = at
        names.append(str(name).replace("~", "~0").replace("/", "~1"))
    return "#" + "".join(f"/{name}" for name in reversed(names))


_INTEGER = re.compile(r"-?[0-9]{1,20}")
_EXACT = 2**53


def _integer(bits: int, *, signed: bool) -> Reader:
    low = -(2 ** (bits - 1)) if signed else 0
    high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1

    def read(value: Any, _: Pointer, __: Faults) -> int:
        kind = type(value)
        is_text = kind is str and _INTEGER.fullmatch(value)
        is_whole = kind is int or (kind is float and value.is_integer() and abs(value) <= _EXACT)
        if (is_text or is_whole) and low <= (number := int(value)) <= high:
            return number
        raise WrongError(f"must be a whole number from {low} to {high}")

    return read


def _float(value: Any, _: Pointer, __: Faults) -> float:
    if type(value) in {int, float, str}:
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    raise WrongError("must be a number")


def _bool(value: Any, _: Pointer, __: Faults) -> bool:
    if value is True or value is False:
        return value
    raise WrongError("must be true or false")


def _string(value: Any, _: Pointer, __: Faults) -> str:
    if type(value) is str:
        return value
    raise WrongError("must be a string")


def _bytes(value: Any, _: Pointer, __: Faults) -> bytes:
    if type(value) is str:
        try:
            padded = value.replace("-", "+").replace("_", "/").rstrip("=")
            return base64.b64decode(padded + "=" * (-len(padded) % 4), validate=True)
        except binascii.Error:
            pass
    raise WrongError("must be a string in base64")


def _enum(enum: EnumDescriptor) -> Reader:
    numbers = {value.name: value.number for value in enum.values}
    names = [value.name for value in enum.values if value.number]

    def read(value: Any, _: Pointer, __: Faults) -> int:
        number = numbers.get(value) if type(value) is str else None
        if number is None and type(value) is int and -(2**31) <= value < 2**31:
            number = value
        if number is None:
            raise WrongError(f"must be one of {', '.join(names[:30])}")
        return number

    return read


_SCALARS: Mapping[int, Reader] = {
    FieldDescriptor.CPPTYPE_INT32: _integer(32, signed=True),
    FieldDescriptor.CPPTYPE_INT64: _integer(64, signed=True),
    FieldDescriptor.CPPTYPE_UINT32: _integer(32, signed=False),
    FieldDescriptor.CPPTYPE_UINT64: _integer(64, signed=False),
    FieldDescriptor.CPPTYPE_DOUBLE: _float,
    FieldDescriptor.CPPTYPE_FLOAT: _float,
    FieldDescriptor.CPPTYPE_BOOL: _bool,
    FieldDescriptor.CPPTYPE_STRING: _string,
}

_SPECIAL = "google.protobuf."
_FORMS: Mapping[str, str] = {
    "google.protobuf.Timestamp": "must be a time by RFC 3339, for example 2026-01-31T12:00:00Z",
    "google.protobuf.Duration": "must be seconds with an s, for example 3600s or 0.25s",
}
_PLAIN = frozenset({"google.protobuf.Empty"})


def is_special(message: Descriptor) -> bool:
    """Whether a message has a JSON form of its own."""
    return message.full_name.startswith(_SPECIAL) and message.full_name not in _PLAIN


def _special(message: Descriptor) -> Reader:
    make = message_factory.GetMessageClass(message)

    def read(value: Any, _: Pointer, __: Faults) -> Message:
        try:
            return json_format.ParseDict(value, make(), max_recursion_depth=DEPTH_MAX)
        except (json_format.ParseError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise WrongError(_FORMS.get(message.full_name, f"is not a {message.name} in JSON")) from error

    return read


_MASK = re.compile(r"\*|[A-Za-z0-9_.]+(,[A-Za-z0-9_.]+)*|")


def _field_mask(value: Any, _: Pointer, __: Faults) -> FieldMask:
    """Names of fields, joined by commas; both `phone_number` and `phoneNumber` are understood."""
    if type(value) is not str or not _MASK.fullmatch(value):
        raise WrongError("must be names of fields joined by commas, for example name,description")
    return FieldMask(paths=[re.sub("[A-Z]", lambda m: f"_{m[0].lower()}", path) for path in value.split(",") if path])


class _Member(NamedTuple):
    """A field, as a member of a JSON object.

    Attributes:
        field: its name in the contract.
        name: its name in JSON.
        read: reads its value.
        takes_null: whether null is a value, not the absence of one.
        excludes: fields of which it is one: none of the others may be there.
    """

    field: str
    name: str
    read: Reader
    takes_null: bool
    excludes: tuple[str, ...]


class MessageReader:
    """Reads JSON objects into messages of one type, each member by both its names."""

    def __init__(self, descriptor: Descriptor) -> None:
        self._descriptor = descriptor
        self._make = message_factory.GetMessageClass(descriptor)

    @cached_property
    def _members(self) -> Mapping[str, _Member]:
        members = [
            _Member(field.name, field.json_name, field_reader(field), _takes_null(field), _excludes(field))
            for field in self._descriptor.fields
        ]
        return {name: member for member in members for name in (member.name, member.field)}

    def __call__(self, value: Any, at: Pointer, faults: Faults) -> Message:
        """Read an object; its faults are noted, and the message is then not to be used."""
        if type(value) is not dict:
            raise WrongError("must be an object")
        values: dict[str, Any] = {}
        members = self._members
        for name, item in value.items():
            try:
                member = members.get(name) or self._unknown()
                if item is None and not member.takes_null:
                    continue
                if member.field in values or member.excludes:
                    _require_alone(member, values)
                values[member.field] = member.read(item, (at, name), faults)
            except WrongError as wrong:
                faults.note((at, name), wrong)
        return self._make(**values)

    def _unknown(self) -> NoReturn:
        raise WrongError(f"is not a field of {self._descriptor.name}", "FIELD_UNKNOWN")


def _require_alone(member: _Member, values: Mapping[str, Any]) -> None:
    if member.field in values:
        raise WrongError(f"is given twice: also as {member.name}", "FIELD_REPEATED")
    if others := [other for other in member.excludes if other in values]:
        raise WrongError(f"excludes {others[0]}: give one of them")


def _excludes(field: FieldDescriptor) -> tuple[str, ...]:
    return tuple(each.name for each in field.containing_oneof.fields) if field.containing_oneof is not None else ()


def _takes_null(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.full_name == "google.protobuf.Value"


def _list(element: Reader) -> Reader:
    def read(value: Any, at: Pointer, faults: Faults) -> list[Any]:
        if type(value) is not list:
            raise WrongError("must be a list")
        items = []
        for index, item in enumerate(value):
            try:
                items.append(element(item, (at, index), faults))
            except WrongError as wrong:
                faults.note((at, index), wrong)
        return items

    return read


def _map(key: FieldDescriptor, element: Reader) -> Reader:
    read_key = value_reader(key)

    def read(value: Any, at: Pointer, faults: Faults) -> dict[Any, Any]:
        if type(value) is not dict:
            raise WrongError("must be an object")
        items = {}
        for name, item in value.items():
            try:
                known = {"true": True, "false": False}.get(name) if key.type == FieldDescriptor.TYPE_BOOL else name
                items[read_key(known, at, faults)] = element(item, (at, name), faults)
            except WrongError as wrong:
                faults.note((at, name), wrong)
        return items

    return read


@cache
def message_reader(descriptor: Descriptor) -> Reader:
    """The reader of a message type."""
    if descriptor.full_name == "google.protobuf.FieldMask":
        return _field_mask
    return _special(descriptor) if is_special(descriptor) else MessageReader(descriptor)


@cache
def value_reader(field: FieldDescriptor) -> Reader:
    """The reader of one value of a field, an element if it repeats."""
    if field.message_type is not None:
        return message_reader(field.message_type)
    if field.enum_type is not None:
        return _enum(field.enum_type)
    return _bytes if field.type == FieldDescriptor.TYPE_BYTES else _SCALARS[field.cpp_type]


@cache
def field_reader(field: FieldDescriptor) -> Reader:
    """The reader of a field's JSON value."""
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        entry = field.message_type.fields_by_name
        return _map(entry["key"], value_reader(entry["value"]))
    return _list(value_reader(field)) if field.is_repeated else value_reader(field)
