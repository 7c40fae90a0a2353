"""Errors as they cross the wire: a type of ours to google.rpc.Status with ErrorInfo, and back to the same type."""

from typing import Any, NoReturn

import grpc
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from services.common.errors import ERRORS_BY_CODE, FieldViolation, InternalError, MeterlineError, UnavailableError

DOMAIN = "meterline"


def _pack(message: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def to_status(error: MeterlineError) -> status_pb2.Status:
    """Write an error as a status with its details."""
    status = status_pb2.Status(code=code_pb2.Code.Value(error.code), message=error.message)
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=dict(error.metadata))
    status.details.append(_pack(info))
    if error.violations:
        bad = error_details_pb2.BadRequest()
        for violation in error.violations:
            bad.field_violations.add(field=violation.field, description=violation.description, reason=violation.reason)
        status.details.append(_pack(bad))
    if error.resource:
        kind, name = error.resource
        status.details.append(_pack(error_details_pb2.ResourceInfo(resource_type=kind, resource_name=name)))
    if error.retry_after_ms is not None:
        delay = Duration()
        delay.FromMilliseconds(error.retry_after_ms)
        status.details.append(_pack(error_details_pb2.RetryInfo(retry_delay=delay)))
    return status


def from_status(status: status_pb2.Status) -> MeterlineError:
    """Read a status back into the type it was."""
    kind = ERRORS_BY_CODE.get(code_pb2.Code.Name(status.code), InternalError)
    error = kind("UNKNOWN", status.message)
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo()
            detail.Unpack(info)
            error.reason, error.metadata = info.reason, dict(info.metadata)
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest()
            detail.Unpack(bad)
            error.violations = [FieldViolation(v.field, v.description, v.reason) for v in bad.field_violations]
        elif detail.Is(error_details_pb2.ResourceInfo.DESCRIPTOR):
            resource = error_details_pb2.ResourceInfo()
            detail.Unpack(resource)
            error.resource = (resource.resource_type, resource.resource_name)
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo()
            detail.Unpack(retry)
            error.retry_after_ms = retry.retry_delay.ToMilliseconds()
    return error


def from_rpc_error(error: grpc.aio.AioRpcError) -> MeterlineError:
    """Read the error of a call into a type of ours."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    if status is not None:
        return from_status(status)
    name = error.code().name
    kind = ERRORS_BY_CODE.get(name, InternalError)
    message = error.details() or name
    return kind("UNAVAILABLE" if kind is UnavailableError else name, message)


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: MeterlineError) -> NoReturn:
    """End a call with an error."""
    await context.abort_with_status(rpc_status.to_status(to_status(error)))
    raise AssertionError  # abort_with_status raises
