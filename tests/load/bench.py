"""`make bench`: what one machine does in a second, the client included.

It starts the whole system in a folder of its own and charges three steps: an add-on's bucket at the endpoint, a price
against a credit limit at the enterprise, another at the reseller. Every answer it counts is durable. It ends with one
line of JSON. `charges` are usage records, each charged at all three steps.
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import grpc
import uvloop
from google.protobuf import json_format

from cli.datafolder import DataFolder
from cli.up import SERVICES, Ports, System, running
from meterline.rating.v1 import charges_pb2, charges_pb2_grpc, charging_pb2, charging_pb2_grpc
from meterline.type.v1 import service_pb2
from services.common.identity import AccountKind, Principal, Role
from services.runtime.identity import ServiceTokens
from tests.load.tree import NETWORK, Builder, Tree

CALLERS = 64
IN_FLIGHT = 16
FEW_IN_FLIGHT = 2
"""Batches in flight where it is waiting that is measured: with many, most of it is for the batches before."""
UPDATES = 3
"""Updates of a session between its creation and its release."""
WARM_UP_SECONDS = 1.0
TURNS = 8
"""Slices in which the empty handler and unary calls are measured by turns: a machine that others use, too, changes its
speed within seconds, and their ratio is what counts."""
NO_RATE_LIMIT = {"METERLINE_GATEWAY_RATE_PER_S": "0"}
"""One key makes all the requests here."""
PORTS = Ports(18080, 17001, 17002, 17003, 17004, 0)
EMPTY_PORT = 17005
Metadata = tuple[tuple[str, str], ...]
T = TypeVar("T")


@dataclass(slots=True)
class Run:
    """What was counted."""

    seconds: float = 0.0
    answered: int = 0
    latencies: list[float] = field(default_factory=list)

    @property
    def per_second(self) -> int:
        """Charges a second."""
        return round(self.answered / self.seconds)

    def add(self, other: "Run") -> None:
        """Count what another run counted."""
        self.seconds += other.seconds
        self.answered += other.answered
        self.latencies += other.latencies

    async def timing(self, call: Awaitable[T]) -> T:
        """Count a call, and how long it takes."""
        started = time.perf_counter()
        answer = await call
        self.latencies.append(time.perf_counter() - started)
        self.answered += 1
        return answer

    def percentile_ms(self, percent: int) -> float:
        """A percentile of the latencies, in milliseconds."""
        return round(statistics.quantiles(self.latencies, n=100)[percent - 1] * 1000, 2)


class Load:
    """Charges a tree.

    Args:
        tree: whose endpoints use the network.
        seconds: how long each part lasts.
    """

    def __init__(self, tree: Tree, seconds: float) -> None:
        self._tree = tree
        self._seconds = seconds
        self._number = 0
        self.acknowledged = 0

    def event(self) -> charging_pb2.UsageEvent:
        """Make the next event."""
        self._number += 1
        return charging_pb2.UsageEvent(
            event_id=f"b{self._number}",
            endpoint_id=self._tree.endpoint_ids[self._number * 7919 % len(self._tree.endpoint_ids)],
            service=service_pb2.SERVICE_DATA,
            network_id=NETWORK,
            access_type=service_pb2.ACCESS_TYPE_4G,
            usage_time_ms=time.time_ns() // 1_000_000,
            quantity=1000 + self._number % 100_000,
            mode=charging_pb2.USAGE_MODE_ONLINE,
        )

    async def timed(self, work: Callable[[Run, float], Awaitable[None]], slices: int = 1) -> Run:
        """Do a work for a moment, then for as long as it counts, or for one of so many slices of that."""
        await self._once(work, WARM_UP_SECONDS / slices)
        return await self._once(work, self._seconds / slices)

    async def _once(self, work: Callable[[Run, float], Awaitable[None]], seconds: float) -> Run:
        run = Run()
        started = time.perf_counter()
        await work(run, started + seconds)
        run.seconds = time.perf_counter() - started
        return run

    async def unary(self, channel: grpc.aio.Channel, metadata: Metadata) -> Run:
        """64 callers, one event a call, for a slice."""
        call = charging_pb2_grpc.ChargingServiceStub(channel).ChargeEvent

        async def work(run: Run, until: float) -> None:
            async def caller() -> None:
                while time.perf_counter() < until:
                    request = charging_pb2.ChargeEventRequest(event=self.event())
                    self._count(await run.timing(call(request, metadata=metadata)))

            await asyncio.gather(*(caller() for _ in range(CALLERS)))

        return await self.timed(work, TURNS)

    async def sessions(self, channel: grpc.aio.Channel, metadata: Metadata) -> Run:
        """64 callers, each opening a session, updating it three times and releasing it, again and again."""
        stub = charging_pb2_grpc.ChargingServiceStub(channel)

        async def session(run: Run) -> None:
            event = self.event()
            asked = charging_pb2.UnitUsage(service=event.service, requested_quantity=event.quantity)
            opened = charging_pb2.CreateChargingSessionRequest(
                session_ref=event.event_id,
                endpoint_id=event.endpoint_id,
                network_id=event.network_id,
                access_type=event.access_type,
                units=[asked],
            )
            answer = await run.timing(stub.CreateChargingSession(opened, metadata=metadata))
            for number, call in enumerate([stub.UpdateChargingSession] * UPDATES + [stub.ReleaseChargingSession], 1):
                used = charging_pb2.UnitUsage(service=event.service, used_quantity=event.quantity)
                used.requested_quantity = event.quantity if number <= UPDATES else 0
                reported = charging_pb2.UpdateChargingSessionRequest(
                    session_id=answer.id, sequence_number=number, units=[used]
                )
                answer = await run.timing(call(reported, metadata=metadata))
                if answer.grants[0].uncovered_quantity or (number <= UPDATES and not answer.grants[0].granted_quantity):
                    raise AssertionError(f"not granted: {answer}")
                self.acknowledged += 1

        async def work(run: Run, until: float) -> None:
            async def caller() -> None:
                while time.perf_counter() < until:
                    await session(run)

            await asyncio.gather(*(caller() for _ in range(CALLERS)))

        return await self.timed(work)

    async def over_http(self, gateway: str, metadata: Metadata) -> Run:
        """64 callers of the gateway, each on a connection of its own, one event a request."""
        host, _, port = gateway.rpartition("/")[2].partition(":")

        async def work(run: Run, until: float) -> None:
            async def caller() -> None:
                reader, writer = await asyncio.open_connection(host, int(port))
                while time.perf_counter() < until:
                    body = json_format.MessageToJson(self.event()).encode()
                    head = (
                        f"POST /v1/events:charge HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
                        f"authorization: {metadata[0][1]}\r\ncontent-length: {len(body)}\r\n\r\n"
                    )
                    writer.write(head.encode() + body)
                    answer = await run.timing(_http_answer(reader))
                    self._count(json_format.Parse(answer, charging_pb2.ChargeResult()))
                writer.close()

            await asyncio.gather(*(caller() for _ in range(CALLERS)))

        return await self.timed(work)

    async def stream(self, channel: grpc.aio.Channel, metadata: Metadata, size: int, in_flight: int = IN_FLIGHT) -> Run:
        """One stream with so many batches in flight."""
        stub = charging_pb2_grpc.ChargingServiceStub(channel)

        async def work(run: Run, until: float) -> None:
            room = asyncio.Semaphore(in_flight)
            sent: dict[int, float] = {}

            async def batches() -> Any:
                number = 0
                while time.perf_counter() < until:
                    await room.acquire()
                    number += 1
                    request = charging_pb2.ChargeUsageRequest(
                        batch_id=number, events=[self.event() for _ in range(size)]
                    )
                    sent[number] = time.perf_counter()
                    yield request

            async for response in stub.StreamUsage(batches(), metadata=metadata):
                run.latencies.append(time.perf_counter() - sent.pop(response.batch_id))
                run.answered += len(response.results)
                room.release()
                for result in response.results:
                    self._count(result)

        return await self.timed(work)

    def _count(self, result: charging_pb2.ChargeResult) -> None:
        if result.outcome != charging_pb2.OUTCOME_CHARGED:
            raise AssertionError(f"not charged: {result}")
        self.acknowledged += 1


async def _http_answer(reader: asyncio.StreamReader) -> bytes:
    """The body of an answer that must be good."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
    body = await reader.readexactly(length)
    if not head.startswith(b"http/1.1 200"):
        raise AssertionError(f"not charged: {body.decode()}")
    return body


async def in_ledger(channel: grpc.aio.Channel, metadata: Metadata) -> tuple[int, float]:
    """Records in the books, and until when they are complete."""
    request = charges_pb2.SummarizeUsageRequest(group_by=[charges_pb2.SUMMARY_DIMENSION_LEVEL])
    stub = charges_pb2_grpc.UsageServiceStub(channel)
    response = await stub.SummarizeUsage(request, metadata=metadata)
    at_step_0 = sum(row.record_count for row in response.summaries if row.step == 0)
    return at_step_0, response.complete_until.ToMilliseconds() / 1000


async def drained(channel: grpc.aio.Channel, metadata: Metadata, since: float) -> int:
    """Wait until the books are complete; return how many records they hold."""
    while True:
        records, complete = await in_ledger(channel, metadata)
        if complete >= since:
            return records
        await asyncio.sleep(0.1)


def say(text: str) -> None:
    """Tell a person."""
    print(text, file=sys.stderr)


@asynccontextmanager
async def empty_handler(folder: DataFolder) -> AsyncIterator[tuple[grpc.aio.Channel, Metadata]]:
    """A handler that does nothing, on the same server stack."""
    address = f"127.0.0.1:{EMPTY_PORT}"
    command = [sys.executable, "-m", "tests.load.empty", address, folder.service_secret()]
    process = await asyncio.create_subprocess_exec(*command)
    principal = Principal("bench", "acc_bench", AccountKind.OPERATOR, ("acc_bench",), Role.ADMIN)
    metadata = (("authorization", f"Bearer {ServiceTokens(folder.service_secret()).sign(principal)}"),)
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            await channel.channel_ready()
            yield channel, metadata
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()


async def measure(system: System, folder: DataFolder, endpoints: int, seconds: float) -> dict[str, Any]:
    """Measure a running system."""
    description = system.describe()
    builder = Builder({name: description[name] for name in SERVICES}, folder.operator_key())
    say(f"building a tree with {endpoints} endpoints")
    tree = await builder.tree(endpoints)
    await builder.close()
    load, without_charging = Load(tree, seconds), Load(tree, seconds)
    metadata = (("authorization", f"Bearer {folder.operator_key()}"),)
    async with grpc.aio.insecure_channel(description["rating"]) as channel:
        system.supervisor.send("fold", signal.SIGSTOP)
        await load.stream(channel, metadata, 100)  # configures every holder once
        empty, unary, ratios = Run(), Run(), []
        async with empty_handler(folder) as at_empty:
            for _ in range(TURNS):
                runs = await without_charging.unary(*at_empty), await load.unary(channel, metadata)
                ratios.append(runs[1].answered / runs[1].seconds / (runs[0].answered / runs[0].seconds))
                empty.add(runs[0])
                unary.add(runs[1])
        ratio = round(statistics.median(ratios), 2)
        say(f"empty handler, {CALLERS} callers: {empty.per_second}/s")
        say(f"unary, {CALLERS} callers: {unary.per_second}/s ({ratio} of it), p50 {unary.percentile_ms(50)} ms")
        sessions = await load.sessions(channel, metadata)
        say(f"calls of sessions, {CALLERS} callers: {sessions.per_second}/s, p50 {sessions.percentile_ms(50)} ms")
        over_http = await load.over_http(description["gateway"], metadata)
        say(f"gateway, {CALLERS} callers: {over_http.per_second}/s, p50 {over_http.percentile_ms(50)} ms")
        by_100 = await load.stream(channel, metadata, 100)
        say(f"batches of 100: {by_100.per_second}/s, p50 {by_100.percentile_ms(50)} ms")
        few = await load.stream(channel, metadata, 100, FEW_IN_FLIGHT)
        say(f"batches of 100, {FEW_IN_FLIGHT} in flight: {few.per_second}/s, p99 {few.percentile_ms(99)} ms")
        alone = await load.stream(channel, metadata, 100, 1)
        say(f"batches of 100, one after the other: {alone.per_second}/s, p99 {alone.percentile_ms(99)} ms")
        by_500 = await load.stream(channel, metadata, 500)
        say(f"batches of 500: {by_500.per_second}/s, p50 {by_500.percentile_ms(50)} ms")
        backlog, started = load.acknowledged, time.time()
        system.supervisor.send("fold", signal.SIGCONT)
        folded = await drained(channel, metadata, started)
        fold_seconds = time.time() - started
        say(f"fold: {round(backlog / fold_seconds)}/s")
        together = await load.stream(channel, metadata, 100)
        say(f"batches of 100 while the fold runs: {together.per_second}/s")
        folded = await drained(channel, metadata, time.time())
    return {
        "empty_unary_per_s": empty.per_second,
        "unary_per_s": unary.per_second,
        "unary_of_empty": ratio,
        "session_calls_per_s": sessions.per_second,
        "http_unary_per_s": over_http.per_second,
        "batch100_per_s": by_100.per_second,
        "batch500_per_s": by_500.per_second,
        "fold_per_s": round(backlog / fold_seconds),
        "batch100_with_fold_per_s": together.per_second,
        "unary_p50_ms": unary.percentile_ms(50),
        "unary_p99_ms": unary.percentile_ms(99),
        "session_calls_p99_ms": sessions.percentile_ms(99),
        "http_unary_p99_ms": over_http.percentile_ms(99),
        "batch100_p50_ms": by_100.percentile_ms(50),
        "batch100_p99_ms": by_100.percentile_ms(99),
        "batch100_few_per_s": few.per_second,
        "batch100_few_p50_ms": few.percentile_ms(50),
        "batch100_few_p99_ms": few.percentile_ms(99),
        "batch100_alone_per_s": alone.per_second,
        "batch100_alone_p50_ms": alone.percentile_ms(50),
        "batch100_alone_p99_ms": alone.percentile_ms(99),
        "batch500_p99_ms": by_500.percentile_ms(99),
        "acknowledged": load.acknowledged,
        "in_ledger": folded,
        "journal": "sqlite",
    }


async def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoints", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=8.0, help="how long each part lasts")
    options = parser.parse_args(arguments)
    async with AsyncExitStack() as stack:
        os.environ.update(NO_RATE_LIMIT)
        folder = DataFolder(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "bench")
        system = await stack.enter_async_context(running(folder, PORTS, say))
        result = await measure(system, folder, options.endpoints, options.seconds)
    print(json.dumps(result))


if __name__ == "__main__":
    uvloop.run(main())
