"""The simulated Valkey answers and stores, byte for byte, what a real one does.

One thing is left open, by Lua too: in which order `pairs` goes through a table. So the images of a call and the
movements of an operation may come in another order.
"""

from random import Random
from typing import Any

from services.common.clock import MINUTE_MS
from services.rating.domain.balances import BucketSpec, Role
from services.rating.domain.decisions import (
    Actor,
    ChargeOp,
    ConfigureOp,
    Op,
    SessionAction,
    SessionLine,
    SessionOp,
    TopUpOp,
    Visited,
)
from services.rating.domain.programs import NO_HOLDER, Program, Step, StepMode, program
from services.rating.domain.reasons import BalanceState, Reason, Unit
from services.rating.domain.tariffs import rate
from services.rating.engine.driver import SOURCE
from services.rating.engine.wire import Batch, ProgramWires, read_holder, read_images
from services.runtime.packing import pack, unpack
from services.runtime.valkey import connect
from tests.simulation.valkey import SimulatedValkey, Stream

CALLS = 1500
START_MS = 1_760_000_000_000
IDS_TTL_MS = 10 * MINUTE_MS
NOBODY = Actor("test", "acc_t", "acc_t/", "acc_t")
ENDPOINTS = [f"ep_{n}" for n in range(6)]


class Calls:
    """Random calls of the Function: valid ones, repeats, overdrawn ones, at the edges of numbers."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._wires = ProgramWires()
        self._programs = [self._program() for _ in range(12)]
        self._sessions = [0] * 10
        self.now_ms = START_MS
        self.sequence = 0

    def _amount(self) -> int:
        random = self._random
        edges = [1, 31, 32, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**43]
        return random.choice([random.choice(edges), random.randrange(1, 1000), random.randrange(1, 10**9)])

    def _step(self, holder: str) -> Step:
        random = self._random
        mode = random.choice(list(StepMode)) if holder != NO_HOLDER else StepMode.UNLIMITED
        price = rate(random.randrange(3 * 10**6), random.choice([1, 1000, 10**9]), random.choice([1, 1024]), 0)
        refs = tuple(sorted(random.sample(["a", "b", "c"], random.randrange(4))))
        made = price if random.random() < 0.8 and price.exact else None
        return Step(holder, mode, refs, made, Reason.NO_RATE, holder, "acc_o", ("p", 1), "EUR", ("t", 1), "r1", "")

    def _program(self) -> Program:
        deny = (Reason.SERVICE_BARRED, 0) if self._random.random() < 0.1 else (Reason.NONE, 0)
        steps = (self._step(""), self._step("acc_e"), self._step(NO_HOLDER))
        return program(self._random.choice([1, 2]), steps, deny, (0, 1 << 62))

    def _configure(self, holder: str) -> ConfigureOp:
        random = self._random
        specs = [
            BucketSpec(
                f"asg_{each}", "b", random.choice("abc"), random.randrange(3), random.choice(list(Role)), self._amount(),
                random.choice([BalanceState.PENDING, BalanceState.ACTIVE]), 0, random.choice([0, self.now_ms + MINUTE_MS]),
                random.choice([0, 5 * MINUTE_MS]), random.choice([(), (self.now_ms + 2 * MINUTE_MS,)]), Unit.BYTES,
            )
            for each in range(random.randrange(4))
        ]  # fmt: skip
        return ConfigureOp(
            holder, random.randrange(1, 2000), random.randrange(2000), random.choice([-1, self._amount()]), specs
        )

    def _op(self) -> Op:
        random = self._random
        endpoint = random.choice(ENDPOINTS)
        digest, body = random.randrange(4000).to_bytes(16, "big"), random.randrange(2).to_bytes(8, "big")
        kind = random.random()
        if kind < 0.25:
            return self._configure(random.choice([*ENDPOINTS, "acc_e"]))
        if kind < 0.4:
            return TopUpOp(digest, body, endpoint, random.choice([self._amount(), 2**53 - 1]), "t", NOBODY)
        if kind < 0.75:
            chosen = random.choice(self._programs)
            return ChargeOp(digest, body, endpoint, chosen, self._amount(), self.now_ms, random.choice([1, 2]), b"r")
        number = random.randrange(len(self._sessions))
        action = random.choice(list(SessionAction))
        self._sessions[number] += action is not SessionAction.CREATE
        used = (random.choice(self._programs), random.choice([0, self._amount()]), self._amount(), self.now_ms)
        lines = [SessionLine(1, *used, random.choice(self._programs), self.now_ms)]
        times = (self.now_ms, self.now_ms + random.choice([0, MINUTE_MS]), self.now_ms + 5 * MINUTE_MS)
        name, sequence = f"ses_{number}", self._sessions[number]
        return SessionOp(name, "ref", action, sequence, body, endpoint, "net", 3, *times, lines, Visited("net", 3))

    def arguments(self, versions: dict[str, int]) -> list[bytes]:
        """The arguments of the next call."""
        random = self._random
        self.now_ms += random.choice([0, 1, 1000, MINUTE_MS, -MINUTE_MS])
        batch = Batch([self._op() for _ in range(random.randrange(1, 12))], self._wires)
        least = random.choice([0, max(self.sequence - 3, 0), *[self.sequence] * 18, self.sequence + 1])
        header = [random.choice([1] * 20 + [2]), least, self.now_ms, IDS_TTL_MS, max(self.sequence - 5, 0)]
        return batch.arguments(header, versions, random.randbytes(8))


async def test_it_answers_and_stores_the_same_bytes_as_a_real_one(valkey_url):
    client: Any = connect(valkey_url)
    calls = Calls(1)
    simulated = SimulatedValkey(lambda: START_MS)
    await client.function_load(SOURCE)
    simulated.function_load(SOURCE)
    words: list[list[Any]] = [
        ["begin_rebuild", 1],
        ["rebuild", 1, 1, "SET", "{c0}h:x", "y"],
        ["rebuild", 1, 3, "DEL", "z"],
    ]
    words += [["rebuild", 1, 1, "SET", "{c0}h:x", "z"], ["end_rebuild", 1, 1, 0, bytes(8)], ["begin_rebuild", 1]]
    for function, *rest in words:
        named = (function, 1, "{c0}m", *rest)
        assert await client.execute_command("FCALL", *named) == simulated.run("fcall", *named)
    versions: dict[str, int] = {}
    refused = 0
    for _ in range(CALLS):
        arguments = calls.arguments(versions)
        named = ("decide", 1, "{c0}m", *arguments)
        real, ours = await client.execute_command("FCALL", *named), simulated.run("fcall", *named)
        assert _ordered(ours) == _ordered(real)
        if isinstance(real[0], int):
            calls.sequence = real[0]
        else:
            refused += 1
        for holder in [*ENDPOINTS, "acc_e"]:
            image = await client.get("{c0}h:" + holder)
            assert image == simulated.run("get", "{c0}h:" + holder)
            if image:
                versions[holder] = read_holder(holder, image).version
    assert calls.sequence > CALLS / 3
    assert 0 < refused < CALLS / 2
    names = sorted([name async for name in client.scan_iter("*")])
    assert names == sorted(simulated.keys.values)
    for name in names:
        assert await _real(client, name) == _ours(simulated, name)
    await client.aclose()


def _ordered(reply: Any) -> Any:
    """A reply with what has no order put into one."""
    if isinstance(reply[0], bytes):
        return reply
    outcomes, moves, *marks = unpack(reply[1], raw=True)
    return reply[0], pack(outcomes), sorted(moves), marks, read_images(reply[2])


async def _real(client: Any, name: bytes) -> Any:
    kind = await client.type(name)
    if kind == b"string":
        return await client.get(name)
    if kind == b"hash":
        return await client.hgetall(name)
    if kind == b"zset":
        return dict(await client.zrange(name, 0, -1, withscores=True))
    entries = await client.xrange(name)
    return [_entry(int(number.partition(b"-")[0]), fields) for number, fields in entries]


def _ours(simulated: SimulatedValkey, name: bytes) -> Any:
    value = simulated.keys.values[name]
    return [_entry(*each) for each in value.entries] if isinstance(value, Stream) else value


def _entry(number: int, fields: dict[bytes, bytes]) -> Any:
    return fields[b"t"], fields[b"r"], _ordered([number, fields[b"o"], fields[b"i"]])
