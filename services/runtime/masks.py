"""What an update changes, and which of its fields."""

from collections.abc import Callable, Collection

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from services.common.errors import invalid
from services.common.ids import is_id

NOT_CHANGED = frozenset({"id", "etag"})


def updated_id(object_id: str, field: str, prefix: str) -> str:
    """Return the id of the object to update, which the door does not check, as the server gives it elsewhere."""
    if not object_id:
        raise invalid(field, "is required", "FIELD_REQUIRED")
    if not is_id(prefix, object_id):
        raise invalid(field, f"is not an id of the form {prefix}_...")
    return object_id


def changed_fields(
    message: Message, name: str, mask: FieldMask, mutable: Collection[str], is_output_only: Callable[[str], bool]
) -> frozenset[str]:
    """Return the fields to change, out of the mutable ones.

    An empty mask means those that are set; `*` means all. Output-only fields are ignored.

    Args:
        message: the object in the request.
        name: its name in the request, for messages.
        mask: the update mask.
        mutable: fields that an update may change.
        is_output_only: whether a field is the server's.

    Raises:
        InvalidArgumentError: a path that is no field; FIELD_IMMUTABLE, a field that never changes by an update.
    """
    known = message.DESCRIPTOR.fields_by_name
    paths = set(mask.paths)
    if "*" in paths:
        return frozenset(mutable)
    if not paths:
        paths = {field.name for field, _ in message.ListFields()} & set(mutable)
    for path in paths.difference(mutable, NOT_CHANGED):
        if path not in known:
            raise invalid("update_mask", f"{path!r} is not a field of {name}; known are {', '.join(sorted(mutable))}")
        if not is_output_only(path):
            raise invalid(
                f"{name}.{path}", "does not change by an update; leave it out of update_mask", "FIELD_IMMUTABLE"
            )
    return frozenset(paths.intersection(mutable))
