"""SIMs: held by an account, linked to at most one endpoint, whose state they follow [001] [003]."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from services.common.errors import FailedPreconditionError
from services.endpoints.domain.endpoints import EndpointState


class SimStatus(IntEnum):
    """What a SIM does in the network; numbers as in the contract."""

    AVAILABLE = 1
    PRE_ACTIVE = 2
    ACTIVE = 3
    SUSPENDED = 4
    RETIRED = 5


STATUS_BY_ENDPOINT_STATE: Mapping[EndpointState, SimStatus] = {
    EndpointState.PRE_ACTIVE: SimStatus.PRE_ACTIVE,
    EndpointState.ACTIVE: SimStatus.ACTIVE,
    EndpointState.SUSPENDED: SimStatus.SUSPENDED,
}
"""SIM state follows the endpoint's (R103); endpoints in other states have no SIM."""


@dataclass(frozen=True, slots=True)
class Sim:
    """A SIM or eSIM profile.

    Attributes:
        id: `sim_...`.
        iccid: 18 to 20 digits, ITU-T E.118.
        imsi: 14 or 15 digits, ITU-T E.212.
        msisdn: 5 to 15 digits, ITU-T E.164; empty without.
        esim: whether it is an eSIM profile.
        account_id: the account that holds it.
        enterprise_id: the enterprise whose endpoints may use it; empty while it is held above.
        owner_path: path of its holder, from the OPERATOR down.
        importer_account_id: the account that imported it.
        create_ms: when it was imported, milliseconds since 1970.
        update_ms: when it, or its link, last changed.
        endpoint_id: the endpoint it is linked to; empty without.
        endpoint_state: that endpoint's state.
    """

    id: str
    iccid: str
    imsi: str
    msisdn: str
    esim: bool
    account_id: str
    enterprise_id: str
    owner_path: tuple[str, ...]
    importer_account_id: str
    create_ms: int
    update_ms: int
    endpoint_id: str = ""
    endpoint_state: EndpointState | None = None

    @property
    def status(self) -> SimStatus:
        """What it does in the network; follows its endpoint."""
        if self.endpoint_state is None:
            return SimStatus.AVAILABLE
        return STATUS_BY_ENDPOINT_STATE.get(self.endpoint_state, SimStatus.AVAILABLE)

    @property
    def importer_path(self) -> tuple[str, ...]:
        """Path of the importer, as far as it is known here: all of it while its holder is below it."""
        if self.importer_account_id in self.owner_path:
            return self.owner_path[: self.owner_path.index(self.importer_account_id) + 1]
        return (self.owner_path[0], self.importer_account_id)


def require_free(sim: Sim) -> None:
    """Raise FAILED_PRECONDITION unless the SIM is linked to no endpoint."""
    if sim.endpoint_id:
        raise FailedPreconditionError(
            "SIM_LINKED",
            f"SIM {sim.id} is linked to endpoint {sim.endpoint_id}. De-link it there first.",
            metadata={"endpoint_id": sim.endpoint_id},
            resource=("sim", sim.id),
        )


def require_usable_by(sim: Sim, enterprise_id: str) -> None:
    """Raise FAILED_PRECONDITION unless an endpoint of the enterprise may be linked to the SIM (R269)."""
    if sim.enterprise_id != enterprise_id:
        raise FailedPreconditionError(
            "SIM_NOT_ASSIGNED",
            f"SIM {sim.id} is not assigned to enterprise {enterprise_id}. Let the account that holds it assign it.",
            resource=("sim", sim.id),
        )
    require_free(sim)
