"""Failures as types with a stable reason. Raised in domain and use cases, mapped to a status once, at the door."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """A field of the request and what is wrong with it."""

    field: str
    description: str
    reason: str = "FIELD_INVALID"


@dataclass(eq=False)
class MeterlineError(Exception):
    """A failure that the caller is told of.

    Attributes:
        reason: stable UPPER_SNAKE word.
        message: a sentence in English that says what to do next.
        metadata: names and values that a program can use.
        resource: type and id of the object concerned.
        violations: fields concerned.
        retry_after_ms: when trying again makes sense; None if it does not by itself.
    """

    reason: str
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    resource: tuple[str, str] | None = None
    violations: Sequence[FieldViolation] = ()
    retry_after_ms: int | None = None

    code: ClassVar[str] = "INTERNAL"
    """Name of the gRPC status code."""

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


class InvalidArgumentError(MeterlineError):
    """The request is wrong whatever the state of the system."""

    code = "INVALID_ARGUMENT"


class NotFoundError(MeterlineError):
    """The object does not exist for this caller."""

    code = "NOT_FOUND"


class AlreadyExistsError(MeterlineError):
    """An object with this key exists."""

    code = "ALREADY_EXISTS"


class PermissionDeniedError(MeterlineError):
    """The caller sees the object but may not do this to it."""

    code = "PERMISSION_DENIED"


class UnauthenticatedError(MeterlineError):
    """The caller did not say who it is, or the credential is not good."""

    code = "UNAUTHENTICATED"


class FailedPreconditionError(MeterlineError):
    """The object is not in a state that permits this."""

    code = "FAILED_PRECONDITION"


class AbortedError(MeterlineError):
    """Somebody else changed it at the same time; read again and decide."""

    code = "ABORTED"


class ResourceExhaustedError(MeterlineError):
    """A limit is reached; try again later."""

    code = "RESOURCE_EXHAUSTED"


class UnavailableError(MeterlineError):
    """Something that is needed is away for the moment; try again."""

    code = "UNAVAILABLE"


class DeadlineExceededError(MeterlineError):
    """The answer did not come in time; whether it happened is not known. Repeat with the same request id."""

    code = "DEADLINE_EXCEEDED"


class InternalError(MeterlineError):
    """A fault of ours."""

    code = "INTERNAL"


ERRORS_BY_CODE: Mapping[str, type[MeterlineError]] = {
    kind.code: kind
    for kind in (
        InvalidArgumentError,
        NotFoundError,
        AlreadyExistsError,
        PermissionDeniedError,
        UnauthenticatedError,
        FailedPreconditionError,
        AbortedError,
        ResourceExhaustedError,
        UnavailableError,
        DeadlineExceededError,
        InternalError,
    )
}


def not_found(kind: str, object_id: str) -> NotFoundError:
    """The error for an object that does not exist for the caller."""
    return NotFoundError(
        f"{kind.upper()}_NOT_FOUND",
        f"There is no {kind.replace('_', ' ')} {object_id!r} that this account can see. Check the id.",
        resource=(kind, object_id),
    )


def invalid(field_name: str, description: str, reason: str = "FIELD_INVALID") -> InvalidArgumentError:
    """The error for one wrong field."""
    return InvalidArgumentError(
        reason, f"{field_name}: {description}", violations=[FieldViolation(field_name, description, reason)]
    )
