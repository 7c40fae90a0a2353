"""The catalog service, which knows the plans."""

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from meterline.catalog.v1 import charging_catalog_pb2, charging_catalog_pb2_grpc, profiles_pb2, profiles_pb2_grpc
from services.common.errors import DeadlineExceededError, UnavailableError, not_found
from services.common.identity import Principal
from services.endpoints.convert import plans
from services.endpoints.domain.plans import Plan
from services.endpoints.ports import Defaults
from services.runtime.channels import Channel

BATCH = 1000
CATALOG_SECONDS = 3.0
"""Longest that a write waits for catalog: on SQLite other writes wait with it."""

M = TypeVar("M", bound=Message)


class CatalogClient:
    """Asks catalog; satisfies the port `Catalog`."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._charging = charging_catalog_pb2_grpc.ChargingCatalogServiceStub(channel.grpc)
        self._profiles = profiles_pb2_grpc.ProfileServiceStub(channel.grpc)

    async def plans(self, plan_ids: Collection[str]) -> Mapping[str, Plan]:
        """Return the newest published version of each plan that exists, or its first one where none is published."""
        found = await self._versions(plan_ids, 0)
        unpublished = [plan_id for plan_id in plan_ids if plan_id not in found]
        return found | await self._versions(unpublished, 1)

    async def plan_version(self, plan_id: str, version: int) -> Plan:
        """Return a version of a plan, or raise NOT_FOUND."""
        found = await self._versions([plan_id], version)
        if plan_id not in found:
            raise not_found("plan", plan_id)
        return found[plan_id]

    async def defaults(self, enterprise_id: str) -> Defaults:
        """Return what new endpoints of an enterprise get."""
        request = charging_catalog_pb2.GetDefaultsRequest(account_id=enterprise_id)
        response = await self._ask(self._charging.GetDefaults, request)
        return Defaults(response.plan_id, response.apn_group_id)

    async def require_apn_group(self, caller: Principal, apn_group_id: str) -> None:
        """Raise NOT_FOUND unless the caller sees the APN group."""
        request = profiles_pb2.GetApnGroupRequest(apn_group_id=apn_group_id)
        await self._ask(self._profiles.GetApnGroup, request, caller)

    async def _versions(self, plan_ids: Collection[str], version: int) -> dict[str, Plan]:
        found: dict[str, Plan] = {}
        ids = list(plan_ids)
        for start in range(0, len(ids), BATCH):
            request = charging_catalog_pb2.BatchGetPlanVersionsRequest(
                keys=[
                    charging_catalog_pb2.PlanVersionKey(plan_id=plan_id, version=version)
                    for plan_id in ids[start : start + BATCH]
                ]
            )
            response = await self._ask(self._charging.BatchGetPlanVersions, request)
            found |= plans.newest(response.plans)
        return found

    async def _ask(
        self,
        method: "grpc.aio.UnaryUnaryMultiCallable[Any, M]",
        request: Message,
        on_behalf_of: Principal | None = None,
    ) -> M:
        try:
            return await self._channel.call(method, request, on_behalf_of=on_behalf_of, timeout=CATALOG_SECONDS)
        except (DeadlineExceededError, UnavailableError) as error:
            raise UnavailableError(
                "CATALOG_UNAVAILABLE",
                "The catalogue does not answer, so nothing was changed; try again.",
                retry_after_ms=1000,
            ) from error
