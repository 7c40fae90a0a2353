"""What the use cases of rating work with."""

from dataclasses import dataclass

from services.common.clock import Clock
from services.rating.ports import Journal, Ledger, Terms
from services.rating.usecases.escrow import Escrow
from services.rating.usecases.routes import Cells


@dataclass(frozen=True, slots=True)
class Kit:
    """The parts of a rating process.

    Attributes:
        cells: decide.
        terms: what is known of the other services.
        journal: where earlier answers stand.
        ledger: the books.
        clock: tells the time.
        escrow: shares limits out among cells.
    """

    cells: Cells
    terms: Terms
    journal: Journal
    ledger: Ledger
    clock: Clock
    escrow: Escrow
