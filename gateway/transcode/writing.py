"""Messages -> JSON values, by writers that are made once for each type (proto3 JSON mapping).

Names are those of the contract (snake_case). Everything without presence is shown, so that 0, false, "" and empty
lists are seen; 64-bit integers are strings, as the mapping says, because a JSON number may lose digits.
"""

import base64
from collections.abc import Callable, Mapping
from functools import cache, cached_property
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from gateway.transcode.reading import is_special

Writer = Callable[[Any], Any]


def _as_is(value: Any) -> Any:
    return value


def _float(value: float) -> Any:
    if value != value:  # noqa: PLR0124 - the test for NaN
        return "NaN"
    return {float("inf"): "Infinity", float("-inf"): "-Infinity"}.get(value, value)


def _bytes(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _enum(enum: EnumDescriptor) -> Writer:
    names = {value.number: value.name for value in enum.values}
    return lambda number: names.get(number, number)


_SCALARS: Mapping[int, Writer] = {
    FieldDescriptor.CPPTYPE_INT64: str,
    FieldDescriptor.CPPTYPE_UINT64: str,
    FieldDescriptor.CPPTYPE_DOUBLE: _float,
    FieldDescriptor.CPPTYPE_FLOAT: _float,
}


def _whole(value: Any) -> Any:
    """A JSON value with whole numbers written as such: a Struct has all numbers as floating point."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _whole(inner) for name, inner in value.items()}
    return [_whole(inner) for inner in value] if isinstance(value, list) else value


class MessageWriter:
    """Writes messages of one type as JSON objects."""

    def __init__(self, descriptor: Descriptor) -> None:
        self._descriptor = descriptor

    @cached_property
    def _fields(self) -> list[tuple[str, bool, Writer]]:
        return [(field.name, field.has_presence, field_writer(field)) for field in self._descriptor.fields]

    def __call__(self, message: Message) -> dict[str, Any]:
        """Write a message."""
        return {
            name: write(getattr(message, name))
            for name, has_presence, write in self._fields
            if not has_presence or message.HasField(name)
        }


@cache
def message_writer(descriptor: Descriptor) -> Writer:
    """The writer of a message type."""
    if descriptor.full_name in {"google.protobuf.Timestamp", "google.protobuf.Duration"}:
        return lambda message: message.ToJsonString()
    if is_special(descriptor):
        return lambda message: _whole(json_format.MessageToDict(message, preserving_proto_field_name=True))
    return MessageWriter(descriptor)


@cache
def _value_writer(field: FieldDescriptor) -> Writer:
    if field.message_type is not None:
        return message_writer(field.message_type)
    if field.enum_type is not None:
        return _enum(field.enum_type)
    return _bytes if field.type == FieldDescriptor.TYPE_BYTES else _SCALARS.get(field.cpp_type, _as_is)


def _map(key: FieldDescriptor, write: Writer) -> Writer:
    show = (lambda name: "true" if name else "false") if key.type == FieldDescriptor.TYPE_BOOL else str
    return lambda items: {show(name): write(item) for name, item in items.items()}


@cache
def field_writer(field: FieldDescriptor) -> Writer:
    """The writer of a field."""
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        entry = field.message_type.fields_by_name
        return _map(entry["key"], _value_writer(entry["value"]))
    if not field.is_repeated:
        return _value_writer(field)
    write = _value_writer(field)
    return list if write is _as_is else lambda items: [write(item) for item in items]
