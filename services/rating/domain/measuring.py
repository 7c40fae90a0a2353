"""How what is used is measured before it is counted or drawn: in whole blocks, up to a most, and at a weight.

The Function does the same arithmetic (engine/meterline.lua).
"""

import hashlib
from dataclasses import dataclass

from services.rating.domain.periods import Period
from services.rating.domain.tariffs import EXACT_MAX


def counter_name(*words: object) -> str:
    """A short name of what is counted, out of all that it goes by."""
    return hashlib.blake2b(" ".join(map(str, words)).encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class UseRounding:
    """Nothing stays nothing; else it is raised to `minimum`, rounded up to blocks of `increment`, cut at `maximum`.

    Attributes:
        counter: name of what a session, or the endpoint, has used; empty where each use is measured by itself.
        period: over what that is added up: place in the program's clocks, from 1, or SESSION.
    """

    counter: str
    increment: int
    minimum: int
    maximum: int = EXACT_MAX
    period: int = Period.SESSION

    def measured(self, used: int) -> int:
        """What counts of all that was used."""
        return min(-(-max(used, self.minimum) // self.increment) * self.increment, self.maximum) if used else 0

    def wire(self) -> dict[str, object]:
        """The part that the Function works by."""
        return {
            "counter": self.counter,
            "period": self.period,
            "increment": self.increment,
            "minimum": self.minimum,
            "maximum": self.maximum,
        }


@dataclass(frozen=True, slots=True)
class Measure:
    """How a benefit is drawn: `drawn` units for each `per` of what is measured.

    Attributes:
        ref: the benefit.
    """

    ref: str
    rounding: UseRounding
    drawn: int
    per: int

    def wire(self) -> dict[str, object]:
        """The part that the Function works by; what a session has drawn is counted beside what it has used."""
        return {**self.rounding.wire(), "drawn": self.drawn, "per": self.per}
