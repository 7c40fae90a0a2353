"""The other service that accounts asks: catalog, which makes and knows the DEFAULT elements of an enterprise."""

import asyncio
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from meterline.catalog.v1 import charging_catalog_pb2, charging_catalog_pb2_grpc
from services.accounts.domain.accounts import Account
from services.accounts.ports import Defaults
from services.common.errors import DeadlineExceededError, UnavailableError
from services.runtime.channels import Channel

M = TypeVar("M", bound=Message)

DEADLINE_SECONDS = 5.0
"""Longest that a write, which holds a database transaction open, waits for catalog."""


class CatalogClient:
    """Asks catalog; satisfies the port `Catalog`."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._stub = charging_catalog_pb2_grpc.ChargingCatalogServiceStub(channel.grpc)

    async def require_reachable(self) -> None:
        """Raise UNAVAILABLE while there is no connection: to be asked before a transaction is opened."""
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                await self._channel.grpc.channel_ready()
        except TimeoutError as error:
            raise _away() from error

    async def provision_defaults(self, account: Account) -> Defaults:
        """Create the DEFAULT elements of a new enterprise; a repeat changes nothing."""
        request = charging_catalog_pb2.ProvisionDefaultsRequest(
            account_id=account.id, account_path=account.path, currency=account.currency
        )
        made = await self._call(self._stub.ProvisionDefaults, request)
        return Defaults(made.service_profile_id, made.roaming_profile_id, made.apn_group_id, made.prepaid_plan_id)

    async def defaults(self, account_id: str) -> Defaults:
        """Return which defaults an enterprise has."""
        found = await self._call(self._stub.GetDefaults, charging_catalog_pb2.GetDefaultsRequest(account_id=account_id))
        return Defaults(found.service_profile_id, found.roaming_profile_id, found.apn_group_id, found.plan_id)

    async def _call(self, method: "grpc.aio.UnaryUnaryMultiCallable[Any, M]", request: Message) -> M:
        try:
            return await self._channel.call(method, request, timeout=DEADLINE_SECONDS)
        except (DeadlineExceededError, UnavailableError) as error:
            raise _away() from error


def _away() -> UnavailableError:
    return UnavailableError(
        "CATALOG_UNAVAILABLE",
        "The catalogue does not answer, and without it nothing was changed; try again.",
        retry_after_ms=1000,
    )
