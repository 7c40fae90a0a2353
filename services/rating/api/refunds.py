"""RefundService."""
# ruff: noqa: N802 - methods are named as in the contract

from typing import Any

from meterline.rating.v1 import refunds_pb2, refunds_pb2_grpc
from services.common.pages import page_request
from services.rating.convert.corrections import refund_selection_from_proto, refund_to_proto, refunds_to_proto
from services.rating.domain.records import read_refund_id
from services.rating.usecases.refunds import Refunds
from services.runtime.server import current_call


class RefundServicer(refunds_pb2_grpc.RefundServiceServicer):
    """Refunds charges."""

    def __init__(self, refunds: Refunds) -> None:
        self._refunds = refunds

    async def CreateRefund(self, request: refunds_pb2.CreateRefundRequest, _: Any) -> refunds_pb2.Refund:
        """Give back what was charged."""
        refund = await self._refunds.refund(
            current_call().caller,
            request.usage_record_id,
            request.quantity,
            reason=request.reason,
            request_id=request.request_id,
            dry_run=request.validate_only,
        )
        return refund_to_proto(refund)

    async def GetRefund(self, request: refunds_pb2.GetRefundRequest, _: Any) -> refunds_pb2.Refund:
        """Return a refund."""
        position = read_refund_id(request.refund_id)
        return refund_to_proto(await self._refunds.get(current_call().caller, position, request.refund_id))

    async def ListRefunds(self, request: refunds_pb2.ListRefundsRequest, _: Any) -> refunds_pb2.ListRefundsResponse:
        """List refunds."""
        page = page_request(request.page_size, request.page_token)
        found = await self._refunds.find(current_call().caller, refund_selection_from_proto(request), page)
        return refunds_to_proto(found)
