"""The cells of an installation, and which of them decides for whom."""

from collections.abc import Iterator, Sequence

from services.rating.domain.cells import cell_of
from services.rating.usecases.cells import Cell

KNOWN_MAX = 1_000_000


class Cells:
    """All cells, as one process works with them.

    Args:
        cells: the cells by number, from 0; never more or fewer in an installation.
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._cells = tuple(cells)
        self._known: dict[str, Cell] = {}
        self.count = len(self._cells)
        """How many there are."""

    def __iter__(self) -> Iterator[Cell]:
        return iter(self._cells)

    def __getitem__(self, number: int) -> Cell:
        return self._cells[number]

    def of(self, owner_id: str) -> Cell:
        """The cell of an enterprise and all that it holds; of an account above enterprises, that of its top-ups."""
        if self.count == 1:
            return self._cells[0]
        cell = self._known.get(owner_id)
        if cell is None:
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            cell = self._known[owner_id] = self._cells[cell_of(owner_id, self.count)]
        return cell
