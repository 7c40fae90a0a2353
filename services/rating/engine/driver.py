"""Calls the Function of a cell, reads balances, and loads a cell's state anew."""

import asyncio
import hashlib
import os
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError, RedisError, ResponseError

from services.common.clock import DAY_MS
from services.common.errors import UnavailableError
from services.rating.domain.balances import Holder
from services.rating.domain.decisions import (
    MARK_BYTES,
    NO_MARK,
    Decided,
    Op,
    Purpose,
    Segment,
    SessionImage,
    SessionState,
    StateLostError,
    closed,
    last_mark,
)
from services.rating.domain.escrow import Slice
from services.rating.engine.wire import Batch, ProgramWires, read_holder, read_outcomes, read_session, read_slice
from services.rating.ports import AnsweredId
from services.runtime.valkey_cluster import node_of

SOURCE = Path(__file__).with_name("meterline.lua").read_text()
CALL_SECONDS = 5.0
LOAD_CHUNK = 500
LOAD_WORDS = 3 * 1500
"""Words of one step that loads images: name, image, how long it is kept; Lua takes some 8,000 at once."""
FOR_EVER = ""
CLOSED_SESSION_KEPT_MS = 2 * DAY_MS
"""How long a closed session is known after its end; the Function keeps it for a day from when it was closed."""
IDS_CHUNK = 2000
REBUILD_SILENCE_SECONDS = 15
"""A rebuild that has done nothing for so long is taken to be dead, and another process may begin one."""


log = structlog.get_logger(part="balances")


def away(error: Exception) -> UnavailableError:
    """The error for a Valkey that does not answer, or answers that it cannot."""
    what = "does not answer; try again"
    if isinstance(error, OutOfMemoryError):
        what = "is full; give it more memory (maxmemory), then try again"
    elif isinstance(error, ResponseError):
        what = "refuses the call; rating's log says why"
        log.error("valkey refuses", error=str(error))
    return UnavailableError("BALANCES_UNAVAILABLE", f"The balance store {what}.", retry_after_ms=500)


@contextmanager
def _translated() -> Iterator[None]:
    """Say UNAVAILABLE where Valkey is away."""
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise away(error) from error


@cache
def _named(source: str) -> tuple[str, str]:
    """The Function with its version in all of its names, and that version: others may stand beside it."""
    version = hashlib.sha256(source.encode()).hexdigest()[:12]
    return re.sub(r"(#!lua name=|register_function\(')(\w+)", rf"\1\2_{version}", source), version


class Engine:
    """The Function and the keys of one cell.

    Args:
        client: a connection pool to the server that holds the cell, without decoding.
        cell: number of the cell.
        new_mark: makes the mark of a segment, different each time.
        source: the Function. Processes with another one may use the same cell, each calls its own.
    """

    def __init__(
        self,
        client: Redis,
        cell: int,
        new_mark: Callable[[], bytes] = lambda: os.urandom(MARK_BYTES),
        source: str = SOURCE,
    ) -> None:
        self._library, version = _named(source)
        self._decide = f"decide_{version}"
        self._version = version
        self._client: Any = client
        self._new_mark = new_mark
        self.cell = cell
        self.tag = f"{{c{cell}}}"
        self.meta_key = f"{self.tag}m"
        self._stream_key = f"{self.tag}j"
        self._wires = ProgramWires()
        self._rebuild = (0, 0)

    async def install(self) -> None:
        """Load the Function into the server that holds the cell, beside those of other versions.

        Raises:
            UnavailableError: VALKEY_EVICTS: the server may forget balances by itself.
        """
        with _translated():
            at = await node_of(self._client, self.meta_key)
            memory = await self._client.execute_command("INFO", "memory", **at)
            if memory["maxmemory"] and memory["maxmemory_policy"] != "noeviction":
                raise UnavailableError(
                    "VALKEY_EVICTS",
                    f"The balance store evicts keys ({memory['maxmemory_policy']}) and would forget what was charged. "
                    "Set its maxmemory-policy to noeviction.",
                    retry_after_ms=10_000,
                )
            await self._client.execute_command("FUNCTION LOAD", "REPLACE", self._library, **at)

    async def decide(
        self,
        ops: Sequence[Op],
        expected: Mapping[str, int],
        epoch: int,
        least: int,
        now_ms: int,
        ids_ttl_ms: int,
        purpose: Purpose = Purpose.DECIDE,
    ) -> Decided:
        """Decide operations in their order; safe to repeat.

        Args:
            ops: the operations, up to 1000 or so.
            expected: version of the configuration of each holder that they touch; another one makes them STALE.
            epoch: epoch of the cell.
            least: sequence up to which the journal is known to reach.
            now_ms: the time, milliseconds since 1970.
            ids_ttl_ms: how long answered ids are remembered.
            purpose: only DECIDE changes anything and makes a segment.

        Raises:
            CellClosedError: the cell's state is not of this epoch, or older than `least`.
            UnavailableError: Valkey does not answer; whether it decided is not known.
        """
        arguments = Batch(ops, self._wires).arguments(
            [epoch, least, now_ms, ids_ttl_ms, least], expected, self._new_mark(), purpose
        )
        try:
            async with asyncio.timeout(CALL_SECONDS):
                reply = await self._client.execute_command("FCALL", self._decide, 1, self.meta_key, *arguments)
        except ResponseError as error:
            if "unction not found" in str(error):
                await self.install()
                raise closed("the server is new") from error
            raise away(error) from error
        except (RedisError, OSError, TimeoutError) as error:
            raise away(error) from error
        if reply[0] == b"FORGOT":
            raise closed("the balance store forgot ids that it had answered", StateLostError)
        if isinstance(reply[0], bytes):
            raise closed(f"{reply[0].decode()} {reply[1].decode()}")
        sequence, packed, images = reply
        outcomes = read_outcomes(packed)
        segment = Segment(sequence, now_ms, arguments[2], packed, images) if images else None
        return Decided(sequence, last_mark(packed), outcomes, segment)

    async def segments(self, first: int, last: int) -> list[Segment]:
        """Read decided segments from the cell's stream: those whose deciders did not journal them."""
        with _translated():
            entries = await self._client.xrange(self._stream_key, f"{first}-0", f"{last}-0")
        return [
            Segment(int(name.partition(b"-")[0]), int(fields[b"t"]), fields[b"r"], fields[b"o"], fields[b"i"])
            for name, fields in entries
        ]

    async def position(self) -> tuple[int, int] | None:
        """Epoch and sequence of the cell's state; None if there is none."""
        with _translated():
            epoch, sequence = await self._client.hmget(self.meta_key, "epoch", "sequence")
        return (int(epoch), int(sequence)) if epoch and sequence else None

    async def holders(self, holder_ids: Iterable[str]) -> dict[str, Holder]:
        """Read holders as they stand; those that have never been used are left out."""
        names = list(holder_ids)
        with _translated():
            images = await self._client.mget([f"{self.tag}h:{name}" for name in names])
        return {name: read_holder(name, image) for name, image in zip(names, images, strict=True) if image is not None}

    async def slices(self, keys: Sequence[tuple[str, int]]) -> list[Slice]:
        """Read slices as they stand, by holder and kind; what is read may not be durable yet."""
        with _translated():
            images = await self._client.mget([f"{self.tag}{kind}:{name}" for name, _ in keys for kind in ("h", "l")])
        return [read_slice(images[2 * n], images[2 * n + 1], kind) for n, (_, kind) in enumerate(keys)]

    async def session(self, session_id: str) -> SessionImage | None:
        """Read a session."""
        with _translated():
            image = await self._client.get(f"{self.tag}s:{session_id}")
        return read_session(image) if image is not None else None

    async def _names(self, pattern: str) -> AsyncIterator[list[bytes]]:
        """Yield the names of keys, some hundred at a time."""
        chunk: list[bytes] = []
        escaped = pattern.replace("{", "[{]").replace("}", "[}]")
        at = await node_of(self._client, self.meta_key)
        async for name in self._client.scan_iter(match=escaped, count=1000, **at):
            chunk.append(name)
            if len(chunk) == LOAD_CHUNK:
                yield chunk
                chunk = []
        if chunk:
            yield chunk

    async def being_rebuilt(self) -> bool:
        """Whether somebody else rebuilds the cell's state at this time."""
        with _translated():
            building, built = await self._client.hmget(self.meta_key, "building", "built")
            seconds, _ = await self._client.execute_command("TIME", **await node_of(self._client, self.meta_key))
        if built is None or int(building.partition(b":")[0]) == self._rebuild[0]:
            return False
        return int(seconds) - int(built) < REBUILD_SILENCE_SECONDS

    async def begin_rebuild(self, epoch: int) -> None:
        """Close the cell; until `open`, only this rebuild changes its state.

        Raises:
            CellClosedError: there is a rebuild for this epoch or a later one.
        """
        self._rebuild = (epoch, 0)
        await self._rebuilding("begin_rebuild", epoch)

    async def _write(self, command: str, *words: Any) -> None:
        """Write as the next step of the rebuild."""
        epoch, step = self._rebuild
        self._rebuild = (epoch, step + 1)
        await self._rebuilding("rebuild", epoch, step + 1, command, *words)

    async def _rebuilding(self, function: str, *words: Any) -> None:
        with _translated():
            reply = await self._client.execute_command("FCALL", f"{function}_{self._version}", 1, self.meta_key, *words)
        if reply != b"OK":
            raise closed("another rebuild began")

    async def clear(self) -> None:
        """Delete everything of the cell that is about to be rebuilt."""
        meta_key = self.meta_key.encode()
        with _translated():
            async for chunk in self._names(f"{self.tag}*"):
                if names := [name for name in chunk if name != meta_key]:
                    await self._write("UNLINK", *names)

    async def load(self, images: Mapping[str, bytes], now_ms: int) -> None:
        """Write holders and sessions (`h:...`, `s:...`) as the journal left them, with the ends of open sessions.

        What was written before is replaced. Sessions that were closed so long ago that nobody asks are left out.
        """
        words: list[Any] = []
        forgotten: list[str] = []
        still_open: list[tuple[int, str]] = []
        ended: list[str] = []
        for name, image in images.items():
            kept_ms: int | str = FOR_EVER
            if name.startswith("s:"):
                session = read_session(image)
                if session.state is SessionState.OPEN:
                    still_open.append((session.due_ms, name[2:]))
                else:
                    ended.append(name[2:])
                    kept_ms = session.ends_ms + CLOSED_SESSION_KEPT_MS - now_ms
                    if kept_ms <= 0:
                        forgotten.append(f"{self.tag}{name}")  # it may have been loaded when it was open
                        continue
            words += (f"{self.tag}{name}", image, kept_ms)
        for start in range(0, len(words), LOAD_WORDS):
            await self._write("LOAD", *words[start : start + LOAD_WORDS])
        for start in range(0, len(forgotten), LOAD_CHUNK):
            await self._write("UNLINK", *forgotten[start : start + LOAD_CHUNK])
        for start in range(0, len(still_open), LOAD_CHUNK):
            await self._write("ZADD", f"{self.tag}x", *_flat(still_open[start : start + LOAD_CHUNK]))
        for start in range(0, len(ended), LOAD_CHUNK):
            await self._write("ZREM", f"{self.tag}x", *ended[start : start + LOAD_CHUNK])

    async def load_ids(self, answers: Iterable[AnsweredId], now_ms: int, ttl_ms: int) -> None:
        """Write ids that were answered, as if they had been answered now."""
        name = f"{self.tag}d:{now_ms // ttl_ms}"
        items = [(a.id_digest, a.body_digest + f"{a.sequence}:{a.operation + 1}".encode()) for a in answers]
        for start in range(0, len(items), IDS_CHUNK):
            await self._write("HSET", name, *_flat(items[start : start + IDS_CHUNK]))
        await self._write("PEXPIRE", name, 2 * ttl_ms)

    async def open(self, epoch: int, sequence: int, mark: bytes = NO_MARK) -> None:
        """Let the cell decide in an epoch, from the journal's last segment on: the end of its rebuild."""
        if self._rebuild[0] != epoch:
            await self.begin_rebuild(epoch)
        await self._rebuilding("end_rebuild", *self._rebuild, sequence, mark)


def _flat(pairs: Iterable[tuple[Any, Any]]) -> list[Any]:
    return [word for pair in pairs for word in pair]
