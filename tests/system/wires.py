"""A TCP proxy between a client and a server, at which connections can be cut and the server be exchanged."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from typing import Self

CHUNK_BYTES = 65_536
ANSWER_BYTES_MIN = 1_000


class Wire:
    """``async with Wire(("127.0.0.1", port)) as wire: connect(wire.address)``.

    Args:
        server: host and port; may be set anew, for connections made after.
        cuts: asked of each piece of a reply: whether it is dropped and its connection cut, both ways.
    """

    def __init__(self, server: tuple[str, int], cuts: Callable[[bytes], bool] = lambda _: False) -> None:
        self.server = server
        self.cut = 0
        self._cuts = cuts
        self._writers: set[asyncio.StreamWriter] = set()
        self._lifetime = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        listening = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        self._lifetime.callback(listening.close)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut_all()
        await self._lifetime.aclose()

    def cut_all(self) -> None:
        """Cut every connection."""
        for writer in self._writers:
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with self._held(writer):
            try:
                from_server, to_server = await asyncio.open_connection(*self.server)
            except OSError:
                return
            async with self._held(to_server):
                ways = (self._pass(reader, to_server), self._pass(from_server, writer, self._cuts))
                _, open_ways = await asyncio.wait(map(asyncio.ensure_future, ways), return_when=asyncio.FIRST_COMPLETED)
                for way in open_ways:
                    way.cancel()

    @contextlib.asynccontextmanager
    async def _held(self, writer: asyncio.StreamWriter) -> AsyncIterator[None]:
        self._writers.add(writer)
        try:
            yield
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _pass(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, cuts: Callable[[bytes], bool] = lambda _: False
    ) -> None:
        with contextlib.suppress(OSError):
            while piece := await source.read(CHUNK_BYTES):
                if cuts(piece):
                    self.cut += 1
                    return
                sink.write(piece)
                await sink.drain()


def at_random(share: float, seed: int) -> Callable[[bytes], bool]:
    """Say yes to a share of the pieces with answers in them; what gRPC says of itself is smaller."""
    draw = random.Random(seed)
    return lambda piece: len(piece) > ANSWER_BYTES_MIN and draw.random() < share
