"""Endpoints and their lifecycle [001]."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum

from services.common.errors import FailedPreconditionError
from services.endpoints.domain.assignments import Assignment, Target


class EndpointState(IntEnum):
    """Where an endpoint is in its life; numbers as in the contract."""

    PRE_ACTIVE = 1
    ACTIVE = 2
    SUSPENDED = 3
    DEACTIVATED = 4
    DELETED = 5


class Verb(StrEnum):
    """What can be done to an endpoint; named as in the HTTP paths."""

    ACTIVATE = "activate"
    SUSPEND = "suspend"
    RESUME = "resume"
    DEACTIVATE = "deactivate"
    LINK_SIM = "linkSim"
    DELINK_SIM = "delinkSim"
    SWAP_SIM = "swapSim"
    CHANGE_PLAN = "changePlan"
    ASSIGN_ADDON = "assignAddon"
    UPDATE = "update"
    DELETE = "delete"


_S, _V = EndpointState, Verb

_ANY_STATE = (_V.UPDATE, _V.CHANGE_PLAN, _V.ASSIGN_ADDON)

TRANSITIONS: Mapping[EndpointState, Mapping[Verb, EndpointState]] = {
    _S.PRE_ACTIVE: {
        _V.ACTIVATE: _S.ACTIVE,
        _V.DEACTIVATE: _S.DEACTIVATED,
        _V.DELINK_SIM: _S.DEACTIVATED,
        _V.SWAP_SIM: _S.PRE_ACTIVE,
        _V.DELETE: _S.DELETED,
        **dict.fromkeys(_ANY_STATE, _S.PRE_ACTIVE),
    },
    _S.ACTIVE: {
        _V.ACTIVATE: _S.ACTIVE,
        _V.SUSPEND: _S.SUSPENDED,
        _V.RESUME: _S.ACTIVE,
        _V.DEACTIVATE: _S.DEACTIVATED,
        _V.DELINK_SIM: _S.DEACTIVATED,
        _V.SWAP_SIM: _S.ACTIVE,
        **dict.fromkeys(_ANY_STATE, _S.ACTIVE),
    },
    _S.SUSPENDED: {
        _V.SUSPEND: _S.SUSPENDED,
        _V.RESUME: _S.ACTIVE,
        _V.DEACTIVATE: _S.DEACTIVATED,
        _V.DELINK_SIM: _S.DEACTIVATED,
        _V.SWAP_SIM: _S.SUSPENDED,
        **dict.fromkeys(_ANY_STATE, _S.SUSPENDED),
    },
    _S.DEACTIVATED: {
        _V.DEACTIVATE: _S.DEACTIVATED,
        _V.LINK_SIM: _S.PRE_ACTIVE,
        _V.DELETE: _S.DELETED,
        **dict.fromkeys(_ANY_STATE, _S.DEACTIVATED),
    },
    _S.DELETED: {},
}
"""Which verb leads where; what is not here is refused. A verb that leads back to its state is a success."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A connectivity instance.

    Attributes:
        id: `ep_...`; the same for ever, over SIM swaps too.
        account_id: the ENTERPRISE or SUB_ACCOUNT that owns it.
        enterprise_id: the enterprise it belongs to.
        owner_path: path of its owner, from the OPERATOR down.
        name: name.
        state: moved by verbs.
        sim_id: the linked SIM; empty without.
        apn_group_id: APN group; empty without.
        barred_services: numbers of the services barred for it.
        tags: tags.
        base: the active base plan's assignment.
        create_ms: when it was created, milliseconds since 1970.
        update_ms: when it last changed.
        version: counts its changes, from 1.
        reason: why its state was last moved, as the caller put it.
    """

    id: str
    account_id: str
    enterprise_id: str
    owner_path: tuple[str, ...]
    name: str
    state: EndpointState
    sim_id: str
    apn_group_id: str
    barred_services: tuple[int, ...]
    tags: tuple[str, ...]
    base: Assignment | None
    create_ms: int
    update_ms: int
    version: int = 1
    reason: str = ""

    @property
    def target(self) -> Target:
        """The endpoint as the target of an assignment."""
        return Target(self.enterprise_id, self.enterprise_id, self.owner_path, self.id)


def next_state(endpoint: Endpoint, verb: Verb) -> EndpointState:
    """Return where a verb leads, or raise FAILED_PRECONDITION ENDPOINT_STATE with the permitted verbs."""
    permitted = TRANSITIONS[endpoint.state]
    if verb in permitted:
        return permitted[verb]
    verbs = ", ".join(permitted) or "none"
    raise FailedPreconditionError(
        "ENDPOINT_STATE",
        f"Endpoint {endpoint.id} is {endpoint.state.name}, in which {verb} is not possible. Permitted verbs: {verbs}.",
        metadata={"state": endpoint.state.name, "verb": verb, "permitted_verbs": ",".join(permitted)},
        resource=("endpoint", endpoint.id),
    )


def moved(endpoint: Endpoint, verb: Verb, reason: str, now_ms: int) -> Endpoint:
    """Do a verb that moves the state; the same endpoint if it is there already.

    Raises:
        FailedPreconditionError: ENDPOINT_STATE; NO_BASE_PLAN, for activation without one.
    """
    state = next_state(endpoint, verb)
    if state is endpoint.state:
        return endpoint
    if state is EndpointState.ACTIVE:
        require_base(endpoint)
    freed = state in {EndpointState.DEACTIVATED, EndpointState.DELETED}
    sim_id = "" if freed else endpoint.sim_id
    return touched(replace(endpoint, state=state, sim_id=sim_id, reason=reason), now_ms)


def with_sim(endpoint: Endpoint, verb: Verb, sim_id: str, now_ms: int) -> Endpoint:
    """Link or swap the SIM; id and plans stay (R098)."""
    return touched(replace(endpoint, state=next_state(endpoint, verb), sim_id=sim_id), now_ms)


def touched(endpoint: Endpoint, now_ms: int) -> Endpoint:
    """Count a change."""
    return replace(endpoint, update_ms=now_ms, version=endpoint.version + 1)


def require_base(endpoint: Endpoint) -> None:
    """Raise FAILED_PRECONDITION unless the endpoint has a base plan (R070)."""
    if endpoint.base is None:
        raise no_base_plan("endpoint", endpoint.id)


def no_base_plan(kind: str, object_id: str) -> FailedPreconditionError:
    """The error for what needs a base plan first."""
    return FailedPreconditionError(
        "NO_BASE_PLAN",
        f"The {kind} {object_id or 'to be created'} has no base plan. Assign a base plan first.",
        resource=(kind, object_id),
    )
