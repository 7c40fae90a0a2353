"""What the use cases of rating work with."""

from dataclasses import dataclass

from services.common.clock import Clock
from services.rating.ports import Journal, Ledger, Terms
from services.rating.usecases.cells import Cell
from services.rating.usecases.holders import Holders


@dataclass(frozen=True, slots=True)
class Kit:
    """The parts of a rating process.

    Attributes:
        cell: decides.
        terms: what is known of the other services.
        journal: where earlier answers stand.
        ledger: the books.
        holders: which holders are configured.
        clock: tells the time.
    """

    cell: Cell
    terms: Terms
    journal: Journal
    ledger: Ledger
    holders: Holders
    clock: Clock
