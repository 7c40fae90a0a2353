"""Valkey's state against the journal's, and what must hold between balances, reservations and sessions."""

from collections.abc import Mapping

from services.common.errors import UnavailableError
from services.rating.domain.balances import Holder, balance_id, owner_of_holder
from services.rating.domain.findings import CellReport, Code, Report
from services.rating.usecases.verifying.sources import SecondBooks, StateSource

TRIES = 3
CREDIT = ".credit"
"""Ends the name under which what sessions hold of a holder's credit is summed."""


class StateComparison:
    """Compares one cell.

    Args:
        cell: the cell.
        books: the second books, which keep what was read.
        state: the cell in Valkey.
        report: where findings go.
    """

    def __init__(self, cell: int, books: SecondBooks, state: StateSource, report: Report) -> None:
        self._cell = cell
        self._books = books
        self._state = state
        self._report = report
        self.began_at: int | None = None
        """Sequence at which Valkey's reading began; None if it was not read: the journal's end counts then."""
        self.ended_at = 0
        """Sequence at which it ended."""

    async def read(self, about: CellReport) -> None:
        """Read the cell's holders and sessions."""
        try:
            for _ in range(TRIES):
                await self._books.forget_state(self._cell)
                about.state = await self._read(about.epoch)
                if not about.state:
                    return
        except UnavailableError:
            about.state = "not compared: Valkey does not answer"
        self.began_at = None

    async def _read(self, epoch: int) -> str:
        """Read once; return why it cannot be compared."""
        position = await self._state.position()
        if position is None:
            return "not compared: Valkey has nothing; it is rebuilt when the cell is next used"
        if position[0] != epoch:
            return f"not compared: it is of epoch {position[0]}; it is rebuilt when the cell is next used"
        self.began_at = self.ended_at = position[1]
        async for glance in self._state.glances():
            await self._books.note_state(self._cell, glance)
            self.ended_at = max(self.ended_at, glance.sequence)
        after = await self._state.position()
        return "" if after and after[0] == epoch else "not compared: it is being rebuilt"

    async def follow(self, sequence: int, images: Mapping[str, bytes]) -> None:
        """Take in what a segment changed while Valkey was read."""
        seen = await self._books.seen(self._cell, list(images))
        newer = {name: image for name, image in images.items() if sequence <= seen.get(name, self.began_at or 0)}
        await self._books.replace_images(self._cell, newer)

    # --- Valkey against the journal -------------------------------------------------------------------------------

    async def compare(self, about: CellReport, ids_from: int | None) -> None:
        """Compare what was read with the journal; ids from segments since `ids_from` must be remembered."""
        if self.began_at is None:
            return
        if self.began_at < about.folded:
            said = f"Valkey is at {self.began_at}, the books at {about.folded}."
            self._report.add(Code.STATE_BEHIND, f"cell {self._cell}", said)
            about.state = "not compared: it is behind the books"
            return
        if about.segments < self.ended_at:
            ahead = self.ended_at - about.segments
            about.state = f"not compared: it is {ahead} segments ahead of the journal; nobody was told of them yet"
            return
        about.state = "compared"
        async for row in self._books.differing_state(self._cell):
            self._compare_one(row.name, row.value, row.image, row.ends)
        await self._compare_ids(range(ids_from or about.segments + 1, about.segments + 1), about)

    def _compare_one(self, name: str, value: bytes | None, image: bytes | None, ends: int | None) -> None:
        place, is_session = f"cell {self._cell} {name}", name.startswith("s:")
        if image is None:
            self._report.add(Code.STATE_UNKNOWN, place, "Valkey has it, the journal does not.")
            return
        session = self._state.read_session(image) if is_session else None
        if value is None:
            if session is None or session.is_open:  # a closed session is kept for a day only
                self._report.add(Code.STATE_MISSING, place, "The journal has it, Valkey does not.")
            return
        if value != image:
            self._report.add(Code.STATE_DIFFERS, place, self._how(name, value, image))
        if session is not None:
            due = session.due_ms if session.is_open else None
            if ends != due:
                said = f"Valkey looks at it at {ends}, the journal says {due}."
                self._report.add(Code.SESSION_END_DIFFERS, place, said)

    def _how(self, name: str, value: bytes, image: bytes) -> str:
        if name.startswith("h:"):
            one, other = self._state.read_holder(name[2:], value), self._state.read_holder(name[2:], image)
            return f"Valkey has {_amounts(one)}, the journal {_amounts(other)}."
        return f"Valkey has {value.hex()[:200]}, the journal {image.hex()[:200]}."

    async def _compare_ids(self, segments: range, about: CellReport) -> None:
        async for some in self._state.answered():
            about.ids += len(some)
            for digest, known in (await self._books.check_answers(self._cell, some)).items():
                sequence = int(some[digest][8:].partition(b":")[0])
                if known is None and sequence in segments:
                    said = f"Valkey says that segment {sequence} answered it, the journal does not."
                    self._report.add(Code.ID_UNKNOWN, f"cell {self._cell} id {digest.hex()}", said)
                elif known is not None:
                    said = f"Valkey remembers {some[digest][8:].decode()}, the journal has {known[8:].decode()}."
                    self._report.add(Code.ID_DIFFERS, f"cell {self._cell} id {digest.hex()}", said)
        async for digest in self._books.unanswered(self._cell):
            said = "The journal answered it less than a day ago, Valkey has forgotten it."
            self._report.add(Code.ID_MISSING, f"cell {self._cell} id {digest.hex()}", said)

    # --- balances, reservations, sessions -------------------------------------------------------------------------

    async def check_balances(self, about: CellReport) -> None:
        """Look at what holders have, and at what sessions hold of it, as the journal has it."""
        async for images in self._books.images(self._cell):
            rows: list[tuple[str, int, int]] = []
            owed: list[tuple[str, int, int]] = []
            for name, image in images.items():
                if name.startswith("s:"):
                    about.sessions += 1
                    rows += self._holds(image)
                elif name.startswith("h:"):
                    about.holders += 1
                    holder = self._state.read_holder(name[2:], image)
                    rows += self._has(holder)
                    owed.append((holder.id, 0, holder.credit_used))
            await self._books.add_held(self._cell, rows)
            await self._books.add_owed(self._cell, owed)
        for holder_id, charged, owes in await self._books.unequal_debts(self._cell):
            said = f"It was charged {charged}, less what was given back and paid; it owes {owes}."
            self._report.add(Code.OWED_UNEQUAL, f"cell {self._cell} holder {holder_id}", said)
        async for images in self._books.images(self._cell):
            holders = [self._state.read_holder(name[2:], image) for name, image in images.items() if name[:2] == "h:"]
            names = [name for holder in holders for name in _names(holder)]
            held = await self._books.held(self._cell, names)
            for holder in holders:
                self._check_reserved(holder, held)

    def _holds(self, image: bytes) -> list[tuple[str, int, int]]:
        session = self._state.read_session(image)
        if not session.is_open:
            return []
        return [
            (f"{each.holder_id}{CREDIT}" if each.of_credit else balance_id(each.holder_id, each.bucket), 0, each.amount)
            for each in session.held
        ]

    def _has(self, holder: Holder) -> list[tuple[str, int, int]]:
        amounts = [("", holder.money, holder.money_reserved)]
        amounts += [(bucket.id, bucket.remaining, bucket.reserved) for bucket in holder.buckets]
        rows = []
        for bucket, remaining, reserved in amounts:
            balance = balance_id(holder.id, bucket)
            rows.append((balance, remaining, 0))
            place = f"cell {self._cell} balance {balance}"
            if remaining < 0:
                self._report.add(Code.BALANCE_NEGATIVE, place, f"It has {remaining}.")
            if not 0 <= reserved <= max(remaining, 0):
                said = f"{reserved} of {remaining} are reserved."
                self._report.add(Code.RESERVED_TOO_MUCH, place, said)
        return rows

    def _check_reserved(self, holder: Holder, held: Mapping[str, int]) -> None:
        amounts: list[tuple[str, int, bool]] = []
        if owner_of_holder(holder.id) == holder.id:  # pools have no money: what is called so is their enterprise's
            amounts.append((balance_id(holder.id, ""), holder.money_reserved, True))
            amounts.append((f"{holder.id}{CREDIT}", holder.credit_reserved, True))
        # what is reserved of a bucket is forgotten when it expires or begins a new cycle, sessions are not told
        amounts += [(balance_id("", bucket.id), bucket.reserved, not bucket.expires_ms) for bucket in holder.buckets]
        for name, reserved, lasting in amounts:
            sessions = held.get(name, 0)
            if reserved > sessions or (lasting and reserved < sessions):
                said = f"{reserved} are reserved, open sessions hold {sessions}."
                self._report.add(Code.RESERVED_UNEQUAL, f"cell {self._cell} balance {name}", said)


def _names(holder: Holder) -> list[str]:
    own = [balance_id(holder.id, ""), f"{holder.id}{CREDIT}"]
    return own + [balance_id("", bucket.id) for bucket in holder.buckets]


def _amounts(holder: Holder) -> str:
    buckets = " ".join(f"{bucket.id}={bucket.remaining}/{bucket.reserved}" for bucket in holder.buckets)
    return f"money {holder.money}/{holder.money_reserved} owed {holder.credit_used}/{holder.credit_reserved} {buckets}"
