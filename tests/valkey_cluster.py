"""A Valkey Cluster of three masters, for tests: real servers on ports of this machine."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from services.runtime.valkey import EmbeddedValkey, connect

SLOTS = 16384
NODE_TIMEOUT_MS = 1000
OPTIONS = {
    "cluster-enabled": "yes",
    "cluster-require-full-coverage": "no",
    "cluster-node-timeout": str(NODE_TIMEOUT_MS),
}
BUS_OFFSET = 10_000


@dataclass
class ValkeyCluster:
    """Three masters; slots are shared out evenly, in the order of the masters."""

    masters: Sequence[EmbeddedValkey]

    @property
    def url(self) -> str:
        """Where it is, as METERLINE_VALKEY_URL takes it."""
        return "valkey+cluster://" + ",".join(f"127.0.0.1:{master.port}" for master in self.masters)

    def client(self, number: int) -> Redis:
        """A client of one master."""
        return connect(self.masters[number].url, decode_responses=True)

    async def master_of(self, key: str) -> int:
        """The master that holds a key."""
        async with self.client(0) as client:
            slot = await client.execute_command("CLUSTER", "KEYSLOT", key)
            for first, last, (_, port, *_rest), *_replicas in await client.execute_command("CLUSTER", "SLOTS"):
                if first <= slot <= last:
                    return [master.port for master in self.masters].index(port)
        raise AssertionError(f"no master holds {key}")

    async def counted(self, command: str) -> list[int]:
        """How often each master ran a command."""
        counts = []
        for number in range(len(self.masters)):
            async with self.client(number) as client:
                stats: dict[str, Any] = await client.info("commandstats")
                counts.append(stats.get(f"cmdstat_{command}", {}).get("calls", 0))
        return counts

    async def move_slot(self, key: str, to: int) -> None:
        """Move the slot of a key, with all that is in it, to another master, at once (Valkey 9)."""
        source = await self.master_of(key)
        async with self.client(source) as giver, self.client(to) as taker:
            slot = await giver.execute_command("CLUSTER", "KEYSLOT", key)
            taker_id = await taker.execute_command("CLUSTER", "MYID")
            await giver.execute_command("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", taker_id)
            async with asyncio.timeout(20):
                while await self.master_of(key) != to:
                    await asyncio.sleep(0.05)


@asynccontextmanager
async def valkey_cluster(folder: Path) -> AsyncIterator[ValkeyCluster]:
    """Start three masters and make them one cluster."""
    async with AsyncExitStack() as stack:
        masters = [
            await stack.enter_async_context(EmbeddedValkey(folder / f"master{port}", port=port, options=OPTIONS))
            for port in _free_ports(3)
        ]
        cluster = ValkeyCluster(masters)
        for number, master in enumerate(masters):
            async with cluster.client(number) as client:
                first, last = number * SLOTS // 3, (number + 1) * SLOTS // 3 - 1
                await client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
                await client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
                await client.execute_command("CLUSTER", "MEET", "127.0.0.1", masters[0].port)
                assert master.port
        async with asyncio.timeout(20):
            for number in range(3):
                async with cluster.client(number) as client:
                    while not _is_whole(await client.execute_command("CLUSTER", "INFO")):
                        await asyncio.sleep(0.05)
                    await client.config_resetstat()
        yield cluster


def _is_whole(info: str) -> bool:
    return "cluster_state:ok" in info and "cluster_slots_ok:16384" in info


def _free_ports(count: int) -> list[int]:
    """Ports that are free, and whose cluster bus is free."""
    found: list[int] = []
    while len(found) < count:
        with socket.socket() as one, socket.socket() as bus:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            try:
                bus.bind(("127.0.0.1", port + BUS_OFFSET))
            except (OSError, OverflowError):
                continue
            if port not in found:
                found.append(port)
    return found
