"""Random messages of any type of the contracts, as hypothesis draws them."""

from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

texts = st.text(st.characters(codec="utf-8"), max_size=12)
names = st.from_regex(r"[a-z]{1,5}(_[a-z]{1,5}){0,2}", fullmatch=True)

SCALARS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: st.integers(0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_DOUBLE: st.floats(),
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_STRING: texts,
}


def _special(descriptor: Descriptor) -> st.SearchStrategy[Any] | None:
    make = message_factory.GetMessageClass(descriptor)
    json_values = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts
    known: dict[str, st.SearchStrategy[Any]] = {
        "Timestamp": st.builds(make, seconds=st.integers(0, 253_402_300_799), nanos=st.integers(0, 999_999_999)),
        "Duration": st.builds(make, seconds=st.integers(0, 315_576_000_000), nanos=st.integers(0, 999_999_999)),
        "FieldMask": st.builds(make, paths=st.lists(names, min_size=1, max_size=3)),
        "Struct": st.dictionaries(texts, json_values, max_size=3).map(lambda content: _struct(make, content)),
    }
    return known.get(descriptor.name) if descriptor.full_name.startswith("google.protobuf.") else None


def _struct(make: type[Message], content: dict[str, Any]) -> Message:
    message = make()
    message.update(content)  # type: ignore[attr-defined] # a Struct
    return message


def _one(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        special = _special(field.message_type)
        return messages(field.message_type) if special is None else special
    if field.enum_type is not None:
        return st.sampled_from([value.number for value in field.enum_type.values])
    return SCALARS[field.cpp_type]


def messages(descriptor: Descriptor) -> st.SearchStrategy[Any]:
    """Messages of a type with any of its fields set."""
    make = message_factory.GetMessageClass(descriptor)
    values = {f.name: st.lists(_one(f), max_size=3) if f.is_repeated else _one(f) for f in descriptor.fields}
    return st.fixed_dictionaries({}, optional=values).map(lambda drawn: make(**drawn))
