"""SimService."""
# ruff: noqa: N802 - methods are named as in the contract

from collections.abc import Sequence

from meterline.endpoints.v1 import sims_pb2, sims_pb2_grpc
from services.common.pages import page_request
from services.endpoints.api.desk import Desk
from services.endpoints.convert import sims as convert
from services.endpoints.domain.sims import Sim
from services.endpoints.usecases import sims
from services.runtime.server import current_call


class SimServicer(sims_pb2_grpc.SimServiceServicer):
    """Keeps SIMs."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def ImportSims(self, request: sims_pb2.ImportSimsRequest, _: object) -> sims_pb2.ImportSimsResponse:
        """Take SIMs into the inventory."""
        new = [convert.from_proto(message) for message in request.sims]
        caller = current_call().caller

        def answer(imported: Sequence[Sim]) -> sims_pb2.ImportSimsResponse:
            return sims_pb2.ImportSimsResponse(sims=[convert.to_proto(sim, caller) for sim in imported])

        return await self._desk.write(
            request,
            sims_pb2.ImportSimsResponse,
            lambda store, _, now_ms: sims.import_sims(
                store, self._desk.accounts, caller, new, request.account_id, now_ms
            ),
            answer,
        )

    async def AssignSims(self, request: sims_pb2.AssignSimsRequest, _: object) -> sims_pb2.AssignSimsResponse:
        """Hand SIMs to another account."""
        caller = current_call().caller

        def answer(assigned: Sequence[Sim]) -> sims_pb2.AssignSimsResponse:
            return sims_pb2.AssignSimsResponse(sims=[convert.to_proto(sim, caller) for sim in assigned])

        return await self._desk.write(
            request,
            sims_pb2.AssignSimsResponse,
            lambda store, _, now_ms: sims.assign_sims(
                store, self._desk.accounts, caller, request.sim_ids, request.account_id, now_ms
            ),
            answer,
        )

    async def GetSim(self, request: sims_pb2.GetSimRequest, _: object) -> sims_pb2.Sim:
        """Return a SIM."""
        caller = current_call().caller
        async with self._desk.reading() as store:
            return convert.to_proto(await sims.get_sim(store, caller, request.sim_id), caller)

    async def ListSims(self, request: sims_pb2.ListSimsRequest, _: object) -> sims_pb2.ListSimsResponse:
        """Return a page of SIMs."""
        wanted, page = convert.from_list_request(request), page_request(request.page_size, request.page_token)
        caller = current_call().caller
        async with self._desk.reading() as store:
            found = await sims.list_sims(store, caller, wanted, page)
        return sims_pb2.ListSimsResponse(
            sims=[convert.to_proto(sim, caller) for sim in found.rows], next_page_token=found.next_page_token
        )
