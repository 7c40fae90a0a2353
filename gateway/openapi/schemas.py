"""Messages and fields -> JSON Schema (2020-12), as proto3 JSON writes and reads them.

A message has two schemas. As an answer everything without presence is there, and 64-bit integers are strings. As an
input what the server gives is left out, the limits of the contract hold, and 64-bit integers may be numbers.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from gateway.transcode.reading import is_special
from meterline.type.v1 import limits_pb2
from services.runtime.limits import is_output_only, is_required, limits_of

Schema = dict[str, Any]

_SCALARS: Mapping[int, Schema] = {
    FieldDescriptor.CPPTYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.CPPTYPE_UINT32: {"type": "integer", "minimum": 0, "maximum": 2**32 - 1},
    FieldDescriptor.CPPTYPE_INT64: {"type": "string", "format": "int64", "pattern": "^-?[0-9]{1,19}$"},
    FieldDescriptor.CPPTYPE_UINT64: {"type": "string", "format": "uint64", "pattern": "^[0-9]{1,20}$"},
    FieldDescriptor.CPPTYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptor.CPPTYPE_FLOAT: {"type": "number", "format": "float"},
    FieldDescriptor.CPPTYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.CPPTYPE_STRING: {"type": "string"},
}
_LONG = frozenset({FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64})

_SPECIAL: Mapping[str, Schema] = {
    "Timestamp": {"type": "string", "format": "date-time"},
    "Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$", "examples": ["3600s"]},
    "FieldMask": {"type": "string", "examples": ["name,description"]},
    "Struct": {"type": "object"},
    "ListValue": {"type": "array"},
    "Value": {},
    "Any": {"type": "object", "properties": {"@type": {"type": "string"}}},
}
_OTHER_IDS: Mapping[str, str] = {"net": "net_[0-9]{5,6}"} | {
    prefix: f"{prefix}_[!-~ ]{{1,100}}" for prefix in ("usg", "chg", "led", "bal", "rfd")
}
"""Ids of another form than a prefix and 26 characters (services.common.ids)."""


def component(name: str) -> str:
    """The name of a message or an enum among the components: `accounts.v1.Company`."""
    return name.removeprefix("meterline.")


class Schemas:
    """Collects the schemas that a document refers to.

    Args:
        comments: of the contracts, by full name.
        components: where the schemas are kept.
        inputs: whether messages are described as inputs; else as answers.
    """

    def __init__(self, comments: Mapping[str, str], components: dict[str, Schema], *, inputs: bool) -> None:
        self._comments = comments
        self._components = components
        self._inputs = inputs

    def comment(self, full_name: str) -> Schema:
        """The description of what has this full name, if it has one."""
        text = self._comments.get(full_name)
        return {"description": text} if text else {}

    def message(self, descriptor: Descriptor) -> Schema:
        """A reference to a message's schema; its JSON form itself if that is special."""
        if is_special(descriptor):
            return dict(_SPECIAL[descriptor.name]) if descriptor.name in _SPECIAL else self._wrapped(descriptor)
        name = f"{descriptor.full_name}Input" if self._inputs else descriptor.full_name
        return self._refer(name, lambda: self.object(descriptor))

    def patch(self, descriptor: Descriptor, without: Collection[str]) -> Schema:
        """A reference to the schema of a change of a message: nothing is required."""
        name = f"{descriptor.full_name}Patch"
        return self._refer(name, lambda: self.object(descriptor, without) | {"required": []})

    def object(self, descriptor: Descriptor, without: Collection[str] = ()) -> Schema:
        """A message's schema, without some fields, in the place where it is used."""
        fields = [f for f in descriptor.fields if f.name not in without and not (self._inputs and is_output_only(f))]
        required = [f.name for f in fields if (is_required(f) if self._inputs else not f.has_presence)]
        return {
            "type": "object",
            **self.comment(descriptor.full_name),
            "properties": {field.name: self.field(field) | self.comment(field.full_name) for field in fields},
            "required": required,
        }

    def field(self, field: FieldDescriptor) -> Schema:
        """A field's schema; as an input, within its limits."""
        message, limits = field.message_type, limits_of(field)
        if message is not None and message.GetOptions().map_entry:
            return {"type": "object", "additionalProperties": self.field(message.fields_by_name["value"])}
        if not field.is_repeated:
            return self._value(field, limits, must_be_set=is_required(field))
        schema: Schema = {"type": "array", "items": self._value(field, limits, must_be_set=True)}
        if self._inputs:
            bounds = {"minItems": max(limits.min_items, int(is_required(field))), "maxItems": limits.max_items}
            schema |= {name: bound for name, bound in bounds.items() if bound}
            schema |= {"uniqueItems": True} if limits.unique else {}
        return schema

    def _value(self, field: FieldDescriptor, limits: limits_pb2.Limits, *, must_be_set: bool) -> Schema:
        if field.message_type is not None:
            return self.message(field.message_type)
        if field.enum_type is not None:
            return self._enum(field.enum_type, is_any=not (self._inputs and must_be_set and not field.is_repeated))
        if field.type == FieldDescriptor.TYPE_BYTES:
            return {"type": "string", "contentEncoding": "base64"}
        schema = dict(_SCALARS[field.cpp_type])
        if not self._inputs:
            return schema
        if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            return schema | _text_limits(limits, must_be_set=must_be_set, repeated=field.is_repeated)
        if field.cpp_type in _LONG:
            schema["type"] = ["string", "integer"]
        bounds = {"minimum": limits.minimum} if limits.has_minimum else {}
        return schema | bounds | ({"maximum": limits.maximum} if limits.maximum else {})

    def _enum(self, descriptor: EnumDescriptor, *, is_any: bool) -> Schema:
        reference = self._refer(descriptor.full_name, lambda: self._values(descriptor))
        return reference if is_any else reference | {"not": {"const": descriptor.values[0].name}}

    def _values(self, descriptor: EnumDescriptor) -> Schema:
        said = {v.name: self._comments.get(f"{descriptor.full_name}.{v.name}", "") for v in descriptor.values}
        values = "\n".join(f"- `{name}`: {text}" for name, text in said.items())
        about = f"{self._comments.get(descriptor.full_name, '')}\n\n{values}"
        return {"type": "string", "enum": list(said), "description": about.strip()}

    def _wrapped(self, descriptor: Descriptor) -> Schema:
        schema = self.field(descriptor.fields_by_name["value"])
        kinds = schema["type"]
        return schema | {"type": [*([kinds] if isinstance(kinds, str) else kinds), "null"]}

    def _refer(self, full_name: str, make: Callable[[], Schema]) -> Schema:
        name = component(full_name)
        if name not in self._components:
            self._components[name] = {}  # so that a message may contain itself
            self._components[name] = make()
        return {"$ref": f"#/components/schemas/{name}"}


def _text_limits(limits: limits_pb2.Limits, *, must_be_set: bool, repeated: bool) -> Schema:
    """The limits of a string. Empty is unset: it passes where nothing is required."""
    least = limits.min_length or int(not repeated)
    schema: Schema = {"minLength": least} if must_be_set and least else {}
    if limits.max_length:
        schema["maxLength"] = limits.max_length
    prefix = limits.id_prefix
    pattern = _OTHER_IDS.get(prefix, f"{prefix}_[0-9a-hjkmnp-tv-z]{{26}}") if prefix else limits.pattern
    if pattern:
        schema["pattern"] = f"^({pattern})$" if must_be_set else f"^({pattern})?$"
    return schema
