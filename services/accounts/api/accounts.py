"""AccountService."""
# ruff: noqa: N802 - methods are named as in the contract

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from meterline.accounts.v1 import accounts_pb2
from services.accounts.api.desk import Desk
from services.accounts.convert.accounts import (
    account_changes,
    account_to_proto,
    filter_from_proto,
    wanted_from_proto,
)
from services.accounts.domain.accounts import Account
from services.accounts.ports import Catalog, Store
from services.accounts.usecases import accounts, creation, readiness, states
from services.common.identity import Principal
from services.common.pages import page_request
from services.runtime.changes import Change, ChangeFeed
from services.runtime.server import current_call

CATALOG_WRITES_MAX = 2
"""Writes that wait for the catalogue at a time: one that hangs leaves database connections for all other calls."""


class AccountServicer:
    """Keeps the account tree."""

    def __init__(self, desk: Desk, catalog: Catalog, feed: ChangeFeed) -> None:
        self._desk = desk
        self._catalog = catalog
        self._feed = feed
        self._catalog_writes = asyncio.Semaphore(CATALOG_WRITES_MAX)

    async def CreateAccount(self, request: accounts_pb2.CreateAccountRequest, _: object) -> accounts_pb2.Account:
        """Create an account below another one."""
        wanted = wanted_from_proto(request)
        if not creation.needs_catalog(wanted):
            return await self._create(request, wanted)
        await self._catalog.require_reachable()
        async with self._catalog_writes:
            return await self._create(request, wanted)

    async def _create(
        self, request: accounts_pb2.CreateAccountRequest, wanted: creation.Wanted
    ) -> accounts_pb2.Account:
        return await self._desk.write(
            request,
            accounts_pb2.Account,
            lambda store, caller, now_ms: creation.create_account(store, self._catalog, caller, wanted, now_ms),
            account_to_proto,
        )

    async def GetAccount(self, request: accounts_pb2.GetAccountRequest, _: object) -> accounts_pb2.Account:
        """Return an account."""
        account = await self._desk.read(lambda store, caller: accounts.get_account(store, caller, request.account_id))
        return account_to_proto(account, current_call().caller)

    async def ListAccounts(
        self, request: accounts_pb2.ListAccountsRequest, _: object
    ) -> accounts_pb2.ListAccountsResponse:
        """Return a page of accounts."""
        wanted, page = filter_from_proto(request), page_request(request.page_size, request.page_token)
        found = await self._desk.read(lambda store, caller: accounts.list_accounts(store, caller, wanted, page))
        return accounts_pb2.ListAccountsResponse(
            accounts=[account_to_proto(account, current_call().caller) for account in found.rows],
            next_page_token=found.next_page_token,
        )

    async def UpdateAccount(self, request: accounts_pb2.UpdateAccountRequest, _: object) -> accounts_pb2.Account:
        """Change an account."""
        changes = account_changes(request)
        return await self._change(
            request,
            lambda store, caller, now_ms: accounts.update_account(
                store, caller, request.account.id, changes, request.account.etag, now_ms
            ),
        )

    async def PromoteAccount(self, request: accounts_pb2.ChangeAccountStateRequest, _: object) -> accounts_pb2.Account:
        """DRAFT or NEW to LEAD."""
        return await self._change(
            request,
            lambda store, caller, now_ms: states.promote_account(
                store, caller, request.account_id, request.reason, now_ms
            ),
        )

    async def ActivateAccount(self, request: accounts_pb2.ChangeAccountStateRequest, _: object) -> accounts_pb2.Account:
        """LEAD to ACTIVE."""
        account = await self._desk.read(lambda store, caller: accounts.get_account(store, caller, request.account_id))
        missing = await readiness.missing_of(self._catalog, account)
        return await self._change(
            request,
            lambda store, caller, now_ms: states.activate_account(
                store, caller, request.account_id, missing, request.reason, now_ms
            ),
        )

    async def SuspendAccount(self, request: accounts_pb2.ChangeAccountStateRequest, _: object) -> accounts_pb2.Account:
        """ACTIVE to SUSPENDED."""
        return await self._change(
            request,
            lambda store, caller, now_ms: states.suspend_account(
                store, caller, request.account_id, request.reason, now_ms
            ),
        )

    async def ResumeAccount(self, request: accounts_pb2.ChangeAccountStateRequest, _: object) -> accounts_pb2.Account:
        """SUSPENDED to ACTIVE."""
        return await self._change(
            request,
            lambda store, caller, now_ms: states.resume_account(
                store, caller, request.account_id, request.reason, now_ms, cascade=request.cascade
            ),
        )

    async def TerminateAccount(
        self, request: accounts_pb2.ChangeAccountStateRequest, _: object
    ) -> accounts_pb2.Account:
        """Any state to TERMINATED."""
        return await self._change(
            request,
            lambda store, caller, now_ms: states.terminate_account(
                store, caller, request.account_id, request.reason, now_ms
            ),
        )

    async def _change(
        self,
        request: accounts_pb2.ChangeAccountStateRequest | accounts_pb2.UpdateAccountRequest,
        use_case: Callable[[Store, Principal, int], Awaitable[Account]],
    ) -> accounts_pb2.Account:
        return await self._desk.write(request, accounts_pb2.Account, use_case, account_to_proto, settles=True)

    async def GetAccountReadiness(
        self, request: accounts_pb2.GetAccountReadinessRequest, _: object
    ) -> accounts_pb2.AccountReadiness:
        """Say what an account still needs."""
        account = await self._desk.read(lambda store, caller: accounts.get_account(store, caller, request.account_id))
        missing = await readiness.missing_of(self._catalog, account)
        return accounts_pb2.AccountReadiness(ready=not missing, missing=missing)

    async def BatchGetAccounts(
        self, request: accounts_pb2.BatchGetAccountsRequest, _: object
    ) -> accounts_pb2.BatchGetAccountsResponse:
        """Return accounts by id, to a service."""
        found = await self._desk.read(lambda store, caller: accounts.find_accounts(store, caller, request.account_ids))
        caller = current_call().caller
        return accounts_pb2.BatchGetAccountsResponse(accounts=[account_to_proto(account, caller) for account in found])

    async def WatchAccountChanges(
        self, request: accounts_pb2.WatchAccountChangesRequest, _: object
    ) -> AsyncIterator[accounts_pb2.WatchAccountChangesResponse]:
        """Stream changes and heartbeats, to a service."""
        current_call().caller.require_service()
        async for change in self._feed.watch(request.from_cursor):
            yield await self._watched(change)

    async def _watched(self, change: Change) -> accounts_pb2.WatchAccountChangesResponse:
        response = accounts_pb2.WatchAccountChangesResponse(cursor=change.cursor)
        if change.resource_type == "api_key":
            response.api_key_id = change.resource_id
        elif change.resource_type == "account":
            wanted = [change.resource_id]
            (account,) = await self._desk.read(lambda store, caller: accounts.find_accounts(store, caller, wanted))
            response.account.CopyFrom(account_to_proto(account, current_call().caller))
        return response
