"""Child processes with a lifetime: they never outlive the process that started them."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def dying_with_parent(death_signal: signal.Signals = signal.SIGKILL) -> Callable[[], None]:
    """What a child runs between fork and exec (``preexec_fn``) so that it ends when its parent does.

    The child also gets a session of its own: a Ctrl-C at the terminal reaches only the parent, which then
    stops its children in its own order. Linux only; elsewhere the child merely gets its session.

    Args:
        death_signal: what the kernel sends to the child when the parent's thread that started it is gone.
    """
    parent = os.getpid()

    def prepare() -> None:
        os.setsid()
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
            if os.getppid() != parent:  # the parent died in between: nobody is left to send the signal
                os._exit(1)

    return prepare


async def stop(process: asyncio.subprocess.Process, grace_s: float) -> int:
    """Ask a child to end (SIGTERM), and kill it when it has not done so in ``grace_s`` seconds.

    Returns:
        Its exit status; negative when a signal ended it.
    """
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(grace_s):
                return await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    return await process.wait()
