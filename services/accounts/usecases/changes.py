"""Updates: new values by field, on top of what is stored."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from services.common.errors import FieldViolation, InvalidArgumentError

T = TypeVar("T")

Changes = Mapping[str, Any]
"""New values by the path of a field, for example `name` or `address.city`."""


def changed(current: T, changes: Changes) -> T:
    """Return a dataclass with new values; a path with a dot leads into a dataclass inside."""
    for path, value in changes.items():
        head, _, rest = path.partition(".")
        new = changed(getattr(current, head), {rest: value}) if rest else value
        current = replace(current, **{head: new})  # type: ignore[type-var]
    return current


def require_none(violations: Sequence[FieldViolation], reason: str = "") -> None:
    """Raise INVALID_ARGUMENT that names each wrong field, if there is one."""
    if violations:
        first = violations[0]
        more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
        raise InvalidArgumentError(
            reason or first.reason, f"{first.field} {first.description}{more}.", violations=violations
        )
