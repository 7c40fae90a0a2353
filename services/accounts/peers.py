"""The other service that accounts asks: catalog, which makes and knows the DEFAULT elements of an enterprise."""

from meterline.catalog.v1 import charging_catalog_pb2, charging_catalog_pb2_grpc
from services.accounts.domain.accounts import Account
from services.accounts.ports import Defaults
from services.runtime.channels import Channel

DEADLINE_SECONDS = 5.0
"""Longest that a write, which holds a database transaction open, waits for catalog."""


class CatalogClient:
    """Asks catalog; satisfies the port `Catalog`."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._stub = charging_catalog_pb2_grpc.ChargingCatalogServiceStub(channel.grpc)

    async def provision_defaults(self, account: Account) -> None:
        """Create the DEFAULT elements of a new enterprise; a repeat changes nothing."""
        request = charging_catalog_pb2.ProvisionDefaultsRequest(
            account_id=account.id, account_path=account.path, currency=account.currency
        )
        await self._channel.call(self._stub.ProvisionDefaults, request, timeout=DEADLINE_SECONDS)

    async def defaults(self, account_id: str) -> Defaults:
        """Return which defaults an enterprise has."""
        request = charging_catalog_pb2.GetDefaultsRequest(account_id=account_id)
        found = await self._channel.call(self._stub.GetDefaults, request, timeout=DEADLINE_SECONDS)
        return Defaults(found.service_profile_id, found.roaming_profile_id, found.apn_group_id, found.plan_id)
