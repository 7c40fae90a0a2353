"""Failures as HTTP shows them: RFC 9457 `application/problem+json`, whether a service or the gateway says no."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Any

import grpc
import orjson
from grpc_status import rpc_status

from services.common.errors import FieldViolation, MeterlineError
from services.runtime.statuses import from_status

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:meterline:problem:"
RETRY_SECONDS = 1
"""When to try again what failed for the moment, where the service does not say."""

STATUSES: Mapping[str, int] = {
    "CANCELLED": 503,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "UNAUTHENTICATED": 401,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 409,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
}
"""gRPC status code to HTTP status. FAILED_PRECONDITION is a conflict with the state of the resource (RFC 9110,
15.5.10), not a malformed request."""

CHALLENGE = 'Bearer realm="meterline"'


class Place(StrEnum):
    """What part of the HTTP request a fault is in; the member of an element of `errors` that names it."""

    POINTER = "pointer"
    """The body; a JSON pointer in its URI fragment form, for example `#/address/country` (RFC 6901, 6)."""
    PARAMETER = "parameter"
    """A path or query parameter, by name."""
    HEADER = "header"
    """A header, by name."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One part of the request and what is wrong with it."""

    place: Place
    name: str
    code: str
    detail: str

    def shown(self) -> dict[str, str]:
        """The element of `errors`."""
        return {str(self.place): self.name, "code": self.code, "detail": self.detail}


@dataclass(eq=False)
class Problem(Exception):  # noqa: N818 - the word of RFC 9457
    """A failure on its way to the caller.

    Attributes:
        status: HTTP status.
        code: stable UPPER_SNAKE word; a service's reason, or one of the gateway's own.
        detail: a sentence that says what to do.
        errors: the parts of the request that are wrong.
        headers: headers of the answer.
        extra: more members of the document.
    """

    status: int
    code: str
    detail: str
    errors: Sequence[Fault] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.status} {self.code}: {self.detail}"

    def document(self, request_id: str) -> dict[str, Any]:
        """The members of the problem document."""
        members: dict[str, Any] = {
            "type": TYPE_PREFIX + self.code,
            "title": self.code.replace("_", " ").capitalize(),
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "request_id": request_id,
        }
        if self.errors:
            members["errors"] = [fault.shown() for fault in self.errors]
        return {**members, **self.extra}

    def body(self, request_id: str) -> bytes:
        """The problem document as JSON."""
        return orjson.dumps(self.document(request_id))


def unreadable(faults: Sequence[Fault]) -> Problem:
    """The problem of a request that does not fit the contract: every fault that was found."""
    first = faults[0]
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return Problem(400, first.code, f"{first.name}: {first.detail}{more}.", errors=faults)


def unauthenticated(detail: str, *, bad_token: bool = False) -> Problem:
    """The problem of a call without a good credential (RFC 6750, 3)."""
    challenge = f'{CHALLENGE}, error="invalid_token"' if bad_token else CHALLENGE
    return Problem(401, "CREDENTIAL_INVALID", detail, headers={"www-authenticate": challenge})


def not_now(status: int, code: str, detail: str, retry_s: int = RETRY_SECONDS) -> Problem:
    """The problem of a request that may succeed later."""
    return Problem(status, code, detail, headers={"retry-after": str(retry_s)})


_WITHOUT_DETAILS: Mapping[str, tuple[str, str]] = {
    "UNAVAILABLE": ("SERVICE_UNAVAILABLE", "The {service} service is away for the moment; try again."),
    "CANCELLED": ("SERVICE_UNAVAILABLE", "The {service} service stopped while it worked on this; try again."),
    "DEADLINE_EXCEEDED": (
        "DEADLINE_EXCEEDED",
        "{service} did not answer in time; whether it did it is not known. Repeat with the same request id.",
    ),
    "UNIMPLEMENTED": ("UNIMPLEMENTED", "The {service} service does not offer this yet."),
    "RESOURCE_EXHAUSTED": ("ANSWER_TOO_LARGE", "The answer is too large; ask for a smaller page."),
}


Locate = Callable[[FieldViolation], Fault]
"""Says in terms of the HTTP request where a field of the message came from."""


def from_rpc_error(error: grpc.aio.AioRpcError, service: str, locate: Locate) -> Problem:
    """Write the failure of a call as a problem.

    The words of the transport, which may name hosts and ports, are not passed on; those of a service are.
    """
    code = error.code().name
    status = rpc_status.from_call(error)  # type: ignore[arg-type] # an AioRpcError has what it needs
    if status is not None:
        return _from_service(code, from_status(status), locate)
    reason, detail = _WITHOUT_DETAILS.get(code, ("INTERNAL", "The {service} service failed; the fault is logged."))
    http = 500 if code == "RESOURCE_EXHAUSTED" else STATUSES[code]
    detail = detail.format(service=service)
    return not_now(http, reason, detail) if http == HTTPStatus.SERVICE_UNAVAILABLE else Problem(http, reason, detail)


def _from_service(code: str, error: MeterlineError, locate: Locate) -> Problem:
    status = STATUSES[code]
    if status == HTTPStatus.UNAUTHORIZED:
        return unauthenticated(error.message, bad_token=True)
    headers: dict[str, str] = {}
    if error.retry_after_ms is not None:
        headers["retry-after"] = str(math.ceil(error.retry_after_ms / 1000))
    elif status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}:
        headers["retry-after"] = str(RETRY_SECONDS)
    extra: dict[str, Any] = {}
    if error.metadata:
        extra["metadata"] = dict(error.metadata)
    if error.resource:
        extra["resource"] = dict(zip(("type", "id"), error.resource, strict=True))
    return Problem(status, error.reason, error.message, [locate(v) for v in error.violations], headers, extra)
