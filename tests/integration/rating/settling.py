"""What holds of every balance after every scenario: the ledger says what is there, and nothing is over-reserved."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import sqlalchemy as sa

from services.rating.domain.balances import Holder, balance_id
from services.rating.storage.tables import entries
from tests.integration.rating.world import StillTerms, World, world


async def all_holders(core: World) -> dict[str, Holder]:
    """Every holder of the cell, read from Valkey."""
    await core.cell.open()
    names = [key.decode().partition("h:")[2] async for key in core.client.scan_iter("{c0}h:*")]
    return await core.cell.engine.holders(sorted(names))


async def require_settled(core: World) -> None:
    """Fold all; compare what is there with the books, entry by entry, and with what an emptied Valkey is rebuilt to."""
    await core.fold()
    before = await all_holders(core)
    remaining: Counter[str] = Counter()
    for holder in before.values():
        remaining[balance_id(holder.id, "")] += holder.money  # what an account's endpoints share holds none
        for bucket in holder.buckets:
            assert 0 <= bucket.reserved <= bucket.remaining, bucket
            remaining[balance_id(holder.id, bucket.id)] = bucket.remaining
    booked = {name: left for name, (_, left) in (await core.ledger.all_balances()).items()}
    summed = sa.select(entries.c.balance_id, sa.func.sum(entries.c.change)).group_by(entries.c.balance_id)
    async with core.ledger.database.reading() as connection:
        by_entries = {name: int(total) for name, total in await connection.execute(summed)}
    assert booked == by_entries
    assert {name: left for name, left in booked.items() if left} == {n: left for n, left in remaining.items() if left}
    assert booked.keys() >= {name for name, left in remaining.items() if left}
    await core.client.flushall()
    operator = core.terms.accounts[-1]
    await core.cell.submit([core.cell.holders.of_account(operator, core.terms.catalog)], {})  # finds it empty
    after = await all_holders(core)
    assert {name: holder for name, holder in after.items() if name in before} == before


@asynccontextmanager
async def settled_world(terms: StillTerms, valkey_url: str, database_url: str) -> AsyncIterator[World]:
    """A core of which it is checked at the end that its balances are settled."""
    async with world(terms, valkey_url, database_url) as core:
        yield core
        await require_settled(core)
