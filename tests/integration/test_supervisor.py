"""Several programs run as one: in order, watched, restarted within bounds, stopped in reverse order."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from cli import supervisor
from cli.supervisor import Program, ProgramFailedError, RestartBudget, Supervisor

SERVE = """
import pathlib, signal, sys, time
name, folder = sys.argv[1], pathlib.Path(sys.argv[2])
def note(what): print(what, flush=True); (folder / "order").open("a").write(f"{name} {what}\\n")
def finish(*_): note("finished"); sys.exit()
signal.signal(signal.SIGTERM, finish)
note("started"); (folder / name).touch()
while True: time.sleep(1)
"""
CRASH = "import sys; print('out of luck'); sys.exit(3)"
IGNORE = "import signal, sys, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nopen(sys.argv[2] + '/' + sys.argv[1], 'w')\ntime.sleep(60)"


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., Program]:
    """A program that is ready when it has made the file of its name."""

    def make(name: str, source: str = SERVE) -> Program:
        async def ready() -> bool:
            return (tmp_path / name).exists()

        command = [sys.executable, "-c", source, name, str(tmp_path)]
        return Program(name, command, {}, tmp_path / f"{name}.log", ready)

    return make


@contextlib.asynccontextmanager
async def watching(running: Supervisor) -> AsyncIterator[asyncio.Task[None]]:
    watch = asyncio.create_task(running.watch())
    try:
        yield watch
    finally:
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)


def is_ours(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and process.cmdline()[:2] == [sys.executable, "-c"]
    except psutil.Error:  # it ended while we looked
        return False


def children() -> list[psutil.Process]:
    """Our programs that live; the servers of other tests are children of this process too."""
    return [child for child in psutil.Process().children() if is_ours(child)]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_waves_start_in_order_and_stop_in_reverse_order(program, told, tmp_path: Path):
    async with Supervisor([[program("first")], [program("second")], [program("third")]], told.append):
        pass
    order = (tmp_path / "order").read_text().splitlines()
    assert order == [f"{n} started" for n in ("first", "second", "third")] + [
        f"{n} finished" for n in ("third", "second", "first")
    ]
    assert told[-1] == "first has stopped"
    assert children() == []


async def test_a_program_that_does_not_start_stops_all_and_shows_the_end_of_its_log(program, told):
    with pytest.raises(ProgramFailedError, match=r"(?s)broken ended with status 3.*out of luck"):
        async with Supervisor([[program("first")], [program("broken", CRASH), program("other")]], told.append):
            pytest.fail("it was said to run")
    assert "first has stopped" in told
    assert children() == []


async def test_a_program_that_is_never_ready_is_given_up(program, told, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(supervisor, "START_TIMEOUT_S", 2.0)
    mute = program("mute", "import time; time.sleep(60)")
    with pytest.raises(ProgramFailedError) as raised:
        async with Supervisor([[program("ready"), mute]], told.append):
            pass
    assert str(raised.value) == f"not ready in 2 s, their logs may say why: mute ({mute.log})"
    assert children() == []


async def test_a_killed_program_is_reported_and_starts_again(program, told, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(supervisor, "RESTART_DELAY_S", 0.01)
    async with Supervisor([[program("one")]], told.append) as running, watching(running):
        (victim,) = children()
        victim.send_signal(signal.SIGKILL)
        await until(lambda: "one is ready again" in told)
        (successor,) = children()
        assert successor.pid != victim.pid
    assert any("one was ended by SIGKILL" in message for message in told)
    assert children() == []


async def test_a_folder_that_a_program_needs_is_made_before_each_start(
    program, told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(supervisor, "RESTART_DELAY_S", 0.01)
    folder = tmp_path / "needed"
    async with Supervisor([[replace(program("one"), folder=folder)]], told.append) as running, watching(running):
        folder.rmdir()
        (victim,) = children()
        victim.kill()
        await until(lambda: "one is ready again" in told)
        assert folder.stat().st_mode & 0o777 == 0o700


async def test_a_program_that_ends_again_and_again_ends_the_whole(program, told, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(supervisor, "RESTART_DELAY_S", 0.001)
    fickle = "import pathlib, sys, time\npathlib.Path(sys.argv[2], sys.argv[1]).touch()\ntime.sleep(0.1)\nsys.exit('bad day')"
    with pytest.raises(ProgramFailedError, match=r"(?s)has ended more than 5 times.*bad day"):
        async with Supervisor([[program("steady")], [program("fickle", fickle)]], told.append) as running:
            await running.watch()
    assert "steady has stopped" in told
    assert children() == []


async def test_a_program_that_does_not_stop_is_killed(program, told, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(supervisor, "STOP_GRACE_S", 0.2)
    async with Supervisor([[program("deaf", IGNORE)]], told.append):
        pass
    assert told[-1] == "deaf was killed"


async def test_kill_ends_everything_at_once(program, told):
    async with Supervisor([[program("deaf", IGNORE), program("other")]], told.append) as running:
        running.kill()
        await until(lambda: not children())


def test_restarts_are_bounded_and_their_pauses_grow():
    budget = RestartBudget()
    assert [budget.next_delay_s(now) for now in range(6)] == [0.5, 1.0, 2.0, 4.0, 8.0, None]
    assert budget.next_delay_s(supervisor.RESTART_WINDOW_S) == 8.0  # the first one has left the window
    assert budget.next_delay_s(10 * supervisor.RESTART_WINDOW_S) == 0.5
