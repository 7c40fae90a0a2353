"""SIMs: contract and domain."""

from meterline.endpoints.v1 import sims_pb2
from services.common.identity import Principal
from services.endpoints.convert.times import to_timestamp
from services.endpoints.domain.sims import Sim, SimStatus
from services.endpoints.ports import SimFilter
from services.endpoints.usecases.sims import NewSim


def to_proto(sim: Sim, caller: Principal) -> sims_pb2.Sim:
    """Write a SIM; who imported it is shown to the importer and to those above it."""
    return sims_pb2.Sim(
        id=sim.id,
        iccid=sim.iccid,
        imsi=sim.imsi,
        msisdn=sim.msisdn,
        esim=sim.esim,
        account_id=sim.account_id,
        importer_account_id=sim.importer_account_id if caller.sees(sim.importer_path) else "",
        endpoint_id=sim.endpoint_id,
        status=sims_pb2.SimStatus.ValueType(sim.status),
        create_time=to_timestamp(sim.create_ms),
        update_time=to_timestamp(sim.update_ms),
    )


def from_proto(message: sims_pb2.Sim) -> NewSim:
    """Read a SIM to import."""
    return NewSim(message.iccid, message.imsi, message.msisdn, message.esim)


def from_list_request(request: sims_pb2.ListSimsRequest) -> SimFilter:
    """Read which SIMs to list."""
    return SimFilter(
        account_id=request.account_id,
        iccid=request.iccid,
        imsi=request.imsi,
        msisdn=request.msisdn,
        status=SimStatus(request.status) if request.status else None,
    )
