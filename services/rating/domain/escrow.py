"""Escrow: how the one limit of an account above enterprises is shared out among the cells that use it.

The central row knows what is `free`; each cell holds a slice. Both directions are told by totals that only grow:
what was ever leased to the cell (the central row knows it first) and what the cell ever returned (the cell knows it
first). Bringing either side up to the other's total can be repeated, delayed or done by two at once without harm, and
`free + unspent slices + spent = limit` holds once both sides agree (O'Neil 1986).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from services.rating.domain.programs import Program, StepMode

FIRST_SHARED_STEP = 2
"""Steps 0 and 1 are paid by endpoint and enterprise, which live in one cell; the payers above are shared by cells."""
AHEAD_S = 2.0
"""A lease lasts about so many seconds at the rate at which the cell spends."""
LOW_WATER_S = 0.75
"""A slice that lasts less than this is renewed before anybody waits for it."""


class Kind(IntEnum):
    """What is shared out; 1 is prepaid money, 2 the credit limit."""

    MONEY = 1
    CREDIT = 2


@dataclass(frozen=True, slots=True)
class Slice:
    """A cell's slice, in micros.

    Attributes:
        leased: all that was ever leased to the cell.
        returned: all that the cell ever gave back.
        unspent: what it can still spend, or give back.
    """

    leased: int
    returned: int
    unspent: int = 0


@dataclass(frozen=True, slots=True)
class Limit:
    """What an account may spend in all; `version` grows with every change of it."""

    micros: int
    version: int


@dataclass(frozen=True, slots=True)
class Wish:
    """What a cell wants leased, in micros.

    Attributes:
        cell: the cell.
        needed: what waits in it needs.
        least: less than this helps nobody.
        ahead: what it would like in order not to come back soon; only a part of what is free is given for this.
        cells: how many cells share what is free.
    """

    cell: int
    needed: int
    least: int
    ahead: int
    cells: int

    def granted(self, free: int) -> int:
        """What it gets of what is free."""
        if free < max(self.least, 1):
            return 0
        return min(free, max(self.needed, self.least, min(self.ahead, free // self.cells)))


@dataclass(frozen=True, slots=True)
class Central:
    """The central row of an account with its leases, after a transaction.

    Attributes:
        free: what is in no slice; negative while more is leased than a lowered limit allows.
        leases: by cell; `unspent` is not known here.
        granted: what the transaction leased.
    """

    free: int
    leases: Mapping[int, Slice]
    granted: int = 0


def kind_of(mode: StepMode) -> Kind:
    """What a step of a mode draws on."""
    return Kind.MONEY if mode is StepMode.PREPAID else Kind.CREDIT


def sliced_steps(program: Program) -> tuple[int, ...]:
    """Positions, from 1, of the steps whose payer has only a slice of its limit in a cell."""
    return tuple(
        index + 1
        for index, step in enumerate(program.steps)
        if index >= FIRST_SHARED_STEP and step.mode is not StepMode.UNLIMITED
    )


def called_back(missing: int, slices: Mapping[int, int]) -> dict[int, int]:
    """What to call back from which cell, the richest first, until nothing is missing.

    Of a rich slice half is taken, so that the next shortage need not ask again.

    Args:
        missing: micros.
        slices: what each cell could give back.
    """
    wanted = {}
    for cell, unspent in sorted(slices.items(), key=lambda item: (-item[1], item[0])):
        if missing <= 0 or unspent <= 0:
            break
        wanted[cell] = min(unspent, max(missing, unspent // 2))
        missing -= wanted[cell]
    return wanted
