"""BalanceService."""
# ruff: noqa: N802 - methods are named as in the contract

from typing import Any

from meterline.rating.v1 import balances_pb2, balances_pb2_grpc
from services.common.pages import page_request
from services.rating.convert.balances import balance_to_proto, entry_to_proto, money_from_proto, validity_from_proto
from services.rating.usecases.balances import Balances
from services.rating.usecases.books import Books
from services.rating.usecases.refills import Refills
from services.runtime.server import current_call


class BalanceServicer(balances_pb2_grpc.BalanceServiceServicer):
    """Reads and tops up balances."""

    def __init__(self, balances: Balances, refills: Refills, books: Books) -> None:
        self._balances = balances
        self._refills = refills
        self._books = books

    async def ListBalances(
        self, request: balances_pb2.ListBalancesRequest, _: Any
    ) -> balances_pb2.ListBalancesResponse:
        """List balances in the order of consumption."""
        found = await self._balances.of_owner(current_call().caller, request.endpoint_id, request.account_id)
        return balances_pb2.ListBalancesResponse(balances=[balance_to_proto(balance) for balance in found])

    async def GetBalance(self, request: balances_pb2.GetBalanceRequest, _: Any) -> balances_pb2.Balance:
        """Return a balance."""
        return balance_to_proto(await self._balances.get(current_call().caller, request.balance_id))

    async def TopUpBalance(self, request: balances_pb2.TopUpBalanceRequest, _: Any) -> balances_pb2.Balance:
        """Add money."""
        amount = money_from_proto("amount", request.amount)
        balance = await self._balances.top_up(
            current_call().caller, request.endpoint_id, request.account_id, amount, request.request_id
        )
        return balance_to_proto(balance)

    async def RefillBalance(self, request: balances_pb2.RefillBalanceRequest, _: Any) -> balances_pb2.Balance:
        """Add volume and extend its validity."""
        balance = await self._refills.refill(
            current_call().caller,
            request.balance_id,
            request.quantity,
            validity_from_proto(request),
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
