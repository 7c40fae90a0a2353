"""Many callers with an event each: those just answered come again one by one, and one call decides most of them."""

import asyncio
import time
from collections import Counter
from typing import Any

import pytest

from services.rating.domain.decisions import ConfigureOp
from services.rating.domain.reasons import Outcome
from services.rating.usecases import cells
from tests.integration.rating.test_charging import example
from tests.integration.rating.world import world

CALLERS = 20
WAIT_S = 2.0


@pytest.fixture(autouse=True)
def _long_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """So long that a slow machine makes no difference."""
    monkeypatch.setattr(cells, "GATHER_SECONDS", WAIT_S)


async def test_callers_that_come_again_one_by_one_are_decided_together(valkey_url: str, sqlite_url: str):
    async with world(example(), valkey_url, sqlite_url) as core:

        async def come(number: int) -> str:
            await asyncio.sleep(number / 50)
            return (await core.use(1, f"again-{number}")).usage_record_id

        await asyncio.gather(*(core.use(1, f"first-{number}") for number in range(CALLERS)))
        answers = await asyncio.gather(*(come(number) for number in range(CALLERS)))
    calls = Counter(answer.split(".")[1] for answer in answers)
    assert calls.most_common(1)[0][1] >= CALLERS / 2, calls


async def test_who_comes_alone_after_many_waits_once_and_then_no_more(valkey_url: str, sqlite_url: str):
    async with world(example(), valkey_url, sqlite_url) as core:
        await asyncio.gather(*(core.use(1, f"many-{number}") for number in range(CALLERS)))
        await core.use(1, "alone")
        started = time.monotonic()
        answer = await core.use(1, "alone-again")
        assert answer.outcome is Outcome.CHARGED
        assert time.monotonic() - started < WAIT_S / 2


async def test_what_cannot_even_be_asked_spoils_no_other_call(valkey_url: str, sqlite_url: str):
    """Calls are decided together; a fault of one is its own."""
    async with world(example(), valkey_url, sqlite_url) as core:
        await core.use(1, "first")
        impossible: Any = object()

        async def fail() -> None:
            with pytest.raises(TypeError):
                await core.cell.submit([ConfigureOp("ep_1", 1, 0, impossible, [], "")], {})

        failing = asyncio.create_task(fail())
        answers = await asyncio.gather(*(core.use(1, f"a-{number}") for number in range(CALLERS)))
        await failing
        assert [answer.outcome for answer in answers] == [Outcome.CHARGED] * CALLERS
        assert (await core.use(1, "last")).outcome is Outcome.CHARGED
