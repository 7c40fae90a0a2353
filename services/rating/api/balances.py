"""BalanceService."""
# ruff: noqa: N802 - methods are named as in the contract

from typing import Any

from meterline.rating.v1 import balances_pb2, balances_pb2_grpc
from services.common.pages import page_request
from services.rating.convert.balances import (
    balance_to_proto,
    counter_to_proto,
    entry_to_proto,
    money_from_proto,
    validity_from_proto,
)
from services.rating.convert.corrections import adjustment_to_proto, transfer_to_proto
from services.rating.usecases.balances import Balances
from services.rating.usecases.books import Books
from services.rating.usecases.corrections import Corrections
from services.rating.usecases.counters import Counters
from services.rating.usecases.refills import Refills
from services.runtime.server import current_call


class BalanceServicer(balances_pb2_grpc.BalanceServiceServicer):
    """Reads, tops up and corrects balances."""

    def __init__(
        self, balances: Balances, corrections: Corrections, refills: Refills, books: Books, counters: Counters
    ) -> None:
        self._balances = balances
        self._corrections = corrections
        self._refills = refills
        self._books = books
        self._counters = counters

    async def ListBalances(
        self, request: balances_pb2.ListBalancesRequest, _: Any
    ) -> balances_pb2.ListBalancesResponse:
        """List balances in the order of consumption."""
        found = await self._balances.of_owner(current_call().caller, request.endpoint_id, request.account_id)
        return balances_pb2.ListBalancesResponse(balances=[balance_to_proto(balance) for balance in found])

    async def ListCounters(
        self, request: balances_pb2.ListCountersRequest, _: Any
    ) -> balances_pb2.ListCountersResponse:
        """List counters."""
        found = await self._counters.of_owner(current_call().caller, request.endpoint_id, request.account_id)
        return balances_pb2.ListCountersResponse(counters=[counter_to_proto(counter) for counter in found])

    async def GetBalance(self, request: balances_pb2.GetBalanceRequest, _: Any) -> balances_pb2.Balance:
        """Return a balance."""
        return balance_to_proto(await self._balances.get(current_call().caller, request.balance_id))

    async def TopUpBalance(self, request: balances_pb2.TopUpBalanceRequest, _: Any) -> balances_pb2.Balance:
        """Add money."""
        amount = money_from_proto("amount", request.amount)
        balance = await self._balances.top_up(
            current_call().caller,
            request.endpoint_id,
            request.account_id,
            amount,
            request.request_id,
            dry_run=request.validate_only,
        )
        return balance_to_proto(balance)

    async def AdjustBalance(self, request: balances_pb2.AdjustBalanceRequest, _: Any) -> balances_pb2.BalanceAdjustment:
        """Change a balance by hand."""
        made = await self._corrections.adjust(
            current_call().caller,
            request.balance_id,
            request.change,
            credit_used=request.target == balances_pb2.ADJUSTMENT_TARGET_CREDIT_USED,
            reason=request.reason,
            request_id=request.request_id,
            dry_run=request.validate_only,
        )
        return adjustment_to_proto(made)

    async def TransferBalance(
        self, request: balances_pb2.TransferBalanceRequest, _: Any
    ) -> balances_pb2.BalanceTransfer:
        """Move money."""
        giver, taker = getattr(request, "from"), request.to
        made = await self._corrections.transfer(
            current_call().caller,
            (giver.endpoint_id, giver.account_id),
            (taker.endpoint_id, taker.account_id),
            money_from_proto("amount", request.amount),
            reason=request.reason,
            request_id=request.request_id,
            dry_run=request.validate_only,
        )
        return transfer_to_proto(made)

    async def RefillBalance(self, request: balances_pb2.RefillBalanceRequest, _: Any) -> balances_pb2.Balance:
        """Add volume and extend its validity."""
        balance = await self._refills.refill(
            current_call().caller,
            request.balance_id,
            request.quantity,
            validity_from_proto("validity", request),
            request.maximum,
            request.request_id,
        )
        return balance_to_proto(balance)

    async def ListLedgerEntries(
        self, request: balances_pb2.ListLedgerEntriesRequest, _: Any
    ) -> balances_pb2.ListLedgerEntriesResponse:
        """List movements, newest first."""
        balance = await self._balances.get(current_call().caller, request.balance_id)
        found = await self._books.entries(balance.id, page_request(request.page_size, request.page_token))
        return balances_pb2.ListLedgerEntriesResponse(
            ledger_entries=[entry_to_proto(row) for row in found.rows], next_page_token=found.next_page_token
        )
