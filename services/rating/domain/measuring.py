"""How what is used is measured before it is counted or drawn: in whole blocks, and at a weight.

The Function does the same arithmetic (engine/meterline.lua).
"""

import hashlib
from dataclasses import dataclass


def counter_name(*words: object) -> str:
    """A short name of what is counted, out of all that it goes by."""
    return hashlib.blake2b(" ".join(map(str, words)).encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class UseRounding:
    """Nothing stays nothing; anything else is raised to `minimum` and rounded up to whole blocks of `increment`.

    Attributes:
        counter: name of what a session has used; empty where each use is measured by itself.
    """

    counter: str
    increment: int
    minimum: int

    def measured(self, used: int) -> int:
        """What counts of all that was used."""
        return -(-max(used, self.minimum) // self.increment) * self.increment if used else 0

    def wire(self) -> dict[str, object]:
        """The part that the Function works by."""
        return {"counter": self.counter, "increment": self.increment, "minimum": self.minimum}


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
