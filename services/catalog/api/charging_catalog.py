"""ChargingCatalogService."""

from collections.abc import AsyncIterator

from meterline.catalog.v1 import charging_catalog_pb2 as pb
from meterline.catalog.v1 import charging_catalog_pb2_grpc
from services.catalog.api.desk import Desk
from services.catalog.convert import charging as convert
from services.catalog.convert.networks import coverage_to_proto, network_to_proto
from services.catalog.usecases import charging, defaults
from services.runtime.changes import ChangeFeed

# ruff: noqa: N802 - the names of methods in the contract


class ChargingCatalogServicer(charging_catalog_pb2_grpc.ChargingCatalogServiceServicer):
    """Serves the other services of the installation."""

    def __init__(self, desk: Desk, feed: ChangeFeed) -> None:
        self._desk = desk
        self._feed = feed

    async def ProvisionDefaults(self, request: pb.ProvisionDefaultsRequest, _: object) -> pb.ProvisionDefaultsResponse:
        """Create the DEFAULT elements of a new enterprise."""
        self._desk.service()
        path = tuple(request.account_path)
        return await self._desk.write(
            request,
            pb.ProvisionDefaultsResponse,
            lambda store, now_ms: defaults.provision_defaults(
                store, request.account_id, path, request.currency, now_ms
            ),
            convert.provisioned_to_proto,
            settles=False,  # nobody is charged by what a new account has
        )

    async def GetDefaults(self, request: pb.GetDefaultsRequest, _: object) -> pb.GetDefaultsResponse:
        """Say which defaults an account has."""
        self._desk.service()
        async with self._desk.reading() as store:
            return convert.defaults_to_proto(await defaults.get_defaults(store, request.account_id))

    async def BatchGetPlanVersions(
        self, request: pb.BatchGetPlanVersionsRequest, _: object
    ) -> pb.BatchGetPlanVersionsResponse:
        """Return plan versions with all that they reference."""
        self._desk.service()
        keys = [(key.plan_id, key.version) for key in request.keys]
        async with self._desk.reading() as store:
            return convert.plan_versions_to_proto(await charging.batch_get_plan_versions(store, keys))

    async def BatchGetNetworks(self, request: pb.BatchGetNetworksRequest, _: object) -> pb.BatchGetNetworksResponse:
        """Return networks by id, or all."""
        self._desk.service()
        async with self._desk.reading() as store:
            wanted = request.network_ids
            found = await (store.networks.find_many(wanted) if wanted else store.networks.all())
        return pb.BatchGetNetworksResponse(networks=map(network_to_proto, found.values()))

    async def BatchGetCoverage(self, request: pb.BatchGetCoverageRequest, _: object) -> pb.BatchGetCoverageResponse:
        """Return the coverage of accounts."""
        self._desk.service()
        async with self._desk.reading() as store:
            found = await store.coverages.find_many(request.account_ids)
        return pb.BatchGetCoverageResponse(coverages=map(coverage_to_proto, found))

    async def WatchCatalogChanges(
        self, request: pb.WatchCatalogChangesRequest, _: object
    ) -> AsyncIterator[pb.WatchCatalogChangesResponse]:
        """Stream the changes after a cursor."""
        self._desk.service()
        async for change in self._feed.watch(request.from_cursor):
            yield pb.WatchCatalogChangesResponse(
                cursor=change.cursor, resource_type=change.resource_type, resource_id=change.resource_id
            )
