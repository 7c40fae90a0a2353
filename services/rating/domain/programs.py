"""Charging programs: all that is commercial about one kind of use, compiled flat.

A program is an ordered list of steps (endpoint to enterprise, enterprise to reseller, ... to the operator). It is
made once, kept under its id, and decides until something that it was made from changes. Which buckets a payer has
is not in it, only which benefits (`refs`) may be drawn, so that all endpoints with the same plans share a program.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from enum import IntEnum

from services.rating.domain.reasons import Reason
from services.rating.domain.tariffs import Rate

ENDPOINT_HOLDER = ""
"""Stands for the endpoint of the event."""
NO_HOLDER = "-"
"""A postpaid account without limit or benefits: only the fold sums what it owes."""


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
        rate: price of what no benefit covers; None if there is none.
        no_rate: why a volume without a rate is refused.
        payer: the account that pays; empty for the endpoint.
        payee: the account that is paid.
        plan: id and version of the base plan; ("", 0) if there is none.
        currency: ISO 4217 code of the amounts.
        tariff: id and version of the tariff; ("", 0) if there is none.
        rate_id: name of the rate in the tariff.
        zone_id: zone of the rate; empty for a default rate.
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

    def wire(self) -> list[object]:
        """The part that the Function works by."""
        rate = self.rate
        parts = [rate.increment, rate.minimum, rate.numerator, rate.denominator] if rate else False
        return [self.holder, int(self.mode), dict.fromkeys(self.refs, True), parts, int(self.no_rate)]


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
    """

    id: str
    deny_reason: Reason
    deny_step: int
    steps: tuple[Step, ...]
    valid_from_ms: int
    valid_until_ms: int
    wire: list[object]
    holders: tuple[str, ...]

    def body(self) -> str:
        """The content as JSON, kept for explanations."""
        return json.dumps(
            {
                "deny_reason": int(self.deny_reason),
                "deny_step": self.deny_step,
                "steps": [asdict(step) for step in self.steps],
            },
            separators=(",", ":"),
        )


def program(
    service: int, steps: tuple[Step, ...], deny: tuple[Reason, int], valid_from_ms: int, valid_until_ms: int
) -> Program:
    """Make a program out of its steps."""
    reason, deny_step = deny
    content = json.dumps([service, int(reason), deny_step, [asdict(step) for step in steps]]).encode()
    return Program(
        id=hashlib.blake2b(content, digest_size=12).hexdigest(),
        deny_reason=reason,
        deny_step=deny_step,
        steps=steps,
        valid_from_ms=valid_from_ms,
        valid_until_ms=valid_until_ms,
        wire=[int(reason), deny_step, [step.wire() for step in steps], str(int(service))],
        holders=tuple(step.holder for step in steps if step.holder not in {ENDPOINT_HOLDER, NO_HOLDER}),
    )


def steps_from_body(body: str) -> tuple[Step, ...]:
    """Read the steps of a kept program."""
    steps = []
    for fields in json.loads(body)["steps"]:
        rate = fields.pop("rate")
        for name in ("refs", "plan", "tariff"):
            fields[name] = tuple(fields[name])
        fields["mode"], fields["no_rate"] = StepMode(fields["mode"]), Reason(fields["no_rate"])
        steps.append(Step(rate=Rate(**rate) if rate else None, **fields))
    return tuple(steps)
