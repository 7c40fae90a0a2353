"""Messages and fields -> JSON Schema (2020-12), as proto3 JSON writes them."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from gateway.transcode.reading import is_special
from meterline.type.v1 import limits_pb2
from services.runtime.limits import is_output_only, is_required, limits_of

Schema = dict[str, Any]

_INT64 = r"^-?[0-9]{1,20}$"
_SCALARS: Mapping[int, Schema] = {
    FieldDescriptor.CPPTYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.CPPTYPE_UINT32: {"type": "integer", "minimum": 0, "maximum": 2**32 - 1},
    FieldDescriptor.CPPTYPE_INT64: {"type": ["string", "integer"], "format": "int64", "pattern": _INT64},
    FieldDescriptor.CPPTYPE_UINT64: {"type": ["string", "integer"], "format": "uint64", "pattern": r"^[0-9]{1,20}$"},
    FieldDescriptor.CPPTYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptor.CPPTYPE_FLOAT: {"type": "number", "format": "float"},
    FieldDescriptor.CPPTYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.CPPTYPE_STRING: {"type": "string"},
}
"""64-bit integers are written as strings and read as either, as the JSON mapping says."""

_SPECIAL: Mapping[str, Schema] = {
    "Timestamp": {"type": "string", "format": "date-time"},
    "Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$", "examples": ["3600s"]},
    "FieldMask": {"type": "string", "examples": ["name,description"]},
    "Struct": {"type": "object"},
    "ListValue": {"type": "array"},
    "Value": {},
    "Any": {"type": "object", "properties": {"@type": {"type": "string"}}},
}
_NUMBERS = frozenset({"integer", "number"})
_LIFTED = frozenset({"net", "usg", "chg", "led", "bal"})
"""Ids of another form than a prefix and 26 characters (services.common.ids)."""


def component(name: str) -> str:
    """The name of a message or an enum among the components: `accounts.v1.Company`."""
    return name.removeprefix("meterline.")


class Schemas:
    """Collects the schemas that a document refers to.

    Args:
        comments: of the contracts, by full name.
    """

    def __init__(self, comments: Mapping[str, str]) -> None:
        self._comments = comments
        self.components: dict[str, Schema] = {}

    def comment(self, full_name: str) -> Schema:
        """The description of what has this full name, if it has one."""
        text = self._comments.get(full_name)
        return {"description": text} if text else {}

    def message(self, descriptor: Descriptor) -> Schema:
        """A reference to a message's schema; its JSON form itself if that is special."""
        if is_special(descriptor):
            return dict(_SPECIAL.get(descriptor.name) or self._wrapped(descriptor))
        return self._refer(descriptor.full_name, lambda: self.object(descriptor))

    def enum(self, descriptor: EnumDescriptor) -> Schema:
        """A reference to an enum's schema, which explains its values."""
        return self._refer(descriptor.full_name, lambda: self._enum(descriptor))

    def patch(self, descriptor: Descriptor, without: Collection[str]) -> Schema:
        """A reference to the schema of a change of a message: nothing is required."""
        return self._refer(f"{descriptor.full_name}Patch", lambda: self.object(descriptor, without, partial=True))

    def object(self, descriptor: Descriptor, without: Collection[str] = (), *, partial: bool = False) -> Schema:
        """A message's schema, without some fields, in the place where it is used."""
        fields = [field for field in descriptor.fields if field.name not in without]
        schema: Schema = {"type": "object", **self.comment(descriptor.full_name)}
        schema["properties"] = {field.name: self.field(field, partial=partial) for field in fields}
        required = [field.name for field in fields if is_required(field)]
        if required and not partial:
            schema["required"] = required
        return schema

    def field(self, field: FieldDescriptor, *, partial: bool = False) -> Schema:
        """A field's schema with its comment and its limits."""
        schema = self._described(field, self.value(field, partial=partial))
        if is_output_only(field):
            schema["readOnly"] = True
        return schema

    def value(self, field: FieldDescriptor, *, partial: bool = False) -> Schema:
        """A field's schema without its comment."""
        message, limits = field.message_type, limits_of(field)
        if message is not None and message.GetOptions().map_entry:
            return {"type": "object", "additionalProperties": self.value(message.fields_by_name["value"])}
        may_be_empty = not is_required(field) or field.is_repeated or is_output_only(field)
        if not field.is_repeated:
            return self._limited(self._kind(field), limits, may_be_empty=may_be_empty)
        schema: Schema = {"type": "array", "items": self._limited(self._kind(field), limits, may_be_empty=False)}
        if limits.min_items or (is_required(field) and not partial):
            schema["minItems"] = max(1, limits.min_items)
        if limits.max_items:
            schema["maxItems"] = limits.max_items
        if limits.unique:
            schema["uniqueItems"] = True
        return schema

    def _kind(self, field: FieldDescriptor) -> Schema:
        if field.message_type is not None:
            return self.message(field.message_type)
        if field.enum_type is not None:
            return self.enum(field.enum_type)
        if field.type == FieldDescriptor.TYPE_BYTES:
            return {"type": "string", "contentEncoding": "base64"}
        return dict(_SCALARS[field.cpp_type])

    def _limited(self, schema: Schema, limits: limits_pb2.Limits, *, may_be_empty: bool) -> Schema:
        """Add the limits. A field that need not be set takes the empty string for that, and is read as it."""
        kinds = schema.get("type", ())
        if kinds == "string" and "format" not in schema:
            if limits.min_length and not may_be_empty:
                schema["minLength"] = limits.min_length
            if limits.max_length:
                schema["maxLength"] = limits.max_length
            if pattern := _pattern(limits):
                schema["pattern"] = f"^({pattern})?$" if may_be_empty else f"^({pattern})$"
        elif _NUMBERS.intersection([kinds] if isinstance(kinds, str) else kinds):
            if limits.has_minimum:
                schema["minimum"] = limits.minimum
            if limits.maximum:
                schema["maximum"] = limits.maximum
        return schema

    def _described(self, field: FieldDescriptor, schema: Schema) -> Schema:
        return {**schema, **self.comment(field.full_name)}

    def _enum(self, descriptor: EnumDescriptor) -> Schema:
        said = {name: self._comments.get(f"{descriptor.full_name}.{name}", "") for name in descriptor.values_by_name}
        lines = [
            self._comments.get(descriptor.full_name, ""),
            "",
            *(f"- `{name}`: {text}" for name, text in said.items()),
        ]
        return {"type": "string", "enum": list(said), "description": "\n".join(lines).strip()}

    def _wrapped(self, descriptor: Descriptor) -> Schema:
        schema = self._kind(descriptor.fields_by_name["value"])
        kind = schema["type"]
        return {**schema, "type": [*([kind] if isinstance(kind, str) else kind), "null"]}

    def _refer(self, full_name: str, make: Callable[[], Schema]) -> Schema:
        name = component(full_name)
        if name not in self.components:
            self.components[name] = {}  # so that a message may contain itself
            self.components[name] = make()
        return {"$ref": f"#/components/schemas/{name}"}


def _pattern(limits: limits_pb2.Limits) -> str:
    if limits.id_prefix:
        return f"{limits.id_prefix}_.+" if limits.id_prefix in _LIFTED else f"{limits.id_prefix}_[0-9a-z]{{26}}"
    return limits.pattern
