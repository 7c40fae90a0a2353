"""A limit that cells share: never overspent, all of it usable, whatever crashes, and seldom asked for centrally."""

import asyncio
import random

import pytest

from services.rating.domain.escrow import Kind
from services.rating.domain.reasons import Outcome, Reason
from services.rating.storage.escrow import WRITES
from tests.integration.rating.many import MB, PRICE, RESELLER, Many, ManyTerms, count, many
from tests.integration.rating.world import event


@pytest.fixture
def ledger_url(tmp_path):
    return f"sqlite+aiosqlite:///{tmp_path / 'ledger.sqlite'}"


async def burst(core: Many, events: int, weights: list[float] | None = None, batch: int = 20, seed: int = 1) -> list:
    """Charge one megabyte each in batches from sixteen clients; return (asked at, answered at, answer)."""
    rng = random.Random(seed)
    by_cell = [[] for _ in core.cells]
    for endpoint in core.terms.endpoints.values():
        by_cell[core.cells.of(endpoint.enterprise_id).engine.cell].append(endpoint.id)
    names = iter([f"b{seed}-{n}" for n in range(events)])
    answered, ticks = [], iter(range(10**9))

    async def client() -> None:
        while batch_ids := [name for _, name in zip(range(batch), names, strict=False)]:
            cells = rng.choices(range(core.cells.count), weights or [1.0] * core.cells.count, k=len(batch_ids))
            batch_events = [
                event(MB, name, endpoint_id=rng.choice(by_cell[cell]))
                for name, cell in zip(batch_ids, cells, strict=True)
            ]
            asked = next(ticks)
            answers = await core.charge(*batch_events)
            at = next(ticks)
            answered.extend((asked, at, answer) for answer in answers)

    await asyncio.gather(*(client() for _ in range(16)))
    return answered


def needless(answered: list) -> int:
    """Refusals given before somebody asked for the same and got it: there was credit then, in some cell."""
    last_asked = max(asked for asked, _, answer in answered if answer.outcome is Outcome.CHARGED)
    return sum(answer.outcome is Outcome.REFUSED and at < last_asked for _, at, answer in answered)


async def test_a_limit_shared_by_eight_cells_is_used_to_the_last_event_and_never_beyond(
    valkey_url, database_url, ledger_url
):
    limit = 700 * PRICE + PRICE - 1
    async with many(ManyTerms(64, limit), valkey_url, database_url, ledger_url) as core:
        answered = await burst(core, 1_000)
        assert len(answered) == 1_000
        assert count((a for _, _, a in answered), Outcome.CHARGED) == 700
        refused = {(a.reason, a.refused_step) for _, _, a in answered if a.outcome is Outcome.REFUSED}
        assert refused == {(Reason.CREDIT_LIMIT, 2)}
        assert await core.charged() == 700 * PRICE
        standing = await core.standing(Kind.CREDIT)
        assert (standing.total, sum(standing.spent.values())) == (limit, 700 * PRICE)
