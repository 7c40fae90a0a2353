"""PlanService."""

from google.protobuf.empty_pb2 import Empty

from meterline.catalog.v1 import plans_pb2 as pb
from meterline.catalog.v1 import plans_pb2_grpc
from services.catalog.api.desk import Desk, empty
from services.catalog.convert import plans as convert
from services.catalog.convert.updates import merged
from services.catalog.convert.values import optional_enum_from_proto
from services.catalog.domain.items import Owner
from services.catalog.domain.plan_rules import service_profile_frozen
from services.catalog.domain.plans import Plan, PlanState, PlanType
from services.catalog.ports import ListFilter
from services.catalog.usecases import plans
from services.common.identity import Principal
from services.common.pages import page_request

# ruff: noqa: N802 - the names of methods in the contract


class PlanServicer(plans_pb2_grpc.PlanServiceServicer):
    """Base and add-on plans."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def _owner_of(self, caller: Principal, plan_id: str) -> Owner:
        """The account of a plan that the caller may change; asked before the transaction."""
        async with self._desk.reading() as store:
            plan = await plans.get_own_plan(store, caller, plan_id)
        return await self._desk.account(caller, plan.account_id)

    async def CreatePlan(self, request: pb.CreatePlanRequest, _: object) -> pb.Plan:
        """Create a plan as a draft."""
        owner = await self._desk.owner(self._desk.writer(), request.plan.account_id)
        draft = convert.plan_from_proto(request.plan)
        below = await plans.accounts_below(self._desk.accounts, owner, draft.designated_account_ids)
        return await self._desk.write(
            request,
            pb.Plan,
            lambda store, now_ms: plans.create_plan(store, owner, draft, below, now_ms),
            convert.plan_to_proto,
        )

    async def GetPlan(self, request: pb.GetPlanRequest, _: object) -> pb.Plan:
        """Return a version of a plan."""
        caller = self._desk.reader()
        async with self._desk.reading() as store:
            return convert.plan_to_proto(await plans.get_plan(store, caller, request.plan_id, request.version))

    async def ListPlans(self, request: pb.ListPlansRequest, _: object) -> pb.ListPlansResponse:
        """Return a page of plans."""
        caller, page = self._desk.reader(), page_request(request.page_size, request.page_token)
        which = ListFilter(
            below=caller.account_path,
            account_id=request.account_id,
            type=optional_enum_from_proto(PlanType, request.type),
            state=optional_enum_from_proto(PlanState, request.state),
            query=request.query,
        )
        async with self._desk.reading() as store:
            found = await plans.list_plans(store, caller, which, page)
        return pb.ListPlansResponse(plans=map(convert.plan_to_proto, found.rows), next_page_token=found.next_page_token)

    async def UpdatePlan(self, request: pb.UpdatePlanRequest, _: object) -> pb.Plan:
        """Change a draft, or make a new version of a published plan."""
        caller, update = self._desk.writer(), request.plan
        owner = await self._owner_of(caller, update.id)
        below = await plans.accounts_below(self._desk.accounts, owner, update.designated_account_ids)

        def change(current: Plan) -> Plan:
            frozen = {"service_profile_id": service_profile_frozen(current)}
            return convert.plan_from_proto(merged(convert.plan_to_proto(current), update, request.update_mask, frozen))

        return await self._desk.write(
            request,
            pb.Plan,
            lambda store, now_ms: plans.update_plan(
                store, caller, owner, update.id, update.etag, change, below, now_ms
            ),
            convert.plan_to_proto,
        )

    async def PublishPlan(self, request: pb.PublishPlanRequest, _: object) -> pb.Plan:
        """Publish a draft."""
        caller = self._desk.writer()
        return await self._desk.write(
            request,
            pb.Plan,
            lambda store, now_ms: plans.publish_plan(store, caller, request.plan_id, now_ms),
            convert.plan_to_proto,
        )

    async def RetirePlan(self, request: pb.RetirePlanRequest, _: object) -> pb.Plan:
        """End new assignments of a plan."""
        caller = self._desk.writer()
        return await self._desk.write(
            request,
            pb.Plan,
            lambda store, now_ms: plans.retire_plan(store, caller, request.plan_id, now_ms),
            convert.plan_to_proto,
        )

    async def ClonePlan(self, request: pb.ClonePlanRequest, _: object) -> pb.Plan:
        """Copy a plan as a draft."""
        caller = self._desk.writer()
        target = await self._owner_of(caller, request.plan_id)
        if request.account_id:
            target = await self._desk.owner(caller, request.account_id)
        return await self._desk.write(
            request,
            pb.Plan,
            lambda store, now_ms: plans.clone_plan(store, caller, request.plan_id, request.name, target, now_ms),
            convert.plan_to_proto,
        )

    async def DeletePlan(self, request: pb.DeletePlanRequest, _: object) -> Empty:
        """Delete a draft."""
        caller = self._desk.writer()
        return await self._desk.write(
            request, Empty, lambda store, _: plans.delete_plan(store, caller, request.plan_id), empty
        )
