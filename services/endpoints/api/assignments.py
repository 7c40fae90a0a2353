"""AssignmentService."""
# ruff: noqa: N802 - methods are named as in the contract

from meterline.endpoints.v1 import assignments_pb2, assignments_pb2_grpc
from services.common.pages import page_request
from services.endpoints.api.desk import Desk
from services.endpoints.convert import assignments as convert
from services.endpoints.usecases import assignments
from services.runtime.masks import updated_id
from services.runtime.server import current_call


class AssignmentServicer(assignments_pb2_grpc.AssignmentServiceServicer):
    """Keeps assignments.

    Args:
        desk: what its methods work with.
        reseller_addons: whether resellers can have add-ons.
    """

    def __init__(self, desk: Desk, *, reseller_addons: bool = True) -> None:
        self._desk = desk
        self._reseller_addons = reseller_addons

    async def AssignEndpointAddon(
        self, request: assignments_pb2.AssignEndpointAddonRequest, _: object
    ) -> assignments_pb2.PlanAssignment:
        """Give an endpoint an add-on."""
        desk = self._desk
        return await desk.write(
            request,
            assignments_pb2.PlanAssignment,
            lambda store, caller, now_ms: assignments.assign_endpoint_addon(
                store, desk.accounts, desk.catalog, caller, request.endpoint_id, request.plan_id, now_ms
            ),
            convert.to_proto,
            settles=True,
        )

    async def AssignAccountPlan(
        self, request: assignments_pb2.AssignAccountPlanRequest, _: object
    ) -> assignments_pb2.PlanAssignment:
        """Set the price of a child account, or give it an add-on."""
        desk = self._desk
        return await desk.write(
            request,
            assignments_pb2.PlanAssignment,
            lambda store, caller, now_ms: assignments.assign_account_plan(
                store,
                desk.accounts,
                desk.catalog,
                caller,
                request.account_id,
                request.plan_id,
                now_ms,
                reseller_addons=self._reseller_addons,
            ),
            convert.to_proto,
            settles=True,
        )

    async def GetAssignment(
        self, request: assignments_pb2.GetAssignmentRequest, _: object
    ) -> assignments_pb2.PlanAssignment:
        """Return an assignment."""
        async with self._desk.reading() as store:
            found = await assignments.get_assignment(store, current_call().caller, request.assignment_id)
        return convert.to_proto(found)

    async def ListAssignments(
        self, request: assignments_pb2.ListAssignmentsRequest, _: object
    ) -> assignments_pb2.ListAssignmentsResponse:
        """Return a page of assignments."""
        wanted, page = convert.from_list_request(request), page_request(request.page_size, request.page_token)
        async with self._desk.reading() as store:
            found = await assignments.list_assignments(store, current_call().caller, wanted, page)
        return assignments_pb2.ListAssignmentsResponse(
            assignments=[convert.to_proto(one) for one in found.rows], next_page_token=found.next_page_token
        )

    async def UpdateAssignment(
        self, request: assignments_pb2.UpdateAssignmentRequest, _: object
    ) -> assignments_pb2.PlanAssignment:
        """Change priority or end of an add-on."""
        changes, assignment_id = (
            convert.from_update_request(request),
            updated_id(request.assignment.id, "assignment.id", "asg"),
        )
        return await self._desk.write(
            request,
            assignments_pb2.PlanAssignment,
            lambda store, caller, now: assignments.update_assignment(store, caller, assignment_id, changes, now),
            convert.to_proto,
            settles=True,
        )

    async def RemoveAssignment(
        self, request: assignments_pb2.RemoveAssignmentRequest, _: object
    ) -> assignments_pb2.PlanAssignment:
        """End an add-on."""
        return await self._desk.write(
            request,
            assignments_pb2.PlanAssignment,
            lambda store, caller, now_ms: assignments.remove_assignment(store, caller, request.assignment_id, now_ms),
            convert.to_proto,
            settles=True,
        )
