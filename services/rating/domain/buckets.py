"""Compiles assignments into the buckets of a payer."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

from services.common.clock import DAY_MS, HOUR_MS
from services.rating.domain.balances import BucketSpec, Renewal, RenewOn, Role, Team, pool_of_plan
from services.rating.domain.compiling import ref_of, shared_ref
from services.rating.domain.periods import ALWAYS, DAILY, WEEKLY, Clock, Window, bounds, following
from services.rating.domain.reasons import BalanceState
from services.rating.domain.tariffs import EXACT_MAX
from services.rating.domain.terms import AccountTerms, Assignment, Benefit, Every, Members, PlanKey, PlanTerms


class Pace(NamedTuple):
    """How a bucket that is filled again and again is told when.

    Attributes:
        shortest_ms: none of its cycles is shorter, and none is longer than `longest_ms`.
        late_ms: how far back it knows them, beside those for which rests live on: for use that is told late.
        ahead: how many it knows in advance, beside those for which rests live on.
    """

    shortest_ms: int
    longest_ms: int
    late_ms: int
    ahead: int


PACES = {
    Every.CYCLE: Pace(28 * DAY_MS, 32 * DAY_MS, 0, 24),
    Every.DAY: Pace(23 * HOUR_MS, 25 * HOUR_MS, 10 * DAY_MS, 8),
    Every.WEEK: Pace(6 * DAY_MS, 8 * DAY_MS, 10 * DAY_MS, 8),
}
RETELL_MS = 180 * DAY_MS
"""Buckets are told of the cycles ahead at least so often; they always know of more than that."""
USUAL_SHARES = (80,)
OCCURRENCES_MAX = 2**31 - 1
"""Subscriptions of an add-on that is subscribed anew without end: as many as the contract counts."""
FORMER_ENDS = 2
"""Of how many ends a bucket knows what was left then."""
PLAN_POOL_PRIORITY = 1_000_001
"""What endpoints share by their base plan comes after what their enterprise's add-ons let them share."""


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


def told_until(specs: Iterable[BucketSpec], now_ms: int) -> int:
    """Until when buckets know enough of the boundaries ahead.

    Then two are left, beside those for which rests live on.
    """
    until_ms = now_ms + RETELL_MS
    for spec in specs:
        ahead = [boundary for boundary in spec.cycles if boundary > now_ms]
        rolls = spec.renewal.cycles if spec.renewal else 0
        if ahead:
            until_ms = min(until_ms, ahead[max(0, len(ahead) - rolls - 3)])
    return until_ms


def pool_specs(account: AccountTerms, plans: Mapping[PlanKey, PlanTerms], now_ms: int) -> list[BucketSpec]:
    """The buckets that endpoints of an enterprise share by their base plan, whichever version of it they have.

    Each is as the newest of those versions that has it says. That of a dynamic pool holds what its members bring, each
    by its own version; who joins in a cycle that is prorated brings the share of it that is left. One rounding, down.

    Args:
        account: the enterprise.
        plans: versions of plans.
        now_ms: the time, milliseconds since 1970.
    """
    known = [(members, plans[members.plan]) for members in account.members if members.plan in plans]
    known.sort(key=lambda each: each[0].plan)
    return [
        spec
        for _, versions in groupby(known, lambda each: each[0].plan[0])
        for spec in _pool(account, list(versions), now_ms)
    ]


def _pool(account: AccountTerms, versions: Sequence[tuple[Members, PlanTerms]], now_ms: int) -> Iterator[BucketSpec]:
    since_ms = min(members.since_ms for members, _ in versions)
    newest = {benefit.id: (plan, benefit) for _, plan in versions for benefit in plan.benefits}
    for plan, benefit in newest.values():
        stands = Assignment(pool_of_plan(account.id, plan.key[0]), plan.key, PLAN_POOL_PRIORITY, since_ms, 0)
        spec = replace(_spec(stands, plan, benefit, account, now_ms, pool=True), ref=shared_ref(plan, benefit.id))
        if not plan.grows:
            renewal = spec.renewal or _usual_renewal(benefit.quantity, plan)
            yield replace(spec, renewal=replace(renewal, team=Team.FIXED))
            continue
        brought = [
            (members, one.quantity, version.prorated)
            for members, version in versions
            for one in version.benefits
            if one.id == benefit.id
        ]
        later = min(EXACT_MAX, sum(members.count * quantity for members, quantity, _ in brought))
        renewal = replace(_usual_renewal(later, plan), team=Team.GROWS)
        if not benefit.recurring:
            yield replace(spec, quantity=later, expires_ms=0, renewal=renewal)
            continue
        cycle = bounds(account.cycle, now_ms)
        former = tuple(_former(brought, account, since_ms, cycle[0]))
        quantity = _brought_in(brought, cycle)
        yield replace(spec, quantity=quantity, expires_ms=cycle[1], renewal=renewal, former=former)


def _brought_in(brought: Sequence[tuple[Members, int, bool]], cycle: Window, joined_before_ms: int = ALWAYS[1]) -> int:
    """What members that joined before a time bring to a cycle; who joined in it, if it is prorated, what was left."""
    began_ms, ends_ms = cycle
    whole_ms = ends_ms - began_ms
    products = 0
    for members, quantity, prorated in brought:
        for joined in (one for one in members.joined if one.since_ms < joined_before_ms):
            in_part = prorated and joined.since_ms >= began_ms
            left_ms = joined.count * ends_ms - joined.sum_ms if in_part else joined.count * whole_ms
            products += quantity * max(0, left_ms)  # another clock may be in the next cycle already
    return min(EXACT_MAX, products // whole_ms)


def _former(
    brought: Sequence[tuple[Members, int, bool]], account: AccountTerms, since_ms: int, began_ms: int
) -> Iterator[tuple[int, int]]:
    """Ends of the last two cycles in which there were members, and what they brought: for use that is told late."""
    for _ in range(FORMER_ENDS):
        if since_ms >= began_ms:
            return
        cycle = bounds(account.cycle, began_ms - 1)
        yield began_ms, _brought_in(brought, cycle, began_ms)
        began_ms = cycle[0]


def _spec(
    assignment: Assignment, plan: PlanTerms, benefit: Benefit, account: AccountTerms, now_ms: int, *, pool: bool
) -> BucketSpec:
    pending = plan.addon and plan.on_usage
    cycles = _cycles(replace(assignment, assigned_ms=0) if pool else assignment, benefit, account, now_ms)
    replaced_ms = 0 if plan.addon else assignment.expires_ms
    quantity = _first_quantity(assignment, benefit, account, cycles) if plan.prorated else benefit.quantity
    return BucketSpec(
        source=assignment.id,
        benefit_id=benefit.id,
        ref=ref_of(plan, benefit.id, replaced=replaced_ms > 0),
        priority=assignment.priority if plan.addon or pool else 0,
        role=Role.POOL if pool else Role.ADDON if plan.addon else Role.BASE,
        quantity=quantity,
        state=BalanceState.PENDING if pending else BalanceState.ACTIVE,
        activated_ms=assignment.assigned_ms,
        expires_ms=_after(assignment.assigned_ms, cycles) if cycles else _first_end(assignment, plan),
        validity_ms=plan.validity_ms,
        cycles=cycles,
        unit=benefit.unit,
        renewal=_renewal(assignment, plan, benefit, quantity),
        replaced_ms=replaced_ms,
    )


def _cycles(assignment: Assignment, benefit: Benefit, account: AccountTerms, now_ms: int) -> tuple[int, ...]:
    """Boundaries at which it is filled anew, up to its end: those that rests still need, and some ahead."""
    if not benefit.recurring:
        return ()
    pace, rolls = PACES[benefit.every], benefit.roll_over_cycles
    after = max(assignment.assigned_ms, now_ms - (rolls + 1) * pace.longest_ms - pace.late_ms)
    back = max(0, now_ms - after) // pace.shortest_ms
    found = following(_clock(benefit.every, account), after, back + pace.ahead + rolls)
    if not assignment.expires_ms:
        return tuple(found)
    return (*(boundary for boundary in found if boundary < assignment.expires_ms), assignment.expires_ms)


def _clock(every: Every, account: AccountTerms) -> Clock:
    if every is Every.CYCLE:
        return account.cycle
    return Clock(DAILY if every is Every.DAY else WEEKLY, account.time_zone)


def _after(at_ms: int, cycles: Sequence[int]) -> int:
    """The first boundary after a moment; a pool knows those from before its oldest member, for what rolled over."""
    return next((boundary for boundary in cycles if boundary > at_ms), cycles[-1])


def _first_end(assignment: Assignment, plan: PlanTerms) -> int:
    if plan.addon and plan.renew_on is RenewOn.CYCLE:
        return assignment.expires_ms
    pending = plan.addon and plan.on_usage
    ends = assignment.assigned_ms + plan.validity_ms if plan.validity_ms and not pending else 0
    return min(filter(None, (ends, assignment.expires_ms)), default=0)


def _first_quantity(assignment: Assignment, benefit: Benefit, account: AccountTerms, cycles: tuple[int, ...]) -> int:
    """What is due of the first cycle, rounded down (model, e-20): it began before the assignment."""
    if not cycles or benefit.every is not Every.CYCLE:
        return benefit.quantity
    began, end = bounds(account.cycle, assignment.assigned_ms)
    if _after(assignment.assigned_ms, cycles) != end:  # made only later: a whole cycle
        return benefit.quantity
    return benefit.quantity * (end - assignment.assigned_ms) // (end - began)


def _renewal(assignment: Assignment, plan: PlanTerms, benefit: Benefit, quantity: int) -> Renewal | None:
    recurs = plan.addon and plan.renew_on is not RenewOn.CYCLE
    usual = plan.shares in {(), USUAL_SHARES}
    if not recurs and usual and not benefit.roll_over_cycles and quantity == benefit.quantity:
        return None
    renewal = _usual_renewal(benefit.quantity, plan)
    if recurs:
        most = plan.subscriptions_max or OCCURRENCES_MAX
        return replace(renewal, on=plan.renew_on, most=most, last_end_ms=assignment.expires_ms)
    rolls = benefit.roll_over_cycles if benefit.recurring else 0
    return replace(renewal, cycles=rolls, order=benefit.roll_over_order, rests_most=benefit.roll_over_maximum)


def _usual_renewal(quantity: int, plan: PlanTerms) -> Renewal:
    return Renewal(quantity, RenewOn.CYCLE, most=0, last_end_ms=0, cycles=0, shares=plan.shares or USUAL_SHARES)
