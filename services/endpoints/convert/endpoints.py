"""Endpoints: contract and domain."""

from meterline.endpoints.v1 import charging_context_pb2, endpoints_pb2
from meterline.type.v1 import service_pb2
from services.common.errors import invalid
from services.endpoints.convert import assignments
from services.endpoints.convert.times import to_timestamp
from services.endpoints.domain.endpoints import Endpoint, EndpointState
from services.endpoints.ports import EndpointFilter
from services.endpoints.usecases.charging import InForce
from services.endpoints.usecases.creation import NewEndpoint
from services.endpoints.usecases.endpoints import EndpointChanges
from services.runtime.limits import is_output_only
from services.runtime.masks import changed_fields

_FIELDS = endpoints_pb2.Endpoint.DESCRIPTOR.fields_by_name
_MUTABLE = frozenset({"name", "apn_group_id", "barred_services", "tags"})
_KEPT = frozenset({"account_id", "sim_id"})
"""Fields that an update may name with the value that they have."""


def to_proto(endpoint: Endpoint) -> endpoints_pb2.Endpoint:
    """Write an endpoint."""
    return endpoints_pb2.Endpoint(
        id=endpoint.id,
        account_id=endpoint.account_id,
        enterprise_id=endpoint.enterprise_id,
        name=endpoint.name,
        state=endpoints_pb2.EndpointState.ValueType(endpoint.state),
        sim_id=endpoint.sim_id,
        apn_group_id=endpoint.apn_group_id,
        barred_services=[service_pb2.Service.ValueType(number) for number in endpoint.barred_services],
        tags=endpoint.tags,
        base_assignment=None if endpoint.base is None else assignments.to_proto(endpoint.base),
        create_time=to_timestamp(endpoint.create_ms),
        update_time=to_timestamp(endpoint.update_ms),
        etag=str(endpoint.version),
    )


def from_create_request(request: endpoints_pb2.CreateEndpointRequest, at: str = "") -> NewEndpoint:
    """Read an endpoint to create; `at` is the path to the request, for messages."""
    endpoint = request.endpoint
    return NewEndpoint(
        account_id=endpoint.account_id,
        name=endpoint.name,
        sim_id=endpoint.sim_id,
        apn_group_id=endpoint.apn_group_id,
        barred_services=_services(endpoint, f"{at}endpoint"),
        tags=tuple(endpoint.tags),
        plan_id=request.plan_id,
        addon_plan_ids=tuple(request.addon_plan_ids),
        activate=request.activate,
    )


def from_update_request(request: endpoints_pb2.UpdateEndpointRequest) -> EndpointChanges:
    """Read what to change."""
    endpoint = request.endpoint
    named = changed_fields(
        endpoint, "endpoint", request.update_mask, _MUTABLE | _KEPT, lambda name: is_output_only(_FIELDS[name])
    )
    stated = {name: getattr(endpoint, name) for name in named & _KEPT}
    return EndpointChanges(
        fields=named & _MUTABLE,
        kept={name: value for name, value in stated.items() if value or name in request.update_mask.paths},
        name=endpoint.name,
        apn_group_id=endpoint.apn_group_id,
        barred_services=_services(endpoint, "endpoint"),
        tags=tuple(endpoint.tags),
        etag=endpoint.etag,
    )


def from_list_request(request: endpoints_pb2.ListEndpointsRequest) -> EndpointFilter:
    """Read which endpoints to list."""
    return EndpointFilter(
        account_id=request.account_id,
        state=EndpointState(request.state) if request.state else None,
        iccid=request.iccid,
        imsi=request.imsi,
        msisdn=request.msisdn,
        tag=request.tag,
    )


def to_context(endpoint: Endpoint, given: InForce) -> charging_context_pb2.EndpointContext:
    """Write what charging needs of an endpoint."""
    return charging_context_pb2.EndpointContext(
        endpoint_id=endpoint.id,
        account_id=endpoint.account_id,
        enterprise_id=endpoint.enterprise_id,
        state=endpoints_pb2.EndpointState.ValueType(endpoint.state),
        barred_services=[service_pb2.Service.ValueType(number) for number in endpoint.barred_services],
        base_assignment=None if given.base is None else assignments.to_proto(given.base),
        addon_assignments=[assignments.to_proto(addon) for addon in given.addons],
        version=given.version,
        former_base_assignments=[assignments.to_proto(former) for former in given.former_bases],
    )


def to_account_assignments(account_id: str, given: InForce) -> charging_context_pb2.AccountAssignments:
    """Write what is assigned to an account itself."""
    return charging_context_pb2.AccountAssignments(
        account_id=account_id,
        base_assignment=None if given.base is None else assignments.to_proto(given.base),
        addon_assignments=[assignments.to_proto(addon) for addon in given.addons],
        version=given.version,
        members=[
            charging_context_pb2.PlanMembers(
                plan_id=members.plan_id,
                plan_version=members.plan_version,
                since_ms=members.since_ms,
                joined=[
                    charging_context_pb2.MembersJoined(
                        count=joined.count, since_ms=joined.since_ms, sum_of_times_ms=joined.sum_ms
                    )
                    for joined in members.joined
                ],
            )
            for members in given.members
        ],
        former_base_assignments=[assignments.to_proto(former) for former in given.former_bases],
    )


def _services(endpoint: endpoints_pb2.Endpoint, at: str) -> tuple[int, ...]:
    numbers: tuple[int, ...] = tuple(endpoint.barred_services)
    if service_pb2.SERVICE_UNSPECIFIED in numbers:
        raise invalid(f"{at}.barred_services", "names a service that is not stated; name DATA, SMS_MO, ...")
    return numbers
