"""Laws of assignments: what is given, when it ends, and whose plan it may be."""

from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given

from services.common.errors import FailedPreconditionError, InvalidArgumentError
from services.endpoints.domain.assignments import AssignmentState, Target, assign, changed, removed
from services.endpoints.domain.plans import Plan, PlanType

TARGET = Target("acc_e", "acc_e", ("acc_o", "acc_e"), "ep_1")

plans = st.builds(
    Plan,
    id=st.just("pln_1"),
    version=st.integers(1, 9),
    account_id=st.just("acc_e"),
    type=st.sampled_from(PlanType),
    priority=st.integers(0, 1_000_000),
    on_usage=st.booleans(),
    validity_ms=st.none() | st.integers(0, 20 * 366 * 86_400_000),
)
moments = st.integers(0, 2**42)


@pytest.mark.requirement("R077", "R078")
@given(plan=plans, now=moments)
def test_an_add_on_waits_for_its_use_or_runs_from_now_and_a_base_plan_has_no_end(plan, now):
    made = assign(plan, TARGET, now)
    assert (made.plan_id, made.plan_version, made.role) == (plan.id, plan.version, plan.type)
    waits = plan.type is PlanType.ADDON and plan.on_usage
    assert (made.state is AssignmentState.PENDING) == waits
    ends = plan.type is PlanType.ADDON and not waits and plan.validity_ms is not None
    assert made.expire_ms == (now + plan.validity_ms if ends else None)


@pytest.mark.requirement("R086", "R087", "R090")
@given(plan=plans, now=moments)
def test_two_assignments_of_one_plan_at_one_moment_have_two_ids(plan, now):
    assert assign(plan, TARGET, now).id != assign(plan, TARGET, now).id


@pytest.mark.requirement("R091")
@given(now=moments, end=st.none() | moments, priority=st.integers(0, 1_000_000))
def test_a_change_touches_what_it_names_and_never_ends_before_the_beginning(now, end, priority):
    addon = assign(Plan("pln_1", 1, "acc_e", PlanType.ADDON, priority=7), TARGET, now)
    only_priority = changed(addon, frozenset({"priority"}), priority, end, 0)
    assert (only_priority.priority, only_priority.expire_ms) == (priority, None)
    if end is not None and end < now:
        with pytest.raises(InvalidArgumentError):
            changed(addon, frozenset({"expire_time"}), priority, end, 0)
    else:
        only_end = changed(addon, frozenset({"expire_time"}), priority, end, 0)
        assert (only_end.priority, only_end.expire_ms, only_end.version) == (7, end, 2)


def test_base_plans_and_removed_add_ons_do_not_change():
    base = assign(Plan("pln_1", 1, "acc_e", PlanType.BASE), TARGET, 0)
    addon = assign(Plan("pln_1", 1, "acc_e", PlanType.ADDON), TARGET, 0)
    for assignment in (base, removed(addon, 5)):
        with pytest.raises(FailedPreconditionError):
            changed(assignment, frozenset({"priority"}), 1, None, 0)


PLAN = Plan("pln_1", 1, "acc_r", PlanType.BASE)


@pytest.mark.requirement("R262", "R283")
@pytest.mark.parametrize(
    ("owner", "designated", "family", "serves"),
    [
        ("acc_e", (), {"acc_e"}, True),
        ("acc_e", (), {"acc_s", "acc_e"}, True),
        ("acc_s", (), {"acc_s", "acc_e"}, True),
        ("acc_s", (), {"acc_e"}, False),
        ("acc_r", (), {"acc_e"}, False),
        ("acc_r", ("acc_e",), {"acc_e"}, True),
        ("acc_r", ("acc_other",), {"acc_e"}, False),
    ],
)
def test_endpoints_have_plans_of_their_enterprise_or_designated_to_it(owner, designated, family, serves):
    plan = replace(PLAN, account_id=owner, designated_account_ids=frozenset(designated))
    assert plan.serves_endpoints_of(family) is serves


@pytest.mark.requirement("R283")
@pytest.mark.parametrize(
    ("owner", "designated", "prices"),
    [
        ("acc_r", (), True),
        ("acc_r", ("acc_e",), True),
        ("acc_r", ("acc_other",), False),
        ("acc_e", (), False),
        ("acc_o", ("acc_e",), False),
    ],
)
def test_the_price_of_an_account_is_a_plan_of_its_payee(owner, designated, prices):
    plan = replace(PLAN, account_id=owner, designated_account_ids=frozenset(designated))
    assert plan.prices("acc_e", "acc_r") is prices


@pytest.mark.parametrize("state", ["DRAFT", "RETIRED"])
def test_only_published_plans_are_assigned(state):
    with pytest.raises(FailedPreconditionError, match="PLAN_NOT_PUBLISHED"):
        replace(PLAN, state=state).require_assignable()
    PLAN.require_assignable(PlanType.BASE)
    with pytest.raises(FailedPreconditionError, match="PLAN_NOT_ADDON"):
        PLAN.require_assignable(PlanType.ADDON)


@pytest.mark.parametrize(
    ("ends_ms", "moves_to", "passes"),
    [(1000, 5000, False), (1000, None, False), (1000, 1000, True), (1001, 5000, True)],
)
def test_an_add_on_that_has_ended_does_not_begin_again(ends_ms, moves_to, passes):
    addon = replace(assign(Plan("pln_1", 1, "acc_e", PlanType.ADDON), TARGET, 0), expire_ms=ends_ms)
    if passes:
        assert changed(addon, frozenset({"expire_time"}), 0, moves_to, 1000).expire_ms == moves_to
    else:
        with pytest.raises(FailedPreconditionError, match="ASSIGNMENT_ENDED"):
            changed(addon, frozenset({"expire_time"}), 0, moves_to, 1000)
    assert changed(addon, frozenset({"priority"}), 7, None, 1000).priority == 7
