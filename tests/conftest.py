"""What every test may ask for: real servers, started when first asked for, and a fresh database each time."""

import faulthandler
import itertools
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import asyncpg
import hypothesis
import pytest
import pytest_asyncio
from _pytest.faulthandler import fault_handler_stderr_fd_key

from services.runtime import valkey
from tests.postgres import EmbeddedPostgres
from tests.requirements import RequirementsPlugin
from tests.telling import TellingPlugin, tell

__all__ = ["tell"]

# No deadline: two busy cores make single examples slow.
hypothesis.settings.register_profile("meterline", deadline=None, max_examples=50)
hypothesis.settings.register_profile("long", deadline=None, max_examples=2_000)  # `make test-sim`
hypothesis.settings.load_profile("meterline")

TEARDOWN_TIMEOUT_S = 120

_database_numbers = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--tariffs", type=Path, metavar="FILE", help="published tariffs to charge the examples of, as data/tariffs.json"
    )
    parser.addoption(
        "--requirements-report",
        type=Path,
        metavar="FILE",
        help="write which tests show which requirement, as JSON",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(RequirementsPlugin(config), "requirements")
    config.pluginmanager.register(TellingPlugin(), "telling")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """End the process when what a test left behind does not end: pytest-timeout stops its clock where a test fails."""
    faulthandler.dump_traceback_later(
        TEARDOWN_TIMEOUT_S, exit=True, file=item.config.stash[fault_handler_stderr_fd_key]
    )
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[valkey.EmbeddedValkey]:
    """One Valkey for the whole run."""
    async with valkey.EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest_asyncio.fixture
async def valkey_url(valkey_server: valkey.EmbeddedValkey) -> str:
    """The address of a Valkey that is empty: no keys, no functions. Not for tests that run at the same time."""
    client = valkey.connect(valkey_server.url)
    await client.flushall()
    await client.function_flush()
    await client.aclose()
    return valkey_server.url


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[EmbeddedPostgres]:
    """One PostgreSQL for the whole run."""
    with EmbeddedPostgres() as server:
        yield server


@pytest_asyncio.fixture
async def postgres_url(postgres_server: EmbeddedPostgres) -> AsyncIterator[str]:
    """The SQLAlchemy URL of a fresh PostgreSQL database, gone after the test."""
    name = f"test_{next(_database_numbers)}"
    await _administer(postgres_server, f"CREATE DATABASE {name}")
    yield postgres_server.url(name)
    await _administer(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The SQLAlchemy URL of a fresh SQLite database."""
    return f"sqlite+aiosqlite:///{tmp_path / f'test_{next(_database_numbers)}.sqlite'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a fresh database; the test runs once on SQLite and once on PostgreSQL."""
    url: str = request.getfixturevalue({"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param])
    return url


async def _administer(server: EmbeddedPostgres, statement: str) -> None:
    connection = await asyncpg.connect(server.url("postgres").replace("+asyncpg", "", 1))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
