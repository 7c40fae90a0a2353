"""Escrow: leases parts of the limit of an account above enterprises to the cells that use it, before they run dry."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping

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
from services.rating.usecases.pools import Demand, EscrowStore, Pool
from services.rating.usecases.routes import Cells

TICK_S = 0.1
"""How often slices are looked at, to renew them ahead of need."""
IDLE_S = 30.0
"""A slice that nobody used for so long is no longer looked at."""
CALLS_BACK_MAX = 3
"""How often cells are asked to give back for one lease: what they showed may be spent before they hear of it."""
UNDER_WAY_S = 0.005
"""How long what is on its way to a cell is waited for before it is called back from there."""
TAKE_BACK_S = 1.0
"""How often what cells hold beyond a lowered limit is asked for again."""
DRY_S = 0.05
"""How long it is remembered that too little was left in all cells together."""
PATIENCE_S = 2.0
"""How long a cell is waited for while others wait."""
PROBE_S = 0.1
"""How long a cell that is left alone is waited for, to see whether it is back, before anybody is refused without it."""
INSISTENCE_S = 8.0
"""How long all cells are waited for where nothing can be said without each of them."""
SILENT_S = 5.0
"""How long a cell whose Valkey did not answer is left alone."""
PROGRAMS_MAX = 100_000

log = structlog.get_logger(part="escrow")
LEASES = Counter("meterline_escrow_leases", "Leases to cells.", ["why"])
CALLED_BACK = Counter("meterline_escrow_called_back", "Slices called back from cells.")


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
        self._pools: dict[tuple[str, Kind], Pool] = {}
        self._sliced: dict[str, tuple[int, ...]] = {}
        self._serving: set[asyncio.Task[None]] = set()
        self._silent_until: dict[int, float] = {}

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
            demand = pool.waiting[number] = Demand(asyncio.get_running_loop().create_future())
            task = asyncio.create_task(self._serve(pool, cell, demand))
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)
        demand.add(needed, least)
        return await asyncio.shield(demand.answer)

    async def _serve(self, pool: Pool, cell: Cell, demand: Demand) -> None:
        """Answer what has gathered when the pool's turn comes."""
        try:
            async with pool.lock:
                del pool.waiting[cell.engine.cell]
                central = await self._enlarge(pool, cell.engine.cell, demand)
            if central is not None and central.granted:  # outside of the lock: this cell may be slow, others are not
                await self._tell(pool, cell, central)
        except Exception as error:  # noqa: BLE001 - whoever waits gets it
            demand.answer.set_exception(error)
            demand.answer.exception()  # somebody may have stopped waiting
        else:
            demand.answer.set_result(central is not None)

    async def _enlarge(self, pool: Pool, number: int, demand: Demand) -> Central | None:
        """Lease to a cell; None if all cells together have too little."""
        now = _now()
        if now < pool.dry_until and pool.dry_left < demand.least:
            return None
        await self._reconciled(pool)
        use = pool.use(number)
        use.used_at = now
        wish = Wish(number, demand.needed, demand.least, use.ahead(now), self._cells.count)
        central = await self._move(pool, {}, wish)
        for _ in range(CALLS_BACK_MAX):
            if central.granted:
                break
            slices, left, own = await self._call_back(pool, central, wish)
            if left < demand.least:
                pool.dry_until, pool.dry_left = _now() + DRY_S, left + own
                return None
            central = await self._move(pool, slices, wish)
        if central.granted:  # else what was there was spent before it came back: whoever waits may try once more
            use.leased_at, use.last_lease = now, central.granted
            LEASES.labels("need").inc()
        return central

    async def _call_back(self, pool: Pool, central: Central, wish: Wish) -> tuple[dict[int, Slice], int, int]:
        """Call unspent slices of other cells back; return what they told, what there is, and what is in the cell."""
        there = await self._looked_at(pool)
        could, under_way, own = self._reckoned(pool, central, there, wish.cell)
        if central.free + under_way + sum(could.values()) < wish.least and len(there) < self._cells.count:
            there |= await self._looked_at(pool, silent=True)  # nobody is refused for what a cell has that is back
            could, under_way, own = self._reckoned(pool, central, there, wish.cell)
        left = central.free + under_way + sum(could.values())
        if left < wish.least:
            return {}, left, own
        if left - under_way < wish.least:
            await asyncio.sleep(UNDER_WAY_S)
        missing = max(min(max(wish.needed, wish.least), left) - central.free, 1)
        wanted = called_back(missing, could) or dict.fromkeys(could, 0)
        return await self._give_back(pool, central, wanted), left, own

    @staticmethod
    def _reckoned(
        pool: Pool, central: Central, there: Mapping[int, Slice], own_cell: int
    ) -> tuple[dict[int, int], int, int]:
        """What each other cell could give back, what is on its way, and what the own cell has; micros."""
        could, under_way = {}, 0
        for number, slice_ in there.items():
            lease = central.leases.get(number, Slice(0, 0))
            to_cell = max(0, lease.leased - slice_.leased)  # being told, or lost by whoever should have told it
            could[number] = slice_.unspent + (0 if pool.applying[number] else to_cell)
            under_way += max(0, slice_.returned - lease.returned) + (to_cell if pool.applying[number] else 0)
        own = could.pop(own_cell, 0)
        return could, under_way, own

    async def _give_back(self, pool: Pool, central: Central, wanted: Mapping[int, int]) -> dict[int, Slice]:
        """Let cells give back; a cell that does not answer keeps what it has."""
        CALLED_BACK.inc(len(wanted))

        def give_back(number: int) -> Awaitable[Slice]:
            leased = central.leases.get(number, Slice(0, 0)).leased
            return self._apply(pool, self._cells[number], leased, wanted[number])

        return await self._told(self._heard(wanted), give_back)

    async def _told(
        self,
        numbers: Iterable[int],
        ask: Callable[[int], Awaitable[Slice]],
        *,
        only_looks: bool = False,
        patience: float = PATIENCE_S,
    ) -> dict[int, Slice]:
        """What cells answer in time; those that do not are left out.

        A cell whose Valkey does not answer is left alone for a while; one that is only slow is not: a journal that
        stalls for a moment is no reason to refuse anybody while credit lies in the cell.
        """

        async def one(number: int) -> Slice | None:
            try:
                told = await asyncio.wait_for(ask(number), patience)
            except (MeterlineError, TimeoutError) as error:
                if isinstance(error, MeterlineError) or only_looks:
                    log.warning("cell does not answer", cell=number)
                    self._silent_until[number] = _now() + SILENT_S
                return None
            self._silent_until.pop(number, None)
            return told

        asked = list(numbers)
        answers = await asyncio.gather(*(one(number) for number in asked))
        return {number: told for number, told in zip(asked, answers, strict=True) if told is not None}

    def _is_silent(self, number: int) -> bool:
        """Whether a cell is left alone."""
        return _now() < self._silent_until.get(number, 0.0)

    def _heard(self, numbers: Iterable[int]) -> list[int]:
        """Cells that are not left alone."""
        return [number for number in numbers if not self._is_silent(number)]

    async def _tell(self, pool: Pool, cell: Cell, central: Central) -> Slice:
        """Tell a cell of its lease; until it knows, nobody calls it back."""
        number = cell.engine.cell
        pool.applying[number] += 1
        try:
            return await self._apply(pool, cell, central.leases[number].leased, 0)
        finally:
            pool.applying[number] -= 1

    async def _apply(self, pool: Pool, cell: Cell, leased: int, give_back: int) -> Slice:
        """Bring a cell up to what was leased to it; return its durable totals."""
        op = LeaseOp(pool.account_id, int(pool.kind), leased, give_back)
        outcome = (await cell.submit([op], {})).outcomes[0]
        if outcome[0] == Status.FAILED:
            raise FailedPreconditionError(
                "SLICE_OVERFLOW", f"Account {pool.account_id} was leased more than 2^53 micros in all in one cell."
            )
        return Slice(*outcome[1:])

    async def _looked_at(self, pool: Pool, *, silent: bool = False) -> dict[int, Slice]:
        """Slices as cells show them now; cells that do not answer are left out. Or only of those left alone."""

        async def look(number: int) -> Slice:
            key = (pool.account_id, int(pool.kind))
            return (await self._cells[number].read(lambda engine: engine.slices([key])))[0]

        asked = [number for number in range(self._cells.count) if self._is_silent(number) is silent]
        return await self._told(asked, look, only_looks=True, patience=PROBE_S if silent else PATIENCE_S)

    async def _move(self, pool: Pool, slices: Mapping[int, Slice], wish: Wish | None = None) -> Central:
        central = await self._store.move(pool.account_id, pool.kind, pool.limit, slices, wish)
        if central is None:  # the books were emptied under our feet
            pool.central = None
            raise UnavailableError("LIMIT_UNKNOWN", "The account's limit is being counted; try again.")
        pool.central = central
        return central

    async def _reconciled(self, pool: Pool) -> Central:
        """The central row, compared once by this process with what the cells know.

        The row learns what cells returned and what it lost; it is made anew if it is gone. What was leased and never
        told is told with the next lease or call back.
        """
        if pool.central is None:  # nothing goes on without them
            numbers = set(range(self._cells.count))
            asked, patience = list(numbers), INSISTENCE_S
        else:
            numbers = pool.unheard
            asked, patience = self._heard(numbers), PATIENCE_S
            if not asked:
                return pool.central  # all were heard, or cannot be heard now
        slices = await self._told(asked, lambda number: self._apply(pool, self._cells[number], 0, 0), patience=patience)
        unheard = numbers - slices.keys()
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
        pool.central, pool.unheard = central, unheard
        return central

    # --- limits --------------------------------------------------------------------------------------------------

    def unsettled(self, accounts: Iterable[AccountTerms]) -> list[AccountTerms]:
        """Those of some accounts above enterprises whose limits changed since this process last shared them out."""
        if self._cells.count == 1:
            return []
        return [account for account in accounts if not self._is_settled(account)]

    def _is_settled(self, account: AccountTerms) -> bool:
        if account.credit_limit_micros is None:
            return True
        pool = self._pools.get((account.id, Kind.CREDIT))
        return pool is not None and pool.settled_version >= account.limit_version

    async def settle(self, accounts: Iterable[AccountTerms]) -> None:
        """Take in changed limits: a lowered one takes back what is free first, then unspent slices."""
        for account in accounts:
            pool = self._pool(account, Kind.CREDIT)
            async with pool.lock:
                if pool.settled_version < account.limit_version:
                    await self._reconciled(pool)
                    await self._take_back(pool, await self._move(pool, {}))
                    pool.settled_version = account.limit_version

    async def _take_back(self, pool: Pool, central: Central) -> None:
        pool.dry_until, pool.taken_back_at = 0.0, _now()
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

    def _pool(self, account: AccountTerms, kind: Kind) -> Pool:
        limit = Limit(0, 0)
        if kind is Kind.CREDIT and account.credit_limit_micros is not None:
            limit = Limit(account.credit_limit_micros, account.limit_version)
        pool = self._pools.get((account.id, kind))
        if pool is None:
            pool = self._pools[account.id, kind] = Pool(account.id, kind, limit)
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
        await asyncio.gather(*(self._look_at(cell) for cell in self._cells))
        for pool in list(self._pools.values()):
            overdue = _now() - pool.taken_back_at > TAKE_BACK_S
            if pool.central is not None and pool.central.free < 0 and overdue and not pool.lock.locked():
                async with pool.lock:
                    await self._take_back(pool, pool.central)

    async def _look_at(self, cell: Cell) -> None:
        number, now = cell.engine.cell, _now()
        pools = [
            pool
            for pool in self._pools.values()
            if number in pool.uses and now - pool.uses[number].used_at < IDLE_S and pool.central is not None
        ]
        if not pools or self._is_silent(number):
            return
        try:
            slices = await cell.engine.slices([(pool.account_id, int(pool.kind)) for pool in pools])
        except MeterlineError:
            self._silent_until[number] = _now() + SILENT_S
            return
        for pool, there in zip(pools, slices, strict=True):
            use = pool.uses[number]
            use.look(now, there)
            if there.unspent < use.rate * LOW_WATER_S and not pool.lock.locked():
                await self._renew(pool, cell, round(use.rate * AHEAD_S) - there.unspent)

    async def _renew(self, pool: Pool, cell: Cell, ahead: int) -> None:
        """Lease ahead, if a good part of it is free; nobody is asked to give back for this."""
        async with pool.lock:
            if pool.central is None or pool.central.free // self._cells.count < max(ahead // 4, 1):
                return
            central = await self._move(pool, {}, Wish(cell.engine.cell, 0, 1, ahead, self._cells.count))
        if central.granted:
            LEASES.labels("ahead").inc()
            await self._told(self._heard([cell.engine.cell]), lambda _: self._tell(pool, cell, central))
