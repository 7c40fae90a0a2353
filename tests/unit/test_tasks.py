"""Work in the background: ended with its stack; a failure of it ends the process rather than leave half a service."""

import asyncio
import signal
from contextlib import AsyncExitStack

from services.runtime.tasks import background


async def test_it_runs_until_the_stack_ends():
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with AsyncExitStack() as stack:
        background(stack, work())
        await asyncio.sleep(0)
        assert not ended.is_set()
    assert ended.is_set()


async def test_its_failure_asks_the_process_to_end():
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, asked.set)

    async def work() -> None:
        raise ValueError("a fault")

    try:
        async with AsyncExitStack() as stack:
            background(stack, work())
            async with asyncio.timeout(5):
                await asked.wait()
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
