"""Laws of the life of an endpoint and of the SIMs that follow it."""

from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.common.errors import FailedPreconditionError
from services.endpoints.domain.assignments import AssignmentState, Target, assign, removed
from services.endpoints.domain.endpoints import (
    TRANSITIONS,
    Endpoint,
    EndpointState,
    Verb,
    moved,
    next_state,
    require_base,
    with_sim,
)
from services.endpoints.domain.plans import Plan, PlanType
from services.endpoints.domain.sims import Sim, SimStatus, require_free, require_usable_by

PLAN = Plan("pln_1", 1, "acc_e", PlanType.BASE)
TARGET = Target("acc_e", "acc_e", ("acc_o", "acc_e"), "ep_1")
BASE = assign(PLAN, TARGET, 0, "asg_1")
MOVES = (Verb.ACTIVATE, Verb.SUSPEND, Verb.RESUME, Verb.DEACTIVATE, Verb.DELINK_SIM, Verb.DELETE)


def endpoint(state: EndpointState = EndpointState.PRE_ACTIVE, sim_id: str = "sim_1") -> Endpoint:
    return Endpoint(
        id="ep_1",
        account_id="acc_e",
        enterprise_id="acc_e",
        owner_path=("acc_o", "acc_e"),
        name="",
        state=state,
        sim_id=sim_id,
        apn_group_id="",
        barred_services=(),
        tags=(),
        base=BASE,
        create_ms=0,
        update_ms=0,
    )


LIFE = """
PRE_ACTIVE  activate   ACTIVE
PRE_ACTIVE  deactivate DEACTIVATED
PRE_ACTIVE  delinkSim  DEACTIVATED
PRE_ACTIVE  delete     DELETED
ACTIVE      activate   ACTIVE
ACTIVE      resume     ACTIVE
ACTIVE      suspend    SUSPENDED
ACTIVE      deactivate DEACTIVATED
ACTIVE      delinkSim  DEACTIVATED
SUSPENDED   suspend    SUSPENDED
SUSPENDED   resume     ACTIVE
SUSPENDED   deactivate DEACTIVATED
SUSPENDED   delinkSim  DEACTIVATED
DEACTIVATED deactivate DEACTIVATED
DEACTIVATED delete     DELETED
"""


@pytest.mark.requirement("R099", "R100", "R101", "R102", "R114")
@pytest.mark.parametrize("state", EndpointState)
@pytest.mark.parametrize("verb", MOVES)
def test_a_verb_leads_where_the_model_says_and_nowhere_else(state, verb):
    permitted = {tuple(line.split()[:2]): line.split()[2] for line in LIFE.strip().splitlines()}
    wanted = permitted.get((state.name, verb.value))
    if wanted is None:
        with pytest.raises(FailedPreconditionError) as refused:
            moved(endpoint(state), verb, "", 1)
        assert refused.value.reason == "ENDPOINT_STATE"
        assert refused.value.metadata["permitted_verbs"] == ",".join(TRANSITIONS[state])
    else:
        assert moved(endpoint(state), verb, "", 1).state is EndpointState[wanted]


@pytest.mark.parametrize("state", EndpointState)
def test_only_link_leads_out_of_hold_and_only_a_held_sim_is_swapped(state):
    assert (Verb.LINK_SIM in TRANSITIONS[state]) == (state is EndpointState.DEACTIVATED)
    holds = state in {EndpointState.PRE_ACTIVE, EndpointState.ACTIVE, EndpointState.SUSPENDED}
    assert (Verb.SWAP_SIM in TRANSITIONS[state]) == holds
    assert not holds or next_state(endpoint(state), Verb.SWAP_SIM) is state


def test_nothing_to_do_leaves_the_endpoint_as_it_was():
    active = endpoint(EndpointState.ACTIVE)
    assert moved(active, Verb.ACTIVATE, "again", 9) is active


@pytest.mark.requirement("R070")
def test_an_endpoint_without_a_base_plan_is_not_activated():
    with pytest.raises(FailedPreconditionError, match="NO_BASE_PLAN"):
        moved(replace(endpoint(), base=None), Verb.ACTIVATE, "", 1)
    with pytest.raises(FailedPreconditionError, match="NO_BASE_PLAN"):
        require_base(replace(endpoint(), base=None))


class Life(RuleBasedStateMachine):
    """Any order of verbs, refused ones too."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = 0
        self.endpoint = endpoint(EndpointState.DEACTIVATED, sim_id="")

    @rule(verb=st.sampled_from(MOVES), reason=st.text(max_size=3))
    def move(self, verb: Verb, reason: str) -> None:
        self.now_ms += 1
        before = self.endpoint
        try:
            self.endpoint = moved(before, verb, reason, self.now_ms)
        except FailedPreconditionError:
            assert verb not in TRANSITIONS[before.state]
        else:
            assert verb in TRANSITIONS[before.state]
            assert self.endpoint is before or self.endpoint.version == before.version + 1

    @rule(verb=st.sampled_from((Verb.LINK_SIM, Verb.SWAP_SIM)), sim_id=st.sampled_from(("sim_1", "sim_2")))
    def link(self, verb: Verb, sim_id: str) -> None:
        self.now_ms += 1
        try:
            self.endpoint = with_sim(self.endpoint, verb, sim_id, self.now_ms)
        except FailedPreconditionError:
            assert verb not in TRANSITIONS[self.endpoint.state]

    @invariant()
    def has_a_sim_unless_it_is_inactive(self) -> None:
        inactive = self.endpoint.state in {EndpointState.DEACTIVATED, EndpointState.DELETED}
        assert bool(self.endpoint.sim_id) != inactive

    @invariant()
    def keeps_its_id(self) -> None:
        assert (self.endpoint.id, self.endpoint.account_id) == ("ep_1", "acc_e")


TestLife = Life.TestCase


def sim(**fields: object) -> Sim:
    made = Sim("sim_1", "", "", "", False, "acc_e", "acc_e", ("acc_o", "acc_e"), "acc_o", 0, 0)  # noqa: FBT003
    return replace(made, **fields)  # type: ignore[arg-type]


@pytest.mark.requirement("R103")
@pytest.mark.parametrize(
    ("state", "status"),
    [
        (None, SimStatus.AVAILABLE),
        (EndpointState.PRE_ACTIVE, SimStatus.PRE_ACTIVE),
        (EndpointState.ACTIVE, SimStatus.ACTIVE),
        (EndpointState.SUSPENDED, SimStatus.SUSPENDED),
    ],
)
def test_what_a_sim_does_follows_from_its_endpoint(state, status):
    assert sim(endpoint_state=state).status is status


@pytest.mark.requirement("R269")
def test_a_sim_serves_one_endpoint_of_the_enterprise_that_it_is_assigned_to():
    require_usable_by(sim(), "acc_e")
    with pytest.raises(FailedPreconditionError, match="SIM_NOT_ASSIGNED"):
        require_usable_by(sim(enterprise_id=""), "acc_e")
    with pytest.raises(FailedPreconditionError, match="SIM_NOT_ASSIGNED"):
        require_usable_by(sim(), "acc_other")
    with pytest.raises(FailedPreconditionError, match="SIM_LINKED"):
        require_free(sim(endpoint_id="ep_9"))


@given(now=st.integers(0, 2**45))
def test_what_was_removed_stays_as_it_was(now):
    ended = removed(BASE, now)
    assert (ended.state, ended.remove_ms, ended.version) == (AssignmentState.REMOVED, now, 2)
    assert removed(ended, now + 1) is ended
