"""Runs several programs as one: started in order, watched, restarted, stopped in reverse order."""

import asyncio
import contextlib
import signal
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from services.runtime import children

START_TIMEOUT_S = 60.0
STOP_GRACE_S = 15.0
READY_INTERVAL_S = 0.05
RESTARTS_MAX = 5
RESTART_WINDOW_S = 60.0
RESTART_DELAY_S = 0.5
RESTART_DELAY_MAX_S = 8.0
TAIL_LINES = 10
TAIL_BYTES = 4_000


class ProgramFailedError(RuntimeError):
    """A program does not start, or ends again and again; the message has the end of its log."""


@dataclass(frozen=True, slots=True)
class Program:
    """What to run.

    Attributes:
        name: as people see it.
        command: the command line.
        environment: its whole environment.
        log: where its output goes.
        ready: whether it does its work; asked again and again until it does.
        folder: what it needs; made before each start if it is not there.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    ready: Callable[[], Awaitable[bool]]
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a program, from its start to its end."""

    program: Program
    process: asyncio.subprocess.Process
    log_start: int

    async def becomes_ready(self) -> bool:
        """Wait until the program is ready (true) or has ended (false)."""
        while self.process.returncode is None:
            if await self.program.ready() and self.process.returncode is None:
                return True
            await asyncio.sleep(READY_INTERVAL_S)
        return False

    def obituary(self) -> str:
        """How it ended, and the last that it wrote."""
        status = self.process.returncode or 0
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        tail = self._tail()
        return f"{self.program.name} {how}" + (f"; the end of {self.program.log}:\n{tail}" if tail else "")

    def _tail(self) -> str:
        with self.program.log.open("rb") as log:
            log.seek(max(self.log_start, self.program.log.stat().st_size - TAIL_BYTES))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-TAIL_LINES:])


@dataclass(slots=True)
class RestartBudget:
    """Permits ``RESTARTS_MAX`` restarts in any ``RESTART_WINDOW_S`` seconds, each after a longer pause."""

    _restarts: deque[float] = field(default_factory=deque)

    def next_delay_s(self, now_s: float) -> float | None:
        """How long to wait before the restart; None if there have been too many."""
        while self._restarts and self._restarts[0] <= now_s - RESTART_WINDOW_S:
            self._restarts.popleft()
        if len(self._restarts) >= RESTARTS_MAX:
            return None
        self._restarts.append(now_s)
        return min(RESTART_DELAY_S * (1 << (len(self._restarts) - 1)), RESTART_DELAY_MAX_S)


class Supervisor:
    """``async with Supervisor(...) as supervisor: await supervisor.watch()``.

    Args:
        waves: programs that start together; a wave starts when all of the one before are ready.
        tell: gets a sentence whenever something happens.

    Raises:
        ProgramFailedError: on entry, when a program ends or is not ready in ``START_TIMEOUT_S`` seconds.
    """

    def __init__(self, waves: Sequence[Sequence[Program]], tell: Callable[[str], None]) -> None:
        self._waves = waves
        self._tell = tell
        self._runs: dict[str, Run] = {}
        self._ready: set[str] = set()
        self._budgets = {program.name: RestartBudget() for wave in waves for program in wave}

    async def __aenter__(self) -> Self:
        """Start everything."""
        try:
            for wave in self._waves:
                async with asyncio.timeout(START_TIMEOUT_S):
                    await _together(self._start_first_time(program) for program in wave)
        except TimeoutError:
            await self.stop()
            late = ", ".join(f"{program.name} ({program.log})" for program in wave if program.name not in self._ready)
            raise ProgramFailedError(f"not ready in {START_TIMEOUT_S:.0f} s, their logs may say why: {late}") from None
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_exc_info: object) -> None:
        """Stop everything, in reverse order."""
        await self.stop()

    async def watch(self) -> None:
        """Restart what ends, until cancelled.

        Raises:
            ProgramFailedError: a program has ended too often.
        """
        await _together(self._watch(program) for wave in self._waves for program in wave)

    async def stop(self) -> None:
        """Ask each wave to finish what it does, the last one first; what does not end in time is killed."""
        for wave in reversed(self._waves):
            await _together(self._stop(program) for program in wave)

    def kill(self) -> None:
        """End everything at once."""
        for run in self._runs.values():
            with contextlib.suppress(ProcessLookupError):
                run.process.kill()

    def send(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a program by its name: to hold one up, or to see what its death does."""
        self._runs[name].process.send_signal(number)

    async def _start_first_time(self, program: Program) -> None:
        started = time.monotonic()
        run = await self._spawn(program)
        if not await run.becomes_ready():
            raise ProgramFailedError(run.obituary())
        self._ready.add(program.name)
        self._tell(f"{program.name} is ready ({time.monotonic() - started:.1f} s)")

    async def _spawn(self, program: Program) -> Run:
        if program.folder is not None:
            program.folder.mkdir(mode=0o700, exist_ok=True)
        with program.log.open("ab") as log:
            log_start = log.tell()
            process = await asyncio.create_subprocess_exec(
                *program.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=program.environment,
                preexec_fn=children.dying_with_parent(),
            )
        self._runs[program.name] = run = Run(program, process, log_start)
        return run

    async def _watch(self, program: Program) -> None:
        while True:
            run = self._runs[program.name]
            await run.process.wait()
            delay_s = self._budgets[program.name].next_delay_s(time.monotonic())
            if delay_s is None:
                often = f"more than {RESTARTS_MAX} times in {RESTART_WINDOW_S:.0f} s"
                raise ProgramFailedError(f"{program.name} has ended {often}. The last time, {run.obituary()}")
            self._tell(f"{run.obituary()}\n{program.name} starts again in {delay_s:.1f} s")
            await asyncio.sleep(delay_s)
            if await (await self._spawn(program)).becomes_ready():
                self._tell(f"{program.name} is ready again")

    async def _stop(self, program: Program) -> None:
        run = self._runs.get(program.name)
        if run is None or run.process.returncode is not None:
            return
        status = await children.stop(run.process, STOP_GRACE_S)
        self._tell(f"{program.name} was killed" if status == -signal.SIGKILL else f"{program.name} has stopped")


async def _together(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all at the same time; the first failure cancels the others and is raised as it is."""
    tasks = [asyncio.create_task(part) for part in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
