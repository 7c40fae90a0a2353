"""Escrow: leases parts of the limit of an account above enterprises to the cells that use it, before they run dry."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import structlog
from prometheus_client import Counter

from services.common.errors import FailedPreconditionError, MeterlineError, UnavailableError
from services.rating.domain.decisions import LeaseOp, Status
from services.rating.domain.escrow import (
    AHEAD_S,
    LOW_WATER_S,
    Central,
    Kind,
    Limit,
    Slice,
    Wish,
    called_back,
    sliced_steps,
)
from services.rating.domain.programs import Program
from services.rating.domain.terms import AccountTerms
from services.rating.usecases.cells import Cell
from services.rating.usecases.routes import Cells

TICK_S = 0.1
"""How often slices are looked at, to renew them ahead of need."""
IDLE_S = 30.0
"""A slice that nobody used for so long is no longer looked at."""
CALLS_BACK_MAX = 3
"""How often cells are asked to give back for one lease: what they showed may be spent before they hear of it."""
DRY_S = 0.05
"""How long it is remembered that too little was left in all cells together."""
PROGRAMS_MAX = 100_000

log = structlog.get_logger(part="escrow")
LEASES = Counter("meterline_escrow_leases", "Leases to cells.", ["why"])
CALLED_BACK = Counter("meterline_escrow_called_back", "Slices called back from cells.")


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
class _Demand:
    """What waits in a cell for one lease."""

    answer: asyncio.Future[bool]
    needed: int = 0
    least: int = 0

    def add(self, needed: int, least: int) -> None:
        self.needed += needed
        self.least = min(self.least or least, least)


@dataclass(slots=True)
class _Use:
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
class _Pool:
    """The money or the credit of one account, as this process knows it."""

    account_id: str
    kind: Kind
    limit: Limit
    central: Central | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: dict[int, _Demand] = field(default_factory=dict)
    uses: dict[int, _Use] = field(default_factory=dict)
    unheard: set[int] = field(default_factory=set)
    dry_until: float = 0.0
    dry_left: int = 0
    settled_version: int = -1

    def use(self, cell: int) -> _Use:
        return self.uses.setdefault(cell, _Use())


def _now() -> float:
    return asyncio.get_running_loop().time()


class Escrow:
    """Shares limits out among cells. With one cell it has nothing to do.

    Args:
        cells: all cells.
        store: the central rows.
    """

    def __init__(self, cells: Cells, store: EscrowStore) -> None:
        self._cells = cells
        self._store = store
        self._pools: dict[tuple[str, Kind], _Pool] = {}
        self._sliced: dict[str, tuple[int, ...]] = {}
        self._serving: set[asyncio.Task[None]] = set()

    def slices(self, program: Program) -> tuple[int, ...]:
        """Positions, from 1, of the steps of a program at which a cell has only a slice."""
        if self._cells.count == 1:
            return ()
        found = self._sliced.get(program.id)
        if found is None:
            if len(self._sliced) >= PROGRAMS_MAX:
                self._sliced.clear()
            found = self._sliced[program.id] = sliced_steps(program)
        return found

    async def acquire(self, cell: Cell, account: AccountTerms, kind: Kind, needed: int, least: int) -> bool:
        """Enlarge a cell's slice.

        Args:
            cell: where it is needed.
            account: whose slice.
            kind: money or credit.
            needed: what all that waits needs, micros.
            least: less than this helps nothing of what waits, micros.

        Returns:
            Whether it is larger now; if not, all cells together have less than `least` to give.

        Raises:
            UnavailableError: stores are away.
        """
        pool = self._pool(account, kind)
        number = cell.engine.cell
        demand = pool.waiting.get(number)
        if demand is None:
            demand = pool.waiting[number] = _Demand(asyncio.get_running_loop().create_future())
            task = asyncio.create_task(self._serve(pool, cell, demand))
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)
        demand.add(needed, least)
        return await asyncio.shield(demand.answer)

    async def _serve(self, pool: _Pool, cell: Cell, demand: _Demand) -> None:
        """Answer what has gathered when the pool's turn comes."""
        async with pool.lock:
            del pool.waiting[cell.engine.cell]
            try:
                answer = await self._enlarge(pool, cell, demand)
            except Exception as error:  # noqa: BLE001 - whoever waits gets it
                demand.answer.set_exception(error)
                demand.answer.exception()  # somebody may have stopped waiting
            else:
                demand.answer.set_result(answer)

    async def _enlarge(self, pool: _Pool, cell: Cell, demand: _Demand) -> bool:
        number, now = cell.engine.cell, _now()
        if now < pool.dry_until and pool.dry_left < demand.least:
            return False
        await self._reconciled(pool)
        use = pool.use(number)
        use.used_at = now
        wish = Wish(number, demand.needed, demand.least, use.ahead(now), self._cells.count)
        central = await self._move(pool, {}, wish)
        for _ in range(CALLS_BACK_MAX):
            if central.granted:
                break
            slices, left = await self._call_back(pool, central, wish)
            if left < demand.least:
                pool.dry_until, pool.dry_left = _now() + DRY_S, left
                return False
            central = await self._move(pool, slices, wish)
        if not central.granted:
            return True  # what was there was spent before it came back: let it try once more
        use.leased_at, use.last_lease = now, central.granted
        LEASES.labels("need").inc()
        await self._apply(pool, cell, central.leases[number].leased, 0)
        return True

    async def _call_back(self, pool: _Pool, central: Central, wish: Wish) -> tuple[dict[int, Slice], int]:
        """Call unspent slices of other cells back; return what they told, and how much there is in all."""
        there = await self._looked_at(pool, except_for=wish.cell)
        could, back = {}, 0
        for number, slice_ in there.items():
            lease = central.leases.get(number, Slice(0, 0))
            could[number] = slice_.unspent + max(0, lease.leased - slice_.leased)
            back += max(0, slice_.returned - lease.returned)
        left = central.free + back + sum(could.values())
        if left < wish.least:
            return {}, left
        missing = max(min(max(wish.needed, wish.least), left) - central.free, 1)
        wanted = called_back(missing, could) or dict.fromkeys(could, 0)
        return await self._give_back(pool, central, wanted), left

    async def _give_back(self, pool: _Pool, central: Central, wanted: Mapping[int, int]) -> dict[int, Slice]:
        """Let cells give back; a cell that does not answer keeps what it has."""
        numbers = list(wanted)
        leased = [central.leases.get(number, Slice(0, 0)).leased for number in numbers]
        told = await asyncio.gather(
            *(
                self._apply(pool, self._cells[number], total, wanted[number])
                for number, total in zip(numbers, leased, strict=True)
            ),
            return_exceptions=True,
        )
        CALLED_BACK.inc(len(numbers))
        return {number: one for number, one in zip(numbers, told, strict=True) if isinstance(one, Slice)}

    async def _apply(self, pool: _Pool, cell: Cell, leased: int, give_back: int) -> Slice:
        """Bring a cell up to what was leased to it; return its durable totals."""
        op = LeaseOp(pool.account_id, int(pool.kind), leased, give_back)
        outcome = (await cell.submit([op], {})).outcomes[0]
        if outcome[0] == Status.FAILED:
            raise FailedPreconditionError(
                "SLICE_OVERFLOW", f"Account {pool.account_id} was leased more than 2^53 micros in all in one cell."
            )
        return Slice(*outcome[1:])

    async def _looked_at(self, pool: _Pool, except_for: int = -1) -> dict[int, Slice]:
        """Slices as cells show them now; cells that do not answer are left out."""
        cells = [cell for cell in self._cells if cell.engine.cell != except_for]
        told = await asyncio.gather(
            *(cell.engine.slices([(pool.account_id, int(pool.kind))]) for cell in cells), return_exceptions=True
        )
        return {cell.engine.cell: one[0] for cell, one in zip(cells, told, strict=True) if isinstance(one, list)}

    async def _move(self, pool: _Pool, slices: Mapping[int, Slice], wish: Wish | None = None) -> Central:
        central = await self._store.move(pool.account_id, pool.kind, pool.limit, slices, wish)
        if central is None:  # the books were emptied under our feet
            pool.central = None
            raise UnavailableError("LIMIT_UNKNOWN", "The account's limit is being counted; try again.")
        pool.central, pool.settled_version = central, pool.limit.version
        return central

    async def _reconciled(self, pool: _Pool) -> Central:
        """The central row, compared once by this process with what the cells know.

        Repairs what a crash left between the row and a cell, and makes the row anew if the books were lost.
        """
        if pool.central is not None and not pool.unheard:
            return pool.central
        numbers = range(self._cells.count) if pool.central is None else sorted(pool.unheard)
        told = await asyncio.gather(
            *(self._apply(pool, self._cells[number], 0, 0) for number in numbers), return_exceptions=True
        )
        slices = {number: one for number, one in zip(numbers, told, strict=True) if isinstance(one, Slice)}
        unheard = set(numbers) - slices.keys()
        central = await self._store.move(
            pool.account_id, pool.kind, pool.limit, slices, create=not unheard and pool.central is None
        )
        if central is None:
            raise UnavailableError(
                "LIMIT_UNKNOWN",
                f"What account {pool.account_id} has spent is not known before all cells answer; try again.",
                retry_after_ms=1000,
            )
        if unheard:
            log.warning("cells not heard", account=pool.account_id, cells=sorted(unheard))
        pool.central, pool.unheard, pool.settled_version = central, unheard, pool.limit.version
        late = [n for n, one in slices.items() if central.leases.get(n, one).leased > one.leased]
        await asyncio.gather(*(self._apply(pool, self._cells[n], central.leases[n].leased, 0) for n in late))
        return central

    # --- limits --------------------------------------------------------------------------------------------------

    def unsettled(self, account: AccountTerms) -> bool:
        """Whether the limit of an account changed since this process last shared it out."""
        pool = self._pools.get((account.id, Kind.CREDIT))
        return pool is not None and pool.settled_version < account.limit_version

    async def settle(self, accounts: Iterable[AccountTerms]) -> None:
        """Take in changed limits: a lowered one takes back what is free first, then unspent slices."""
        for account in accounts:
            pool = self._pool(account, Kind.CREDIT)
            async with pool.lock:
                if pool.settled_version < account.limit_version:
                    await self._reconciled(pool)
                    await self._take_back(pool, await self._move(pool, {}))

    async def _take_back(self, pool: _Pool, central: Central) -> None:
        pool.dry_until = 0.0
        if central.free < 0:
            there = await self._looked_at(pool)
            told = await self._give_back(
                pool, central, called_back(-central.free, {number: one.unspent for number, one in there.items()})
            )
            if told:
                await self._move(pool, told)

    def replenished(self, account_id: str) -> None:
        """Forget that an account had nothing left: it was topped up, or a session gave a reservation back."""
        for kind in Kind:
            pool = self._pools.get((account_id, kind))
            if pool is not None:
                pool.dry_until = 0.0

    def _pool(self, account: AccountTerms, kind: Kind) -> _Pool:
        limit = Limit(0, 0)
        if kind is Kind.CREDIT and account.credit_limit_micros is not None:
            limit = Limit(account.credit_limit_micros, account.limit_version)
        pool = self._pools.get((account.id, kind))
        if pool is None:
            pool = self._pools[account.id, kind] = _Pool(account.id, kind, limit)
        elif pool.limit.version < limit.version:
            pool.limit = limit
        return pool

    # --- reading -------------------------------------------------------------------------------------------------

    async def free(self, account_id: str, kind: Kind) -> int:
        """What of an account's money or credit is in no slice, micros."""
        return 0 if self._cells.count == 1 else await self._store.free(account_id, kind)

    # --- ahead of need -------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Renew slices ahead of need until cancelled."""
        while True:
            await asyncio.sleep(TICK_S)
            try:
                await self._look()
            except MeterlineError as error:
                log.info("cannot renew", reason=error.reason)
            except Exception:
                log.exception("renewing failed")

    async def _look(self) -> None:
        """Look at all slices in use; enlarge those that run low."""
        now = _now()
        for cell in self._cells:
            number = cell.engine.cell
            pools = [
                pool
                for pool in self._pools.values()
                if number in pool.uses and now - pool.uses[number].used_at < IDLE_S and pool.central is not None
            ]
            if not pools:
                continue
            for pool, there in zip(
                pools, await cell.engine.slices([(pool.account_id, int(pool.kind)) for pool in pools]), strict=True
            ):
                use = pool.uses[number]
                use.look(now, there)
                if there.unspent < use.rate * LOW_WATER_S and not pool.lock.locked():
                    await self._renew(pool, cell, round(use.rate * AHEAD_S) - there.unspent)
        for pool in self._pools.values():
            if pool.central is not None and pool.central.free < 0 and not pool.lock.locked():
                async with pool.lock:
                    await self._take_back(pool, pool.central)

    async def _renew(self, pool: _Pool, cell: Cell, ahead: int) -> None:
        """Lease ahead, if a good part of it is free; nobody is asked to give back for this."""
        async with pool.lock:
            if pool.central is None or pool.central.free // self._cells.count < max(ahead // 4, 1):
                return
            central = await self._move(pool, {}, Wish(cell.engine.cell, 0, 1, ahead, self._cells.count))
            if central.granted:
                LEASES.labels("ahead").inc()
                await self._apply(pool, cell, central.leases[cell.engine.cell].leased, 0)
