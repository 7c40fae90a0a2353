"""An event loop without threads, sockets or waiting: time jumps to the next timer, and what is ready runs in an order
that the seed decides.

What runs belongs to an actor (a process of the simulation) or to the world. An actor that has crashed runs nothing any
more: no `finally`, no answer that was on its way. One that is paused runs later.
"""

import asyncio
import heapq
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")

STEPS_MAX = 1_000_000
"""Steps of one run: more is a loop that never ends."""


class Actor:
    """A process of the simulation, from its start to its crash."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.paused = False
        self.steps_left: int | None = None
        """Steps until it crashes, if that was decided."""
        self.on_crash: Callable[[], None] = lambda: None
        self.context = Context()
        self.context.run(ACTOR.set, self)


ACTOR: ContextVar[Actor] = ContextVar("actor")
WORLD = Context()
"""What belongs to no process: messages on their way, servers, faults."""


class StuckError(AssertionError):
    """Nothing can happen any more though something is waited for, or too much happened."""


class SimulatedLoop(asyncio.AbstractEventLoop):
    """The loop of one run; `random` decides everything that is left open."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._now = 0.0
        self._ready: list[asyncio.Handle] = []
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._number = 0
        self._tasks: list[tuple[asyncio.Task[Any], Actor | None]] = []
        self._held: list[asyncio.Handle] = []
        self._ending = False
        self.steps = 0
        self.unseen: list[str] = []
        """Failures of tasks that nobody looked at."""

    # --- what asyncio asks of a loop -----------------------------------------------------------------------------

    def time(self) -> float:
        return self._now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._number += 1
        heapq.heappush(self._timers, (when, self._number, handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None: ...

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[T]:
        task: asyncio.Task[T] = asyncio.Task(coro, loop=self, name=name or "task", context=context)
        owner = context.get(ACTOR) if context else ACTOR.get(None)
        self._tasks.append((task, owner))  # nothing ends because nobody holds it
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self._ending:
            self.unseen.append(f"{context['message']}: {context.get('exception')!r}")

    # --- running -------------------------------------------------------------------------------------------------

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run until `work` is done, then end everything else."""
        asyncio._set_running_loop(self)
        try:
            task = self.create_task(work, context=WORLD.copy())
            while not task.done():
                self._step()
            return task.result()
        finally:
            self._end()
            asyncio._set_running_loop(None)

    def resume(self, actor: Actor) -> None:
        """Let a paused actor go on."""
        actor.paused = False
        released = [handle for handle in self._held if handle._context.get(ACTOR, None) is actor]  # type: ignore[attr-defined]
        self._held = [handle for handle in self._held if handle._context.get(ACTOR, None) is not actor]  # type: ignore[attr-defined]
        self._ready += released

    def _step(self) -> None:
        self.steps += 1
        if self.steps > STEPS_MAX:
            raise StuckError("the run does not end")
        ready = self._ready
        if not ready and not self._advance():
            raise StuckError("nothing can happen any more")
        last = len(ready) - 1
        if last > 0:
            chosen = int(self._random.random() * (last + 1))
            ready[chosen], ready[last] = ready[last], ready[chosen]
        self._run(ready.pop())

    def _advance(self) -> bool:
        timers = self._timers
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)
        if not timers:
            return False
        self._now = max(self._now, timers[0][0])
        while timers and timers[0][0] <= self._now:
            handle = heapq.heappop(timers)[2]
            if not handle.cancelled():
                self._ready.append(handle)
        return True

    def _run(self, handle: asyncio.Handle) -> None:
        if handle.cancelled():
            return
        actor = handle._context.get(ACTOR, None)  # type: ignore[attr-defined]
        if actor is not None and not self._ending:
            if actor.dead or actor.paused:
                self._held.append(handle)
                return
            if actor.steps_left is not None:
                actor.steps_left -= 1
                if actor.steps_left < 0:
                    self._held.append(handle)
                    actor.on_crash()
                    return
        handle._run()

    def _end(self) -> None:
        """Cancel what is left, of dead actors too, so that nothing is ended later by the garbage collector."""
        self._ending = True
        failed = [task for task, owner in self._tasks if (owner is None or not owner.dead) and _has_failed(task)]
        self._ready += self._held
        self._held.clear()
        for task, _ in self._tasks:
            if not task.done():
                task.cancel()
        for _ in range(STEPS_MAX):
            if not self._ready:
                break
            self._run(self._ready.pop(0))
        self.unseen += [f"nobody looked at {task.exception()!r}" for task in failed if _has_failed(task)]
        for task, _ in self._tasks:
            if task.done() and not task.cancelled():
                task.exception()  # seen


def _has_failed(task: asyncio.Task[Any]) -> bool:
    """Whether a task failed, and nobody has looked at why."""
    return task.done() and not task.cancelled() and bool(task._log_traceback)
