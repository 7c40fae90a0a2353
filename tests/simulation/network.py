"""Messages between the parts of the simulation: late, lost, doubled, in another order."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from hashlib import blake2b
from random import Random
from typing import Any, TypeVar

from tests.simulation.loop import ACTOR, WORLD, Actor, SimulatedLoop

T = TypeVar("T")

LINES_KEPT = 400


class Trace:
    """What happened, line by line; the digest stands for all of it."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop
        self._digest = blake2b(digest_size=16)
        self.lines: list[str] = []

    def __call__(self, text: str) -> None:
        actor = ACTOR.get(None)
        line = f"{self._loop.time():10.4f} {actor.name if actor else '-':10} {text}"
        self._digest.update(line.encode())
        self.lines.append(line)
        if len(self.lines) > 2 * LINES_KEPT:
            del self.lines[:LINES_KEPT]

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()


@dataclass
class Weather:
    """How bad the network is; probabilities for one message."""

    lost: float = 0.0
    doubled: float = 0.0
    slow: float = 0.0
    very_slow: float = 0.0


class Server:
    """Something that answers messages: a store, or a process that clients call."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.refuses = False
        """It is not there: whoever calls is told at once."""
        self.silent = False
        """It hangs: nobody is told anything."""
        self.actor: Actor | None = None
        """The process that does what arrives; None if it is done at once."""


class LostError(Exception):
    """No answer came in time: whether it happened is not known."""


class RefusedError(Exception):
    """The server is not there: it did not happen."""


class Network:
    """Carries calls; a call happens when its message arrives, if it does, and as often as it does."""

    def __init__(self, loop: SimulatedLoop, random: Random, trace: Trace) -> None:
        self._loop = loop
        self._random = random
        self._trace = trace
        self.weather = Weather()
        self.cut: set[tuple[str, str]] = set()
        """Pairs of actor and server between which nothing arrives."""

    def _delay(self) -> float:
        random, weather = self._random, self.weather
        dice = random.random()
        if dice < weather.very_slow:
            return random.uniform(0.5, 8.0)
        if dice < weather.very_slow + weather.slow:
            return random.uniform(0.005, 0.5)
        return random.uniform(0.0001, 0.002)

    async def call(
        self, server: Server, name: str, happen: Callable[[], T | Coroutine[Any, Any, T]], timeout: float
    ) -> T:
        """Send a call; it happens at the server, at once or, if the server is a process, as a task of it.

        Raises:
            LostError: no answer within `timeout` seconds.
            RefusedError: the server is not there.
        """
        sender = ACTOR.get(None)
        wire = (sender.name if sender else "-", server.name)
        answer: asyncio.Future[T] = self._loop.create_future()
        copies = 2 if self._random.random() < self.weather.doubled else 1
        for _ in range(copies):
            if self._random.random() < self.weather.lost or wire in self.cut:
                self._trace(f"lost {name} to {server.name}")
                continue
            self._loop.call_later(self._delay(), self._arrive, server, name, happen, answer, wire, context=WORLD)
        timer = self._loop.call_later(timeout, _set, answer, LostError(name), context=WORLD)
        try:
            return await answer
        finally:
            timer.cancel()

    def _arrive(
        self, server: Server, name: str, happen: Any, answer: asyncio.Future[Any], wire: tuple[str, str]
    ) -> None:
        if server.silent:
            return
        if server.refuses:
            self._reply(answer, RefusedError(name), wire)
            return
        self._trace(f"{wire[0]} -> {server.name} {name}")
        if server.actor is None:
            try:
                result = happen()
            except Exception as error:  # noqa: BLE001 - the caller gets it
                result = error
            self._reply(answer, result, wire)
        else:
            task = self._loop.create_task(happen(), context=server.actor.context.copy())
            task.add_done_callback(lambda done: self._answered(answer, done, wire))

    def _answered(self, answer: asyncio.Future[Any], task: asyncio.Task[Any], wire: tuple[str, str]) -> None:
        if not task.cancelled():
            self._reply(answer, task.exception() or task.result(), wire)

    def _reply(self, answer: asyncio.Future[Any], result: Any, wire: tuple[str, str]) -> None:
        if self._random.random() < self.weather.lost or wire in self.cut:
            return
        self._loop.call_later(self._delay(), _set, answer, result, context=WORLD)


def _set(answer: asyncio.Future[Any], result: Any) -> None:
    if answer.done():
        return
    if isinstance(result, BaseException):
        answer.set_exception(result)
        answer.exception()  # nobody may be left to look at it
    else:
        answer.set_result(result)
