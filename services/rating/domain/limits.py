"""Counters of base plans: what a payer uses of some services in a billing cycle, and where it has to end."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from services.rating.domain.periods import Clock, place_of
from services.rating.domain.terms import AccountTerms, CounterTerms, PlanTerms

COUNTED_USE = "use:"
"""Stands in the name of a count in its holder before the plan and the counter."""


@dataclass(frozen=True, slots=True)
class PlanCounter:
    """A counter of a plan; the versions of the plan count on, while it counts in the same unit."""

    plan_id: str
    terms: CounterTerms

    @property
    def key(self) -> str:
        """Name of the count in its holder."""
        return f"{COUNTED_USE}{self.plan_id.partition('_')[2]}:{int(self.terms.unit)}:{self.terms.name}"


@dataclass(frozen=True, slots=True)
class UsageLimit:
    """What a step counts whatever pays for it, and how far it lets use go.

    Attributes:
        counter: name of the count in its holder.
        owner: holder of the count, empty for the endpoint.
        period: place of the billing cycle among the clocks of the program.
        limit: most that may be used in a cycle; 0 is without bound.
    """

    counter: str
    owner: str
    period: int
    limit: int

    def wire(self) -> list[object]:
        """As the Function reads it."""
        return [self.counter, self.owner, self.period, self.limit]


def plan_counters(base: PlanTerms | None) -> list[PlanCounter]:
    """The counters of a base plan."""
    return [PlanCounter(base.key[0], counter) for counter in base.counters] if base is not None else []


def usage_limits(
    counters: Sequence[PlanCounter], service: int, owner: str, account: AccountTerms, clocks: list[Clock]
) -> tuple[UsageLimit, ...]:
    """What is counted of a use.

    Args:
        counters: of the payer's plans.
        service: what is used.
        owner: the account that pays, empty for the endpoint.
        account: whose billing cycles they are.
        clocks: of the program; the one that is needed is added.
    """
    return tuple(
        UsageLimit(counter.key, owner, place_of(account.cycle, clocks), counter.terms.limit)
        for counter in counters
        if service in counter.terms.services
    )


def counter_id(holder_id: str, key: str) -> str:
    """Id of a counter, by its holder and its name there, which may be long."""
    return f"ctr_{holder_id.partition('_')[2]}.{blake2b(key.encode(), digest_size=8).hexdigest()}"


def counted_by(key: str) -> tuple[str, str]:
    """The plan whose counter a count is, and the counter's name."""
    plan, _, name = key.removeprefix(COUNTED_USE).split(":", 2)
    return f"pln_{plan}", name
