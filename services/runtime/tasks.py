"""Work in the background of a service, ended with the stack that holds what it needs."""

import asyncio
import signal
from collections.abc import Coroutine
from contextlib import AsyncExitStack, suppress
from typing import Any

from services.runtime.telemetry import logger

log = logger("tasks")


def background(stack: AsyncExitStack, work: Coroutine[Any, Any, None]) -> None:
    """Run something until the stack ends, which cancels it and waits for its end.

    If it fails, the process ends: whoever watches it starts it anew, which is better than half a service.
    """
    task = asyncio.create_task(work)
    task.add_done_callback(_end_process_if_failed)

    async def end() -> None:
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):  # a failure is logged
            await task

    stack.push_async_callback(end)


def _end_process_if_failed(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("background work failed; the process ends", exc_info=error)
        signal.raise_signal(signal.SIGTERM)
