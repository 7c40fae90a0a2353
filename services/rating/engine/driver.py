"""Calls the Function of a cell, reads balances, and loads a cell's state anew."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from services.common.errors import UnavailableError
from services.rating.domain.balances import Holder
from services.rating.domain.decisions import Decided, Op, Purpose, Segment, SessionImage, SessionState, closed
from services.rating.engine.wire import Batch, ProgramWires, read_holder, read_outcomes, read_session
from services.rating.ports import AnsweredId

LIBRARY = Path(__file__).with_name("meterline.lua")
CALL_SECONDS = 5.0
LOAD_CHUNK = 500
IDS_CHUNK = 2000


def away() -> UnavailableError:
    """The error for a Valkey that does not answer."""
    return UnavailableError("BALANCES_UNAVAILABLE", "The balance store does not answer; try again.", retry_after_ms=500)


@contextmanager
def _translated() -> Iterator[None]:
    """Say UNAVAILABLE where Valkey is away."""
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise away() from error


class Engine:
    """The Function and the keys of one cell.

    Args:
        client: a connection pool to the server that holds the cell, without decoding.
        cell: number of the cell.
    """

    def __init__(self, client: Redis, cell: int) -> None:
        self._client: Any = client
        self.cell = cell
        self.tag = f"{{c{cell}}}"
        self.meta_key = f"{self.tag}m"
        self._stream_key = f"{self.tag}j"
        self._wires = ProgramWires()

    async def install(self) -> None:
        """Load the Function into the server, in place of an older one."""
        with _translated():
            await self._client.function_load(LIBRARY.read_text(), replace=True)

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
        arguments = Batch(ops, self._wires).arguments([epoch, least, now_ms, ids_ttl_ms, least], expected, purpose)
        try:
            reply = await asyncio.wait_for(
                self._client.execute_command("FCALL", "decide", 1, self.meta_key, *arguments), CALL_SECONDS
            )
        except ResponseError as error:
            if "unction not found" in str(error):
                await self.install()
                raise closed("the server is new") from error
            raise away() from error
        except (RedisError, OSError, TimeoutError) as error:
            raise away() from error
        if isinstance(reply[0], bytes):
            raise closed(f"{reply[0].decode()} {reply[1].decode()}")
        sequence, packed, images = reply
        outcomes, _ = read_outcomes(packed)
        segment = Segment(sequence, now_ms, arguments[2], packed, images) if images else None
        return Decided(sequence, outcomes, segment)

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

    async def session(self, session_id: str) -> SessionImage | None:
        """Read a session."""
        with _translated():
            image = await self._client.get(f"{self.tag}s:{session_id}")
        return read_session(image) if image is not None else None

    async def _names(self, pattern: str) -> AsyncIterator[list[bytes]]:
        """Yield the names of keys, some hundred at a time."""
        chunk: list[bytes] = []
        escaped = pattern.replace("{", "[{]").replace("}", "[}]")
        async for name in self._client.scan_iter(match=escaped, count=1000):
            chunk.append(name)
            if len(chunk) == LOAD_CHUNK:
                yield chunk
                chunk = []
        if chunk:
            yield chunk

    async def clear(self) -> None:
        """Delete everything of the cell."""
        with _translated():
            async for chunk in self._names(f"{self.tag}*"):
                await self._client.unlink(*chunk)

    async def load(self, images: Mapping[str, bytes]) -> None:
        """Write holders and sessions (`h:...`, `s:...`) as the journal left them, with the ends of open sessions."""
        with _translated():
            items = [(f"{self.tag}{name}", image) for name, image in images.items()]
            for start in range(0, len(items), LOAD_CHUNK):
                await self._client.mset(dict(items[start : start + LOAD_CHUNK]))
            ends = {name[2:]: read_session(image) for name, image in images.items() if name.startswith("s:")}
            still_open = {name: s.valid_until_ms for name, s in ends.items() if s.state is SessionState.OPEN}
            if still_open:
                await self._client.zadd(f"{self.tag}x", still_open)

    async def load_ids(self, answers: Iterable[AnsweredId], now_ms: int, ttl_ms: int) -> None:
        """Write ids that were answered, as if they had been answered now."""
        with _translated():
            name = f"{self.tag}d:{now_ms // ttl_ms}"
            chunk: dict[bytes, bytes] = {}
            for answered in answers:
                chunk[answered.id_digest] = (
                    answered.body_digest + f"{answered.sequence}:{answered.operation + 1}".encode()
                )
                if len(chunk) == IDS_CHUNK:
                    await self._client.hset(name, mapping=chunk)
                    chunk = {}
            if chunk:
                await self._client.hset(name, mapping=chunk)
            await self._client.pexpire(name, 2 * ttl_ms)

    async def open(self, epoch: int, sequence: int) -> None:
        """Let the cell decide in an epoch, from a sequence on."""
        with _translated():
            await self._client.hset(self.meta_key, mapping={"epoch": epoch, "sequence": sequence})
