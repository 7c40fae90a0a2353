"""NetworkService."""

from meterline.catalog.v1 import networks_pb2 as pb
from meterline.catalog.v1 import networks_pb2_grpc
from services.catalog.api.desk import Desk
from services.catalog.convert import networks as convert
from services.catalog.ports import NetworkSearch
from services.catalog.usecases import coverage, networks
from services.common.pages import page_request

# ruff: noqa: N802 - the names of methods in the contract


class NetworkServicer(networks_pb2_grpc.NetworkServiceServicer):
    """Networks and coverage."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def ImportNetworks(self, request: pb.ImportNetworksRequest, _: object) -> pb.ImportNetworksResponse:
        """Create or update networks."""
        caller = self._desk.writer()
        wanted = [convert.network_from_proto(n, f"networks[{i}]") for i, n in enumerate(request.networks)]
        return await self._desk.write(
            request,
            pb.ImportNetworksResponse,
            lambda store, _: networks.import_networks(store, caller, wanted),
            convert.imported_to_proto,
        )

    async def GetNetwork(self, request: pb.GetNetworkRequest, _: object) -> pb.Network:
        """Return a network."""
        caller = self._desk.reader()
        async with self._desk.reading() as store:
            return convert.network_to_proto(await networks.get_network(store, caller, request.network_id))

    async def ListNetworks(self, request: pb.ListNetworksRequest, _: object) -> pb.ListNetworksResponse:
        """Return a page of networks."""
        caller = self._desk.reader()
        search = NetworkSearch(
            country_code=request.country_code.upper(),
            query=request.query,
            include_not_operational=request.include_not_operational,
        )
        page = page_request(request.page_size, request.page_token)
        async with self._desk.reading() as store:
            found = await networks.search_networks(store, caller, search, page)
        return pb.ListNetworksResponse(
            networks=[convert.network_to_proto(network) for network in found.rows],
            next_page_token=found.next_page_token,
        )

    async def AddCoverage(self, request: pb.ChangeCoverageRequest, _: object) -> pb.Coverage:
        """Add networks to an account's coverage."""
        caller = self._desk.writer()
        account = await self._desk.account(caller, request.account_id)
        wanted = convert.selection_from_proto(request)
        return await self._desk.write(
            request,
            pb.Coverage,
            lambda store, _: coverage.add_coverage(store, caller, account, wanted),
            convert.coverage_to_proto,
        )

    async def RemoveCoverage(self, request: pb.ChangeCoverageRequest, _: object) -> pb.Coverage:
        """Remove networks from an account's coverage and from all below it."""
        caller = self._desk.writer()
        account = await self._desk.account(caller, request.account_id)
        wanted = convert.selection_from_proto(request)
        return await self._desk.write(
            request,
            pb.Coverage,
            lambda store, now_ms: coverage.remove_coverage(store, caller, account, wanted, now_ms),
            convert.coverage_to_proto,
        )

    async def GetCoverage(self, request: pb.GetCoverageRequest, _: object) -> pb.Coverage:
        """Return an account's coverage."""
        account = await self._desk.account(self._desk.reader(), request.account_id)
        async with self._desk.reading() as store:
            return convert.coverage_to_proto(await coverage.get_coverage(store, account))
