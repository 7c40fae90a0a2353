"""What is used of the services that counters of plans count, as it stands."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.common.identity import BALANCE_READERS, Principal
from services.rating.domain.balances import Holder
from services.rating.domain.limits import PlanCounter, counter_id
from services.rating.domain.periods import SECOND_MS, bounds
from services.rating.usecases.balances import Balances
from services.rating.usecases.kit import Kit

HELD = "+"
"""Stands before the name of a count in the name of what grants may add to it."""


@dataclass(frozen=True, slots=True)
class Counter:
    """A counter of a plan as it stands. Times are milliseconds since 1970.

    Attributes:
        of: the counter of the plan.
        used: units used in the present billing cycle.
        reserved: units that open sessions were granted.
        started_ms: begin of the cycle.
        resets_ms: its end.
    """

    id: str
    endpoint_id: str
    account_id: str
    of: PlanCounter
    used: int
    reserved: int
    started_ms: int
    resets_ms: int


class Counters:
    """Reads counters.

    Args:
        kit: what rating works with.
        balances: finds who holds them.
    """

    def __init__(self, kit: Kit, balances: Balances) -> None:
        self._kit = kit
        self._balances = balances

    async def of_owner(self, caller: Principal, endpoint_id: str, account_id: str) -> Sequence[Counter]:
        """List the counters of the plans of an endpoint or an account; of an account in all cells."""
        caller.require_role(*BALANCE_READERS)
        owner = await self._balances.owner(caller, endpoint_id, account_id)
        holder = await self._balances.holder(owner.cell, owner.configure)
        holders = [holder, *await self._balances.elsewhere(owner)]
        started_ms, resets_ms = bounds(owner.cycle, self._kit.clock.now_ms())
        began = started_ms // SECOND_MS
        return [
            Counter(
                counter_id(owner.id, counter.key),
                owner.endpoint_id,
                owner.account_id,
                counter,
                sum(_since(holder, counter.key, began) for holder in holders),
                sum(_since(holder, HELD + counter.key, began) for holder in holders),
                started_ms,
                resets_ms,
            )
            for counter in owner.counters
        ]


def _since(holder: Holder, name: str, began: int) -> int:
    """What was counted since a moment, in seconds: counts are begins of periods, each with its number."""
    found = holder.counts.get(name, ())
    return next((count for begin, count in zip(found[::2], found[1::2], strict=True) if begin == began), 0)
