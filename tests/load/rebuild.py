"""Measures how long Valkey's state takes to be rebuilt, and what it takes of memory.

    .venv/bin/python -m tests.load.rebuild --endpoints 1000000

Makes a ledger with the images of so many endpoints (two buckets each) as the fold leaves them, and an id that each was
charged under within the last day; a journal whose last segments, not folded yet, change every hundredth of them again;
and rebuilds from it with the code and through the Function that a running system uses. Ends with one line of JSON.
"""

import argparse
import asyncio
import hashlib
import json
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import sqlalchemy as sa

from services.common.clock import SystemClock
from services.common.ids import new_id
from services.rating.domain.balances import BucketSpec, Role
from services.rating.domain.decisions import NO_MARK, ConfigureOp, Segment
from services.rating.domain.reasons import BalanceState, Unit
from services.rating.engine.driver import Engine
from services.rating.engine.records import read_segment
from services.rating.storage.journal import Journal
from services.rating.storage.ledger import Ledger
from services.rating.storage.tables import cursors, images, usage
from services.rating.usecases.cells import Opening
from services.runtime.database import Database
from services.runtime.packing import pack, unpack
from services.runtime.valkey import EmbeddedValkey, connect
from tests.integration.rating.world import MIGRATIONS
from tests.postgres import EmbeddedPostgres
from tests.system.launching import administer

ROWS = 10_000
SEGMENT = 100
FOLDED = 1
GB = 10**9
REMAINING = 4
"""Place of what is left in a bucket."""


class Images:
    """Images as the Function makes them of an endpoint with two buckets; only what is left differs."""

    def __init__(self, made: bytes) -> None:
        self._holder = unpack(made, raw=True)

    @classmethod
    async def of(cls, engine: Engine, now_ms: int) -> "Images":
        """Let the Function make one."""
        specs = [
            _spec(assignment, state) for assignment, state in ((1, BalanceState.ACTIVE), (2, BalanceState.PENDING))
        ]
        await engine.open(1, 0)
        decided = await engine.decide([ConfigureOp("ep_1", 1, 0, -1, specs)], {}, 1, 0, now_ms, 10**8)
        assert decided.segment is not None
        return cls(read_segment(decided.segment).images["h:ep_1"])

    def __call__(self, remaining: int) -> bytes:
        """An endpoint of which the first bucket has so much left."""
        self._holder[1][0][REMAINING] = remaining
        return pack(self._holder, text_as_bytes=True)


def _spec(number: int, state: BalanceState) -> BucketSpec:
    return BucketSpec(
        f"asg_{number:026d}", "b1", f"pln_{number:026d}:1:b1", number, Role.ADDON, GB, state, 0, 0, 0, (), Unit.BYTES
    )


def chunks(total: int, size: int) -> Iterator[range]:
    """Consecutive ranges."""
    for start in range(0, total, size):
        yield range(start, min(start + size, total))


async def make_books(database: Database, names: list[str], image: Images, now_ms: int) -> None:
    """Fill the tables that a rebuild reads."""
    async with database.transaction() as connection:
        await connection.execute(sa.insert(cursors).values(cell=0, sequence=FOLDED, decided_ms=now_ms))
    for some in chunks(len(names), ROWS):
        left = [{"name": f"h:{names[n]}", "cell": 0, "value": image(GB - n)} for n in some]
        used = [_usage(names[n], n, now_ms) for n in some]
        async with database.transaction() as connection:
            await connection.execute(sa.insert(images), left)
            await connection.execute(sa.insert(usage), used)


def _usage(endpoint: str, number: int, now_ms: int) -> dict[str, object]:
    digest = hashlib.blake2b(endpoint.encode(), digest_size=16).digest()
    numbers = dict.fromkeys(
        ("chain_id", "service", "access_type", "quantity", "mode", "outcome", "reason", "refused_step", "uncovered"), 1
    )
    return {
        "cell": 0, "sequence": FOLDED, "position": number * 8, "id_digest": digest, "body_digest": bytes(8),
        "event_id": f"evt_{number}", "endpoint_id": endpoint, "network_id": "net_20601", "usage_ms": now_ms,
        "throttled": 0, "program_id": "0" * 24, "steps": b"", "decided_ms": now_ms, **numbers,
    }  # fmt: skip


async def make_journal(journal: Journal, names: list[str], image: Images, now_ms: int) -> None:
    """Write a folded segment, and those that are not folded yet."""
    await journal.raise_epoch(0, 0)
    changed = [(f"h:{names[n]}", image(1)) for n in range(0, len(names), 100)]
    groups = [[], *(changed[some.start : some.stop] for some in chunks(len(changed), SEGMENT))]
    segments = []
    for sequence, group in enumerate(groups, 1):
        flat = pack([word for pair in group for word in pair], text_as_bytes=True)
        outcomes = pack([[], [], [], NO_MARK, NO_MARK], text_as_bytes=True)
        segments.append(Segment(sequence, now_ms, pack([[], []]), outcomes, flat))
    for some in chunks(len(segments), 64):
        await journal.append(0, 1, segments[some.start : some.stop])


async def rebuild(urls: tuple[str, str], valkey_url: str) -> dict[str, object]:
    """Rebuild cell 0; what it took of this process."""
    databases = [Database(url) for url in urls]
    journal, ledger = Journal(databases[0], read_segment), Ledger(databases[1])
    client = connect(valkey_url)
    opening = Opening(Engine(client, 0), journal, ledger, SystemClock())
    started, spent = time.monotonic(), time.process_time()
    await opening.rebuild(await journal.epoch(0))
    seconds, spent = time.monotonic() - started, time.process_time() - spent
    await client.aclose()
    for database in databases:
        await database.close()
    return {
        "images": opening.images,
        "ids": opening.ids,
        "segments_replayed": opening.segments,
        "seconds": round(seconds, 1),
        "of_which_this_process_computed": round(spent, 1),
        "images_and_ids_per_second": round((opening.images + opening.ids) / seconds),
        "peak_mb": _peak_kb() // 1024,
    }


def _rebuild(urls: tuple[str, str], valkey_url: str) -> dict[str, object]:
    return asyncio.run(rebuild(urls, valkey_url))


def _peak_kb() -> int:
    """Most memory that this process has had; `getrusage` would tell that of its parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


async def prepare(urls: tuple[str, str], names: list[str], folder: Path) -> None:
    """Make journal and books."""
    databases = [Database(url) for url in urls]
    for database, name in zip(databases, ("journal", "ledger"), strict=True):
        await database.migrate(MIGRATIONS / name)
    now_ms = SystemClock().now_ms()
    async with EmbeddedValkey(folder / "valkey") as server:
        client = connect(server.url)
        await Engine(client, 0).install()
        image = await Images.of(Engine(client, 0), now_ms)
        await client.aclose()
    await make_journal(Journal(databases[0], read_segment), names, image, now_ms)
    await make_books(databases[1], names, image, now_ms)
    for database in databases:
        await database.close()


async def measure(names: list[str], urls: tuple[str, str], folder: Path) -> dict[str, object]:
    """Rebuild in a process of its own, look at two endpoints, count."""
    async with EmbeddedValkey(folder / "valkey") as server:
        client = connect(server.url)
        engine = Engine(client, 0)
        await engine.install()
        empty = (await client.info("memory"))["used_memory"]
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            loop = asyncio.get_running_loop()
            measured = await loop.run_in_executor(process, _rebuild, urls, server.url)
        full = (await client.info("memory"))["used_memory"]
        there = await engine.holders([names[0], names[1]])
        assert [there[names[n]].buckets[0].remaining for n in (0, 1)] == [1, GB - 1], "the journal's word is the last"
        (ids,) = [key async for key in client.scan_iter("{c0}d:*")]
        assert (await client.dbsize(), await client.hlen(ids)) == (len(names) + 2, len(names)), "meta and ids besides"
        of_ids = await client.memory_usage(ids, samples=0) or 0
        await client.aclose()
    return {
        "endpoints": len(names),
        **measured,
        "valkey_bytes_per_endpoint": round((full - empty - of_ids) / len(names)),
        "valkey_bytes_per_id": round(of_ids / len(names)),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoints", type=int, default=1_000_000)
    parser.add_argument(
        "--postgresql", action="store_true", help="journal and books in a PostgreSQL, not in SQLite files"
    )
    arguments = parser.parse_args()
    with ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory(prefix="meterline-rebuild-"))
        urls = (f"sqlite+aiosqlite:///{name}/journal.sqlite", f"sqlite+aiosqlite:///{name}/ledger.sqlite")
        if arguments.postgresql:
            server = stack.enter_context(EmbeddedPostgres())
            administer(server, "CREATE DATABASE journal", "CREATE DATABASE ledger")
            urls = (server.url("journal"), server.url("ledger"))
        names = [new_id("ep") for _ in range(arguments.endpoints)]
        asyncio.run(prepare(urls, names, Path(name)))
        print(json.dumps(asyncio.run(measure(names, urls, Path(name)))))


if __name__ == "__main__":
    main()
