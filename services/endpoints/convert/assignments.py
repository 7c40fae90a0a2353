"""Assignments: contract and domain."""

from meterline.endpoints.v1 import assignments_pb2
from services.endpoints.convert.times import from_timestamp, to_timestamp
from services.endpoints.domain.assignments import Assignment
from services.endpoints.ports import AssignmentFilter
from services.endpoints.usecases.assignments import AssignmentChanges
from services.runtime.limits import is_output_only
from services.runtime.masks import changed_fields

_FIELDS = assignments_pb2.PlanAssignment.DESCRIPTOR.fields_by_name


def to_proto(assignment: Assignment) -> assignments_pb2.PlanAssignment:
    """Write an assignment."""
    expire_ms, remove_ms = assignment.expire_ms, assignment.remove_ms
    return assignments_pb2.PlanAssignment(
        id=assignment.id,
        plan_id=assignment.plan_id,
        plan_version=assignment.plan_version,
        endpoint_id=assignment.endpoint_id,
        account_id=assignment.account_id,
        role=assignments_pb2.AssignmentRole.ValueType(assignment.role),
        state=assignments_pb2.AssignmentState.ValueType(assignment.state),
        priority=assignment.priority,
        assign_time=to_timestamp(assignment.assign_ms),
        expire_time=None if expire_ms is None else to_timestamp(expire_ms),
        remove_time=None if remove_ms is None else to_timestamp(remove_ms),
        etag=str(assignment.version),
    )


def from_update_request(request: assignments_pb2.UpdateAssignmentRequest) -> AssignmentChanges:
    """Read what to change; an absent `expire_time` that the mask names means without end."""
    message = request.assignment
    fields = changed_fields(
        message,
        "assignment",
        request.update_mask,
        ("priority", "expire_time"),
        lambda name: is_output_only(_FIELDS[name]),
    )
    ends = message.HasField("expire_time")
    return AssignmentChanges(
        fields=fields,
        priority=message.priority,
        expire_ms=from_timestamp(message.expire_time, "assignment.expire_time") if ends else None,
        etag=message.etag,
    )


def from_list_request(request: assignments_pb2.ListAssignmentsRequest) -> AssignmentFilter:
    """Read which assignments to list."""
    return AssignmentFilter(request.endpoint_id, request.account_id, request.include_removed)
