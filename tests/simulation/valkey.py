"""A Valkey of plain dictionaries that runs the real Function, and a client of it with the methods that the driver uses."""

import fnmatch
from collections.abc import AsyncIterator, Callable
from copy import copy
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import lupa.lua51
from redis.exceptions import ConnectionError as NoConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as NoAnswerError

from tests.simulation.network import LostError, Network, RefusedError, Server

CMSGPACK = Path(__file__).with_name("cmsgpack.lua")
SOCKET_TIMEOUT_S = 1.0
SCAN_PAGE = 8


@dataclass
class Stream:
    """A stream: numbered entries, and the largest number that it ever had."""

    entries: list[tuple[int, dict[bytes, bytes]]] = field(default_factory=list)
    top: int = 0


class Function:
    """The Function in a Lua of its own; which keys it works on is said before each call."""

    def __init__(self, source: str) -> None:
        self.keys = Keys()
        lua = lupa.lua51.LuaRuntime(encoding=None, unpack_returned_tuples=True)
        self._table: Callable[..., Any] = lua.table_from
        functions: dict[bytes, Any] = {}
        redis = lua.table()
        redis[b"call"] = self._call
        redis[b"register_function"] = functions.__setitem__
        lua.globals()[b"redis"] = redis
        lua.execute(CMSGPACK.read_bytes())
        lua.execute(source.partition("\n")[2].encode())
        self._functions = functions

    def __call__(self, keys: "Keys", name: str, names: list[bytes], arguments: list[bytes]) -> Any:
        self.keys = keys
        function = self._functions.get(name.encode())
        if function is None:
            raise ResponseError("Function not found")
        try:
            reply = function(self._table(names), self._table(arguments))
        except lupa.lua51.LuaError as error:
            raise ResponseError(str(error)) from error
        return self._reply(reply)

    def _reply(self, value: Any) -> Any:
        if isinstance(value, float):
            return int(value)
        if value is False or value is True:
            return 1 if value else None
        if value is None or isinstance(value, bytes | int):
            return value
        return [self._reply(value[index]) for index in range(1, len(value) + 1)]

    def _call(self, command: bytes, *arguments: bytes | float) -> Any:
        words = [word if isinstance(word, bytes) else b"%.17g" % word for word in arguments]
        reply = getattr(self.keys, command.decode().lower())(*words)
        if isinstance(reply, list):
            return self._table([False if each is None else each for each in reply])
        return False if reply is None else reply


@cache
def _function(source: str) -> Function:
    """It keeps nothing between calls, so all runs of a process share one."""
    return Function(source)


class Keys:
    """The keys of a Valkey, with the commands that Function and driver use; the time is told before."""

    def __init__(self) -> None:
        self.values: dict[bytes, Any] = {}
        self.ends: dict[bytes, int] = {}
        self.now_ms = 0

    def copy(self) -> "Keys":
        """The same keys, independent of these."""
        other = Keys()
        other.values = {name: value if isinstance(value, bytes) else copy(value) for name, value in self.values.items()}
        other.ends = dict(self.ends)
        return other

    def expire(self, now_ms: int) -> None:
        """Forget what has ended."""
        self.now_ms = now_ms
        for name in [name for name, end in self.ends.items() if end <= now_ms]:
            self.unlink(name)

    def get(self, name: bytes) -> Any:
        return self.values.get(name)

    def set(self, name: bytes, value: bytes, px: bytes = b"", milliseconds: bytes = b"") -> None:
        assert px in {b"", b"PX"}
        self.values[name] = value
        self.ends.pop(name, None)
        if px:
            self.ends[name] = self.now_ms + int(milliseconds)

    def mget(self, *names: bytes) -> list[Any]:
        return [self.values.get(name) for name in names]

    def mset(self, *flat: bytes) -> None:
        for name, value in zip(flat[::2], flat[1::2], strict=True):
            self.set(name, value)

    def hmget(self, name: bytes, *fields: bytes) -> list[Any]:
        found = self.values.get(name, {})
        return [found.get(each) for each in fields]

    def hlen(self, name: bytes) -> int:
        return len(self.values.get(name, {}))

    def hset(self, name: bytes, *flat: bytes) -> int:
        self.values.setdefault(name, {}).update(zip(flat[::2], flat[1::2], strict=True))
        return len(flat) // 2

    def hdel(self, name: bytes, *fields: bytes) -> int:
        found = self.values.get(name, {})
        gone = sum(found.pop(each, None) is not None for each in fields)
        if name in self.values and not found:
            self.unlink(name)
        return gone

    def time(self) -> list[bytes]:
        return [b"%d" % (self.now_ms // 1000), b"%d" % (self.now_ms % 1000 * 1000)]

    def pexpire(self, name: bytes, milliseconds: bytes) -> int:
        if name not in self.values:
            return 0
        self.ends[name] = self.now_ms + int(milliseconds)
        return 1

    def unlink(self, *names: bytes) -> int:
        gone = 0
        for name in names:
            gone += self.values.pop(name, None) is not None
            self.ends.pop(name, None)
        return gone

    def zadd(self, name: bytes, *flat: bytes) -> int:
        found = self.values.setdefault(name, {})
        for score, member in zip(flat[::2], flat[1::2], strict=True):
            found[member] = float(score)
        return len(flat) // 2

    def zrem(self, name: bytes, *members: bytes) -> int:
        return self.hdel(name, *members)

    def zrangebyscore(self, name: bytes, low: bytes, high: bytes, *limit: bytes) -> list[bytes]:
        assert low == b"-inf"
        assert limit[:2] == (b"LIMIT", b"0")
        found = sorted((score, member) for member, score in self.values.get(name, {}).items() if score <= float(high))
        return [member for _, member in found[: int(limit[2])]]

    def xadd(self, name: bytes, minid: bytes, least: bytes, entry: bytes, *flat: bytes) -> bytes:
        assert minid == b"MINID"
        stream: Stream = self.values.setdefault(name, Stream())
        number = int(entry.partition(b"-")[0])
        if number <= stream.top:
            raise ResponseError("The ID specified in XADD is equal or smaller than the target stream top item")
        stream.top = number
        first = int(least.partition(b"-")[0])
        entries = [*stream.entries, (number, dict(zip(flat[::2], flat[1::2], strict=True)))]
        stream.entries = [each for each in entries if each[0] >= first]
        return entry

    def xrange(self, name: bytes, first: bytes, last: bytes) -> list[tuple[bytes, dict[bytes, bytes]]]:
        low, high = (int(bound.partition(b"-")[0]) for bound in (first, last))
        entries = self.values.get(name, Stream()).entries
        return [(b"%d-0" % number, fields) for number, fields in entries if low <= number <= high]

    def scan(self, after: bytes, pattern: str, count: int) -> list[bytes]:
        names = sorted(name for name in self.values if name > after)
        return [name for name in names if fnmatch.fnmatchcase(name.decode(), pattern)][:count]


class SimulatedValkey(Server):
    """The server: keys that can be lost or come back as they were some time ago."""

    def __init__(self, clock: Callable[[], int]) -> None:
        super().__init__("valkey")
        self._clock = clock
        self.keys = Keys()
        self.source = ""

    def snapshot(self) -> tuple[Keys, str]:
        """What could come back later."""
        return self.keys.copy(), self.source

    def restore(self, snapshot: tuple[Keys, str] | None) -> None:
        """Come back as a snapshot says, or empty."""
        keys, self.source = snapshot or (Keys(), "")
        self.keys = keys.copy()

    def decided(self, cell: int) -> int:
        """The last segment that was decided in a cell."""
        return int(self.keys.hmget(f"{{c{cell}}}m".encode(), b"sequence")[0] or 0)

    def forget_ids(self) -> None:
        """Come back with everything but the ids that were answered, as if they had been evicted."""
        self.keys.unlink(*[name for name in self.keys.values if b"}d:" in name])

    def function_load(self, source: str) -> None:
        """Take a Function in place of an older one."""
        self.source = source

    def run(self, command: str, *words: Any) -> Any:
        """Run a command."""
        self.keys.expire(self._clock())
        if command == "fcall":
            if not self.source:
                raise ResponseError("Function not found")
            name, count, *rest = words
            named = [_bytes(word) for word in rest]
            return _function(self.source)(self.keys, name, named[:count], named[count:])
        if command == "scan":
            return self.keys.scan(*words)
        return getattr(self.keys, command)(*(_bytes(word) for word in words))


class SimulatedClient:
    """What the driver knows as a Redis client."""

    def __init__(self, network: Network, server: SimulatedValkey) -> None:
        self._network = network
        self._server = server

    async def _ask(self, name: str, happen: Callable[[], Any]) -> Any:
        try:
            return await self._network.call(self._server, name, happen, SOCKET_TIMEOUT_S)
        except LostError as error:
            raise NoAnswerError("no answer") from error
        except RefusedError as error:
            raise NoConnectionError("refused") from error

    async def _run(self, command: str, *words: Any) -> Any:
        return await self._ask(command, lambda: self._server.run(command, *words))

    async def execute_command(self, command: str, *words: Any) -> Any:
        if command == "INFO":
            return await self._ask(command, lambda: {"maxmemory": 0})
        if command == "FUNCTION LOAD":
            return await self._ask(command, lambda: self._server.function_load(words[-1]))
        return await self._run(command.lower(), *words)

    async def get(self, name: str) -> Any:
        return await self._run("get", name)

    async def mget(self, names: list[str]) -> Any:
        return await self._run("mget", *names)

    async def hmget(self, name: str, *fields: str) -> Any:
        return await self._run("hmget", name, *fields)

    async def xrange(self, name: str, first: str, last: str) -> Any:
        return await self._run("xrange", name, first, last)

    async def scan_iter(self, match: str, count: int) -> AsyncIterator[bytes]:
        assert count > SCAN_PAGE
        after = b""
        while page := await self._run("scan", after, match, SCAN_PAGE):
            for name in page:
                yield name
            after = page[-1]


def _bytes(word: Any) -> bytes:
    return word if isinstance(word, bytes) else str(word).encode()
