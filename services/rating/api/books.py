"""UsageService."""
# ruff: noqa: N802 - methods are named as in the contract

from typing import Any

from meterline.rating.v1 import charges_pb2, charges_pb2_grpc
from services.common.pages import page_request
from services.rating.convert.balances import timestamp
from services.rating.convert.books import (
    charge_to_proto,
    dimensions_from_proto,
    explanation_to_proto,
    record_to_proto,
    selection_from_proto,
    summaries_to_proto,
)
from services.rating.domain.records import read_charge_id, read_usage_record_id
from services.rating.ports import Terms
from services.rating.usecases.books import Books, Selection
from services.runtime.server import current_call


class UsageServicer(charges_pb2_grpc.UsageServiceServicer):
    """Reads the books."""

    def __init__(self, books: Books, terms: Terms) -> None:
        self._books = books
        self._terms = terms

    async def ListUsageRecords(
        self, request: charges_pb2.ListUsageRecordsRequest, _: Any
    ) -> charges_pb2.ListUsageRecordsResponse:
        """List usage records."""
        page = page_request(request.page_size, request.page_token)
        found = await self._books.records(current_call().caller, selection_from_proto(request), page)
        return charges_pb2.ListUsageRecordsResponse(
            usage_records=[record_to_proto(record) for record in found.rows],
            next_page_token=found.next_page_token,
            complete_until=timestamp(found.complete_until_ms),
        )

    async def ListCharges(self, request: charges_pb2.ListChargesRequest, _: Any) -> charges_pb2.ListChargesResponse:
        """List charges."""
        selection = selection_from_proto(request)
        if request.usage_record_id:
            selection = Selection(position=read_usage_record_id(request.usage_record_id))
        page = page_request(request.page_size, request.page_token)
        found = await self._books.charges(current_call().caller, selection, request.payer_id, request.payee_id, page)
        return charges_pb2.ListChargesResponse(
            charges=[charge_to_proto(charge) for charge in found.rows],
            next_page_token=found.next_page_token,
            complete_until=timestamp(found.complete_until_ms),
        )

    async def GetCharge(self, request: charges_pb2.GetChargeRequest, _: Any) -> charges_pb2.Charge:
        """Return a charge."""
        position, step = read_charge_id(request.charge_id)
        return charge_to_proto(await self._books.charge(current_call().caller, position, step, request.charge_id))

    async def ExplainCharge(self, request: charges_pb2.GetChargeRequest, _: Any) -> charges_pb2.ChargeExplanation:
        """Explain a charge."""
        position, step = read_charge_id(request.charge_id)
        return explanation_to_proto(await self._books.explain(current_call().caller, position, step, request.charge_id))

    async def SummarizeUsage(
        self, request: charges_pb2.SummarizeUsageRequest, _: Any
    ) -> charges_pb2.SummarizeUsageResponse:
        """Sum charges."""
        caller = current_call().caller
        own = caller.account_path
        if request.account_id and request.account_id != caller.account_id:
            account, _catalog = await self._terms.account(request.account_id)
            own = account.path
        found = await self._books.summarize(
            caller,
            own,
            selection_from_proto(request),
            dimensions_from_proto(request),
            page_request(request.page_size, request.page_token),
        )
        return summaries_to_proto(found)
