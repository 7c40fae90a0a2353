"""The servers that come as wheels: they start, say clearly why they cannot, and never outlive their owner."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from services.runtime.valkey import EmbeddedValkey, ValkeyStartError, answers, connect


async def test_valkey_answers_on_a_socket_that_only_its_owner_may_open(tmp_path: Path):
    async with EmbeddedValkey(tmp_path / "hot") as server:
        client = connect(server.url)
        assert await client.ping()
        assert await client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert await client.config_get("appendonly") == {"appendonly": "no"}
        await client.aclose()
        assert server.socket
        assert server.socket.stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "hot").stat().st_mode & 0o777 == 0o700
    assert not await answers(server.url)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it runs with the allocator of the system")
async def test_valkey_allocates_with_mimalloc_or_what_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    async with EmbeddedValkey(tmp_path) as server:
        assert "libmimalloc" in Path(f"/proc/{server.pid}/maps").read_text()
    monkeypatch.setenv("LD_PRELOAD", "")
    async with EmbeddedValkey(tmp_path) as server:
        assert "libmimalloc" not in Path(f"/proc/{server.pid}/maps").read_text()


async def test_valkey_keeps_what_it_holds_when_told_to(tmp_path: Path):
    for expected in (b"1", b"2"):
        async with EmbeddedValkey(tmp_path, append_only=True) as server:
            client = connect(server.url)
            assert await client.incr("starts") == int(expected)
            await client.aclose()


async def test_a_second_valkey_on_the_same_folder_is_refused(tmp_path: Path):
    async with EmbeddedValkey(tmp_path):
        with pytest.raises(ValkeyStartError, match="used by another Valkey"):
            async with EmbeddedValkey(tmp_path):
                pass
    async with EmbeddedValkey(tmp_path) as again:
        assert await answers(again.url)


async def test_a_taken_port_is_named(tmp_path: Path, unused_tcp_port: int):
    async with EmbeddedValkey(tmp_path / "one", port=unused_tcp_port) as first:
        assert first.url == f"valkey://127.0.0.1:{unused_tcp_port}/0"
        with pytest.raises(ValkeyStartError, match=f"port {unused_tcp_port}"):
            async with EmbeddedValkey(tmp_path / "two", port=unused_tcp_port):
                pass


async def test_a_path_too_long_for_a_socket_is_no_obstacle(tmp_path: Path):
    async with EmbeddedValkey(tmp_path / ("long" * 50)) as server:
        assert await answers(server.url)


async def test_a_setting_that_valkey_refuses_shows_the_end_of_its_log(tmp_path: Path):
    with pytest.raises(ValkeyStartError, match="nonsense"):
        async with EmbeddedValkey(tmp_path, options={"nonsense": "1"}):
            pass


async def test_valkey_dies_with_the_process_that_started_it(tmp_path: Path):
    program = (
        "import asyncio, sys; from pathlib import Path; from services.runtime.valkey import EmbeddedValkey\n"
        "async def main():\n"
        "    async with EmbeddedValkey(Path(sys.argv[1])) as server: print(server.pid, flush=True); await server.wait()\n"
        "asyncio.run(main())"
    )
    owner = subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, text=True)
    assert owner.stdout
    server_pid = int(owner.stdout.readline())
    owner.send_signal(signal.SIGKILL)
    owner.communicate()
    async with asyncio.timeout(5):
        while _is_alive(server_pid):
            await asyncio.sleep(0.01)


async def test_each_test_finds_valkey_empty(valkey_url: str):
    client = connect(valkey_url)
    assert await client.dbsize() == 0
    assert await client.function_list() == []
    await client.aclose()


@pytest.mark.parametrize("turn", [1, 2])
async def test_each_test_gets_a_fresh_database(database_url: str, turn: int):
    engine = create_async_engine(database_url)
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE fresh (turn INTEGER)"))
        await connection.execute(text(f"INSERT INTO fresh VALUES ({turn})"))
        assert (await connection.execute(text("SELECT turn FROM fresh"))).scalars().all() == [turn]
    await engine.dispose()


def _is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
