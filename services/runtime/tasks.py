"""Work in the background of a service, ended with the stack that holds what it needs."""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack, suppress
from typing import Any


def background(stack: AsyncExitStack, work: Coroutine[Any, Any, None]) -> None:
    """Run something until the stack ends, which cancels it and waits for its end."""
    task = asyncio.create_task(work)

    async def end() -> None:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    stack.push_async_callback(end)
