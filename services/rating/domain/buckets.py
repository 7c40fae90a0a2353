"""Compiles assignments into the buckets of a payer."""

from collections.abc import Iterable

from services.common.clock import DAY_MS
from services.rating.domain.balances import BucketSpec, Renewal, RenewOn, Role
from services.rating.domain.compiling import ref_of
from services.rating.domain.cycles import CYCLES_AHEAD, boundaries
from services.rating.domain.reasons import BalanceState
from services.rating.domain.terms import AccountTerms, Assignment, Benefit, PlanTerms

CYCLE_MS = 32 * DAY_MS
"""Longer than any cycle."""
RETELL_MS = 180 * DAY_MS
"""Buckets are told of the cycles ahead at least so often; they always know of more than that."""
USUAL_SHARES = (80,)


def bucket_specs(
    plans: Iterable[tuple[Assignment, PlanTerms]], account: AccountTerms, now_ms: int, *, pool: bool = False
) -> list[BucketSpec]:
    """The buckets that assignments come with.

    Args:
        plans: the assignments with their plans.
        account: whose billing cycles those of recurring benefits are.
        now_ms: the time, milliseconds since 1970: cycles are told from before it to two years ahead.
        pool: whether endpoints share them.
    """
    return [
        _spec(assignment, plan, benefit, account, now_ms, pool=pool)
        for assignment, plan in plans
        for benefit in plan.benefits
    ]


def _spec(
    assignment: Assignment, plan: PlanTerms, benefit: Benefit, account: AccountTerms, now_ms: int, *, pool: bool
) -> BucketSpec:
    pending = plan.addon and plan.on_usage
    cycles = _cycles(assignment, benefit, account, now_ms)
    quantity = _first_quantity(assignment, benefit, account, cycles) if plan.prorated else benefit.quantity
    return BucketSpec(
        assignment_id=assignment.id,
        benefit_id=benefit.id,
        ref=ref_of(plan, benefit.id),
        priority=assignment.priority if plan.addon else 0,
        role=Role.POOL if pool else Role.ADDON if plan.addon else Role.BASE,
        quantity=quantity,
        state=BalanceState.PENDING if pending else BalanceState.ACTIVE,
        activated_ms=0 if pending else assignment.assigned_ms,
        expires_ms=cycles[0] if cycles else _first_end(assignment, plan),
        validity_ms=plan.validity_ms,
        cycles=cycles,
        unit=benefit.unit,
        renewal=_renewal(assignment, plan, benefit, quantity),
    )


def _cycles(assignment: Assignment, benefit: Benefit, account: AccountTerms, now_ms: int) -> tuple[int, ...]:
    """Boundaries at which it is filled anew, up to its end: those that rests still need, and two years ahead."""
    if not benefit.recurring:
        return ()
    after = max(assignment.assigned_ms, now_ms - (benefit.roll_over_cycles + 1) * CYCLE_MS)
    count = CYCLES_AHEAD + 2 * benefit.roll_over_cycles
    found = boundaries(after, account.billing_cycle_day, account.time_zone, count)
    if not assignment.expires_ms:
        return tuple(found)
    return (*(boundary for boundary in found if boundary < assignment.expires_ms), assignment.expires_ms)


def _first_end(assignment: Assignment, plan: PlanTerms) -> int:
    if plan.addon and plan.renew_on is RenewOn.CYCLE:
        return assignment.expires_ms
    pending = plan.addon and plan.on_usage
    ends = assignment.assigned_ms + plan.validity_ms if plan.validity_ms and not pending else 0
    return min(filter(None, (ends, assignment.expires_ms)), default=0)


def _first_quantity(assignment: Assignment, benefit: Benefit, account: AccountTerms, cycles: tuple[int, ...]) -> int:
    """What is due of the first cycle, rounded down (model, e-20): it began before the assignment."""
    if not cycles:
        return benefit.quantity
    day, time_zone = account.billing_cycle_day, account.time_zone
    end = boundaries(assignment.assigned_ms, day, time_zone, 1)[0]
    began = boundaries(end - CYCLE_MS, day, time_zone, 1)[0]
    if cycles[0] != end:  # made only later: a whole cycle
        return benefit.quantity
    return benefit.quantity * (end - assignment.assigned_ms) // (end - began)


def _renewal(assignment: Assignment, plan: PlanTerms, benefit: Benefit, quantity: int) -> Renewal | None:
    recurs = plan.addon and plan.renew_on is not RenewOn.CYCLE
    usual = plan.shares in {(), USUAL_SHARES}
    if not recurs and usual and not benefit.roll_over_cycles and quantity == benefit.quantity:
        return None
    return Renewal(
        quantity=benefit.quantity,
        on=plan.renew_on if recurs else RenewOn.CYCLE,
        most=plan.subscriptions_max if recurs else 0,
        last_end_ms=assignment.expires_ms if recurs else 0,
        cycles=benefit.roll_over_cycles if benefit.recurring else 0,
        shares=plan.shares or USUAL_SHARES,
    )
