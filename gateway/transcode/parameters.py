"""Path and query parameters -> fields of a message."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from gateway.transcode.reading import Faults, WrongError, is_special, value_reader

DEPTH_MAX = 4
"""How far down a query parameter may reach: `a.b.c.d`."""

_AS_TEXT = frozenset(
    f"google.protobuf.{name}"
    for name in (
        "Timestamp", "Duration", "FieldMask", "StringValue", "BytesValue", "BoolValue", "Int32Value", "Int64Value",
        "UInt32Value", "UInt64Value", "FloatValue", "DoubleValue",
    )
)  # fmt: skip
"""Messages whose JSON form is a scalar, so that a parameter can hold one."""

_BOOLEANS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Parameter:
    """A scalar field of a request, or a list of scalars, that a parameter of this path sets."""

    path: tuple[str, ...]
    field: FieldDescriptor
    read: Callable[[str], Any]

    def set(self, message: Message, texts: list[str]) -> None:
        """Put the texts into the field.

        Raises:
            WrongError: a text is not what the field takes, or there are several for one value.
        """
        target = self._parent(message)
        if self.field.is_repeated:
            getattr(target, self.field.name).extend(self.read(text) for text in texts)
            return
        if len(texts) > 1:
            raise WrongError("is given more than once")
        value = self.read(texts[0])
        if isinstance(value, Message):
            getattr(target, self.field.name).CopyFrom(value)
        else:
            setattr(target, self.field.name, value)

    def get(self, message: Message) -> Any:
        """The value in the message."""
        return getattr(self._parent(message), self.field.name)

    def is_set(self, message: Message) -> bool:
        """Whether the message has something there."""
        parent = self._parent(message)
        has = parent.HasField(self.field.name) if self.field.has_presence else bool(getattr(parent, self.field.name))
        return bool(has)

    def _parent(self, message: Message) -> Message:
        for name in self.path[:-1]:
            message = getattr(message, name)
        return message


def _text_reader(field: FieldDescriptor) -> Callable[[str], Any]:
    read = value_reader(field)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return lambda text: read(_BOOLEANS.get(text, text), (), Faults())
    if field.enum_type is not None:
        return lambda text: read(int(text) if text.isascii() and text.isdigit() else text, (), Faults())
    if field.message_type is not None and not field.message_type.full_name.endswith(("Timestamp", "Duration", "Mask")):
        inner = _text_reader(field.message_type.fields_by_name["value"])
        make = message_factory.GetMessageClass(field.message_type)
        return lambda text: make(value=inner(text))
    return lambda text: read(text, (), Faults())


def _is_scalar(field: FieldDescriptor) -> bool:
    return field.message_type is None or field.message_type.full_name in _AS_TEXT


def parameters(descriptor: Descriptor, above: tuple[str, ...] = ()) -> Iterator[Parameter]:
    """Every field of a message, and of the messages in it, that a parameter can set."""
    for field in descriptor.fields:
        path = (*above, field.name)
        if _is_scalar(field):
            yield Parameter(path, field, _text_reader(field))
        elif not field.is_repeated and len(path) < DEPTH_MAX:
            inner = field.message_type
            yield from parameters(inner, path) if inner is not None and not is_special(inner) else ()
