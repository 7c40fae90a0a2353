"""What a process knows of limits that cells share: who waits for a lease, and how fast each slice is spent."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from services.rating.domain.escrow import AHEAD_S, LOW_WATER_S, Central, Kind, Limit, Slice, Wish


class EscrowStore(Protocol):
    """Central rows; see services.rating.storage.escrow."""

    async def move(
        self,
        account_id: str,
        kind: Kind,
        limit: Limit,
        slices: Mapping[int, Slice],
        wish: Wish | None = None,
        *,
        create: bool = False,
    ) -> Central | None:
        """Take in what is newly known, lease what is wished for; None if there is no row."""
        ...

    async def free(self, account_id: str, kind: Kind) -> int:
        """What is in no slice, micros."""
        ...


@dataclass(slots=True)
class Demand:
    """What waits in a cell for one lease."""

    answer: asyncio.Future[bool]
    needed: int = 0
    least: int = 0

    def add(self, needed: int, least: int) -> None:
        """Add what one more needs, micros, and with how much less it could do something."""
        self.needed += needed
        self.least = min(self.least or least, least)


@dataclass(slots=True)
class Use:
    """How a cell uses its slice: micros a second, and what the rate was measured from."""

    rate: float = 0.0
    seen: Slice | None = None
    seen_at: float = 0.0
    used_at: float = 0.0
    leased_at: float = 0.0
    last_lease: int = 0

    def look(self, now: float, there: Slice) -> None:
        """Measure the rate."""
        if self.seen is not None and now > self.seen_at:
            leased, returned = there.leased - self.seen.leased, there.returned - self.seen.returned
            spent = max(0, self.seen.unspent + leased - returned - there.unspent)
            self.rate = (self.rate + spent / (now - self.seen_at)) / 2
            if spent:
                self.used_at = now
        self.seen, self.seen_at = there, now

    def ahead(self, now: float) -> int:
        """What to lease in order not to come back soon; doubles while it does not last."""
        grown = 2 * self.last_lease if now - self.leased_at < LOW_WATER_S else 0
        return max(round(self.rate * AHEAD_S), grown)


@dataclass(slots=True)
class Pool:
    """The money or the credit of one account, as this process knows it.

    Attributes:
        central: the central row when it was last seen; None before the cells were heard.
        lock: held while leases are moved.
        waiting: demands by cell, until their turn comes.
        uses: how cells use their slices.
        applying: cells that are just being told of a lease.
        unheard: cells that have not said yet what they know.
        dry_until: until when it is known that no more than `dry_left` is left, in seconds of the event loop.
        taken_back_at: when cells were last asked for what they hold beyond a lowered limit.
        settled_version: version of the limit that is shared out.
    """

    account_id: str
    kind: Kind
    limit: Limit
    central: Central | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: dict[int, Demand] = field(default_factory=dict)
    uses: dict[int, Use] = field(default_factory=dict)
    applying: Counter[int] = field(default_factory=Counter)
    unheard: set[int] = field(default_factory=set)
    dry_until: float = 0.0
    dry_left: int = 0
    taken_back_at: float = 0.0
    settled_version: int = -1

    def use(self, cell: int) -> Use:
        """How a cell uses its slice."""
        return self.uses.setdefault(cell, Use())
