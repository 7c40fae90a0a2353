"""Updates: the fields that a mask names, laid over the object as it is. What may change is read from the contract."""

from collections.abc import Mapping
from typing import Any, TypeVar

from google.api import field_behavior_pb2
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from services.common.errors import MeterlineError, invalid
from services.runtime.limits import REQUIRED, is_output_only, is_required

M = TypeVar("M", bound=Message)

ALL = "*"
_KEY = frozenset({"id", "etag"})


def _is_immutable(field: Any) -> bool:
    return field_behavior_pb2.IMMUTABLE in field.GetOptions().Extensions[field_behavior_pb2.field_behavior]


def merged(current: M, update: M, mask: FieldMask, frozen: Mapping[str, MeterlineError] | None = None) -> M:
    """Return `current` with the fields of `update` that the mask names; output-only fields never.

    An empty mask means the fields that are set; `*` means all. A field that a mask names and that is not set becomes
    empty.

    Args:
        current: the object as it is.
        update: the object in the request.
        mask: names of fields of the object, not of parts of them.
        frozen: immutable fields whose change is an error of its own.

    Raises:
        InvalidArgumentError: UPDATE_MASK_INVALID for an unknown path, FIELD_IMMUTABLE for a change of what is fixed,
            FIELD_REQUIRED where `*` leaves out what an object cannot be without.
    """
    fields: Mapping[str, Any] = current.DESCRIPTOR.fields_by_name
    name = _snake(current.DESCRIPTOR.name)
    if ALL in mask.paths:
        paths = {path for path, field in fields.items() if not _is_immutable(field)}
    else:
        paths = set(mask.paths) or {field.name for field, _ in update.ListFields()}
    result = type(current)()
    result.CopyFrom(current)
    for path in sorted(paths - _KEY):
        if path not in fields:
            raise invalid("update_mask", f"{path!r} is not a field of {name}", "UPDATE_MASK_INVALID")
        if is_output_only(fields[path]):
            continue
        if _is_immutable(fields[path]) and getattr(update, path) != getattr(current, path):
            raise (frozen or {}).get(path) or invalid(f"{name}.{path}", "cannot be changed", "FIELD_IMMUTABLE")
        if ALL in mask.paths and is_required(fields[path]) and not getattr(update, path):
            raise invalid(f"{name}.{path}", "is required", REQUIRED)
        _set(result, update, fields[path])
    return result


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


def _set(target: Message, source: Message, field: Any) -> None:
    target.ClearField(field.name)
    if field.is_repeated:
        getattr(target, field.name).extend(getattr(source, field.name))
    elif field.message_type is None:
        setattr(target, field.name, getattr(source, field.name))
    elif source.HasField(field.name):
        getattr(target, field.name).CopyFrom(getattr(source, field.name))
