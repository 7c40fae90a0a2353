"""Networks and coverage."""

from meterline.catalog.v1 import networks_pb2
from services.catalog.convert.values import access_types_from_proto
from services.catalog.domain.coverage import Coverage, Selection
from services.catalog.domain.networks import Network
from services.catalog.usecases.networks import Imported


def network_from_proto(message: networks_pb2.Network, field: str) -> Network:
    """Read a network; `field` is its path in the request."""
    return Network(
        mcc=message.mcc,
        mnc=message.mnc,
        country_code=message.country_code,
        country_name=message.country_name,
        brand=message.brand,
        operator=message.operator,
        access_types=access_types_from_proto(message.access_types, f"{field}.access_types"),
        operational=message.operational,
    )


def network_to_proto(network: Network) -> networks_pb2.Network:
    """Write a network."""
    return networks_pb2.Network(
        id=network.id,
        mcc=network.mcc,
        mnc=network.mnc,
        country_code=network.country_code,
        country_name=network.country_name,
        brand=network.brand,
        operator=network.operator,
        access_types=[kind.value for kind in network.access_types],  # type: ignore[misc]
        operational=network.operational,
    )


def imported_to_proto(imported: Imported) -> networks_pb2.ImportNetworksResponse:
    """Write what an import did."""
    return networks_pb2.ImportNetworksResponse(
        created_count=imported.created, updated_count=imported.updated, unchanged_count=imported.unchanged
    )


def selection_from_proto(request: networks_pb2.ChangeCoverageRequest) -> Selection:
    """Read which networks a change of coverage names."""
    return Selection(tuple(request.network_ids), tuple(request.country_codes), request.all_networks)


def coverage_to_proto(coverage: Coverage) -> networks_pb2.Coverage:
    """Write a coverage."""
    return networks_pb2.Coverage(account_id=coverage.account_id, network_ids=coverage.network_ids)
