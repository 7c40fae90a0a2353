"""Charging programs: all that is commercial about one kind of use, compiled flat.

A program is an ordered list of steps (endpoint to enterprise, enterprise to reseller, ... to the operator). It is
made once, kept under its id, and decides until something that it was made from changes. Which buckets a payer has
is not in it, only which benefits (`refs`) may be drawn, so that all endpoints with the same plans share a program.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any

from services.rating.domain.limits import UsageLimit
from services.rating.domain.measuring import Measure, UseRounding
from services.rating.domain.periods import ALWAYS, Clock, bounds, period
from services.rating.domain.pricing import Action, Cap, Component, Meter, Pricing, Rounding, Tier, TierMode
from services.rating.domain.reasons import Reason
from services.rating.domain.tariffs import Rate

ENDPOINT_HOLDER = ""
"""Stands for the endpoint of the event."""
NO_HOLDER = "-"
"""A postpaid account without limit or benefits: only the fold sums what it owes."""


WIRE_MIN = 5
"""Parts of a step that the Function always gets."""


class StepMode(IntEnum):
    """What a step's price draws on."""

    UNLIMITED = 0
    PREPAID = 1
    POSTPAID = 2


@dataclass(frozen=True, slots=True)
class Step:
    """One edge of the charging tree.

    Attributes:
        holder: the account whose buckets and money it draws on, or one of the two constants.
        mode: what the price draws on.
        refs: benefits that may be drawn, as `plan:version:benefit`.
        rate: price of what no benefit covers, if it is simple.
        pricing: in its place, a price that counts over more than a record or has tiers, bounds or fees.
        no_rate: why a volume without a rate is refused.
        payer: the account that pays; empty for the endpoint.
        payee: the account that is paid.
        plan: id and version of the base plan; ("", 0) if there is none.
        currency: ISO 4217 code of the amounts.
        tariff: id and version of the tariff; ("", 0) if there is none.
        rate_id: name of the rate in the tariff.
        zone_id: zone of the rate; empty for a rate that names its places otherwise, or none.
        pool: holder whose buckets may be drawn besides the payer's; empty if there is none.
        limits: what is counted whatever pays for it.
        measures: how those of the benefits are drawn that are not drawn unit by unit.
        repeats: whether add-ons have to be older than the use, since some were given again after it.
    """

    holder: str
    mode: StepMode
    refs: tuple[str, ...]
    rate: Rate | None
    no_rate: Reason
    payer: str
    payee: str
    plan: tuple[str, int]
    currency: str
    tariff: tuple[str, int]
    rate_id: str
    zone_id: str
    pricing: Pricing | None = None
    pool: str = ""
    limits: tuple[UsageLimit, ...] = ()
    measures: tuple[Measure, ...] = ()
    repeats: bool = False

    def wire(self) -> list[object]:
        """The part that the Function works by."""
        rate = self.rate
        parts = [rate.increment, rate.minimum, rate.numerator, rate.denominator] if rate else False
        drawn: dict[str, bool | int] = dict.fromkeys(self.refs, True)
        drawn |= {measure.ref: number for number, measure in enumerate(self.measures, 1)}
        wire = [self.holder, int(self.mode), drawn, parts, int(self.no_rate)]
        wire += [
            self.pricing.wire() if self.pricing else False,
            self.pool or False,
            [limit.wire() for limit in self.limits] or False,
            [measure.wire() for measure in self.measures] or False,
            self.repeats,
        ]
        while wire[-1] is False and len(wire) > WIRE_MIN:
            wire.pop()  # what few steps have takes no room in the others
        return wire


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """A compiled program.

    Attributes:
        id: digest of its content, 24 hexadecimal characters.
        deny_reason: why online use is refused whatever the balances; NONE if it is not.
        deny_step: the step that refuses it.
        steps: the steps, from the endpoint upwards.
        valid_from_ms: first usage time for which it holds.
        valid_until_ms: first usage time for which it does not hold any more.
        wire: what the Function works by.
        holders: accounts whose holders it works with.
        counts: whether something is counted over more than a record, or a price needs to know more than the volume.
        clocks: whose periods the prices count over.
    """

    id: str
    deny_reason: Reason
    deny_step: int
    steps: tuple[Step, ...]
    valid_from_ms: int
    valid_until_ms: int
    wire: list[object]
    holders: tuple[str, ...]
    counts: bool
    clocks: tuple[Clock, ...]

    def periods(self, at_ms: int) -> tuple[int, ...]:
        """Begins of the periods in which a use lies, seconds since 1970, in the order of the clocks."""
        return tuple(period(clock, at_ms) for clock in self.clocks)

    def changes_ms(self, at_ms: int) -> int:
        """When the price of a use at a time changes next: with the rate, or where a count begins anew; 0 is never."""
        ends = [self.valid_until_ms, *(bounds(clock, at_ms)[1] for clock in self.clocks)]
        return min((end for end in ends if end < ALWAYS[1]), default=0)

    def body(self) -> str:
        """The content as JSON, kept for explanations: all of what the id is the digest of."""
        return json.dumps(
            {
                "service": int(str(self.wire[3])),
                "deny_reason": int(self.deny_reason),
                "deny_step": self.deny_step,
                "steps": [asdict(step) for step in self.steps],
                "clocks": [asdict(clock) for clock in self.clocks],
            },
            separators=(",", ":"),
        )


def program(
    service: int,
    steps: tuple[Step, ...],
    deny: tuple[Reason, int],
    window_ms: tuple[int, int],
    clocks: tuple[Clock, ...] = (),
) -> Program:
    """Make a program out of its steps; `window_ms` is the usage time for which it holds, the end not included."""
    reason, deny_step = deny
    stated = [service, int(reason), deny_step, [asdict(step) for step in steps], [asdict(clock) for clock in clocks]]
    holders = holders_of(steps)
    return Program(
        id=_digest(stated),
        deny_reason=reason,
        deny_step=deny_step,
        steps=steps,
        valid_from_ms=window_ms[0],
        valid_until_ms=window_ms[1],
        wire=[int(reason), deny_step, [step.wire() for step in steps], str(int(service)), list(holders)],
        holders=holders,
        counts=any(step.pricing or step.limits or step.measures for step in steps),
        clocks=clocks,
    )


def holders_of(steps: Sequence[Step]) -> tuple[str, ...]:
    """Holders of accounts that steps work with: payers, pools, and where prices count."""
    names = [step.holder for step in steps if step.holder not in {ENDPOINT_HOLDER, NO_HOLDER}]
    names += [step.pool for step in steps if step.pool]
    names += [owner for step in steps if step.pricing for owner in sorted(step.pricing.owners)]
    return tuple(dict.fromkeys(names))


def digest_of_body(body: str) -> str:
    """The id that a kept program must have; empty if it is not one."""
    fields = json.loads(body)
    try:
        stated = [fields[name] for name in ("service", "deny_reason", "deny_step", "steps", "clocks")]
    except KeyError:
        return ""
    return _digest(stated)


def _digest(stated: list[Any]) -> str:
    return hashlib.blake2b(json.dumps(stated).encode(), digest_size=12).hexdigest()


def steps_from_body(body: str) -> tuple[Step, ...]:
    """Read the steps of a kept program."""
    steps = []
    for fields in json.loads(body)["steps"]:
        rate, pricing = fields.pop("rate"), fields.pop("pricing", None)
        for name in ("refs", "plan", "tariff"):
            fields[name] = tuple(fields[name])
        fields["mode"], fields["no_rate"] = StepMode(fields["mode"]), Reason(fields["no_rate"])
        kept = _pricing(pricing) if pricing else None
        limits = tuple(UsageLimit(**limit) for limit in fields.pop("limits", ()))
        measures = tuple(map(_measure, fields.pop("measures", ())))
        simple = Rate(**rate) if rate else None
        steps.append(Step(rate=simple, pricing=kept, limits=limits, measures=measures, **fields))
    return tuple(steps)


def clocks_from_body(body: str) -> tuple[Clock, ...]:
    """Read the clocks of a kept program."""
    return tuple(Clock(**fields) for fields in json.loads(body).get("clocks", ()))


def _pricing(fields: dict[str, Any]) -> Pricing:
    caps = tuple(Cap(**{**cap, "action": Action(cap["action"])}) for cap in fields["caps"])
    return Pricing(tuple(map(_component, fields["components"])), caps)


def _measure(fields: dict[str, Any]) -> Measure:
    return Measure(**{**fields, "rounding": UseRounding(**fields["rounding"])})


def _component(fields: dict[str, Any]) -> Component:
    each = fields.get("each")
    read = {
        "meter": Meter(fields["meter"]),
        "mode": TierMode(fields["mode"]),
        "rounding": Rounding(fields["rounding"]),
        "each": UseRounding(**each) if each else None,
        "tiers": tuple(Tier(blocks, price, flat, Action(action)) for blocks, price, flat, action in fields["tiers"]),
    }
    return Component(**{**fields, **read})
