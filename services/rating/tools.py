"""Tools for those who run rating: `python -m services.rating.tools verify`, `... rebuild` and `... archive`.

The result is JSON on standard output, progress is on standard error.

They work on the stores by the settings of the environment, whether services run on them or not.
"""

import argparse
import asyncio
import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pydantic import SecretStr
from sqlalchemy.exc import DBAPIError

from services.common.clock import DAY_MS, SystemClock
from services.common.errors import InvalidArgumentError, MeterlineError, NotFoundError
from services.rating.domain.findings import Report
from services.rating.engine.driver import Engine
from services.rating.engine.inspection import StateInspection
from services.rating.engine.records import read_segment
from services.rating.settings import RatingSettings
from services.rating.storage.archive import Archive, archive_at
from services.rating.storage.inspection import JournalInspection
from services.rating.storage.journal import Journal
from services.rating.storage.ledger import Ledger
from services.rating.storage.rebuilding import FoldedTables
from services.rating.storage.scratch import Scratch
from services.rating.usecases.archiving import DAYS_MIN, Archiving
from services.rating.usecases.rebuilding import BooksRebuild, StateRebuild
from services.rating.usecases.verifying.verifying import Verification
from services.runtime.database import Database
from services.runtime.telemetry import configure_logging
from services.runtime.valkey import answers, connect

FOUND = 1
FAILED = 2
VALKEY_TIMEOUT_S = 10.0
"""Reading many keys at once takes longer than charging does."""


class ToolSettings(RatingSettings):
    """What a tool is told: the stores. It calls no service and needs no secret."""

    service_secret: SecretStr = SecretStr("")


def main() -> None:
    """Run a tool; exits with 0 if all is well, 1 if it found something, 2 if it could not do what was asked."""
    parser = argparse.ArgumentParser(prog="python -m services.rating.tools", description=__doc__)
    tools = parser.add_subparsers(required=True)
    verify = tools.add_parser("verify", help="compare journal, books and Valkey")
    verify.add_argument("--scratch", type=Path, help="folder for a scratch file as large as the books' sums")
    verify.set_defaults(tool=_verify)
    archive = tools.add_parser("archive", help="move old segments of the journal to a file")
    archive.add_argument("--to", type=Path, required=True, help="the file; SQLite's, made if it is not there")
    archive.add_argument("--days", type=int, required=True, help=f"age of what is moved, {DAYS_MIN} or more")
    archive.set_defaults(tool=_archive)
    rebuild = tools.add_parser("rebuild", help="make Valkey's state or the books anew from the journal")
    what = rebuild.add_mutually_exclusive_group(required=True)
    what.add_argument("--valkey", action="store_true", help="the state of cells, from books and journal")
    what.add_argument("--ledger", action="store_true", help="the books of all cells, from the journal")
    rebuild.add_argument("--from-journal", action="store_true", help="with --valkey: do not trust the books")
    rebuild.add_argument("--cell", type=int, help="with --valkey: only this one")
    rebuild.set_defaults(tool=_rebuild)
    for each in (archive, rebuild):
        each.add_argument("--dry-run", action="store_true", help="only tell what would be done")
    for each in (verify, rebuild):
        each.add_argument(
            "--archive", type=Path, action="append", default=[], help="where old segments are; repeatable"
        )
    options = parser.parse_args()
    settings = ToolSettings()  # type: ignore[call-arg] # the environment gives them
    configure_logging("WARNING", "console")
    try:
        result, status = asyncio.run(options.tool(settings, options))
    except MeterlineError as error:
        result, status = {"error": {"reason": error.reason, "message": error.message}}, FAILED
    except DBAPIError as error:
        told = f"A database cannot be read ({error.orig}). Is it damaged? docs/operations.md says how to restore it."
        result, status = {"error": {"reason": "DATABASE_UNREADABLE", "message": told}}, FAILED
    sys.stdout.write(json.dumps(result) + "\n")
    sys.exit(status)


def _tell(message: str) -> None:
    sys.stderr.write(message + "\n")


def _open(stack: AsyncExitStack, url: str, what: str) -> Database:
    """Open a database that is there."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").exists():
        raise NotFoundError("DATABASE_NOT_FOUND", f"There is no {what} at {parsed.database}. Is it the right folder?")
    database = Database(url)
    stack.push_async_callback(database.close)
    return database


def _journal(stack: AsyncExitStack, settings: ToolSettings, archives: Sequence[Path]) -> Journal:
    """Open the journal with archives that are there."""
    opened = [archive_at(file) for file in archives]
    for archive in opened:
        stack.push_async_callback(archive.close)
    return Journal(_open(stack, settings.journal_url, "journal"), read_segment, opened)


async def _verify(settings: ToolSettings, options: argparse.Namespace) -> tuple[dict[str, Any], int]:
    started = time.monotonic()
    async with AsyncExitStack() as stack:
        journal = _journal(stack, settings, options.archive)
        books = _open(stack, settings.database_url, "ledger")
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="meterline-verify-", dir=options.scratch))
        scratch = await stack.enter_async_context(Scratch(books, Path(folder) / "scratch.sqlite"))
        client = connect(settings.valkey_url, socket_timeout=VALKEY_TIMEOUT_S)
        stack.push_async_callback(client.aclose)
        verification = Verification(
            JournalInspection(journal), scratch, lambda cell: StateInspection(client, cell), SystemClock()
        )
        report = await verification.run(_tell)
        valkey = await answers(settings.valkey_url)
    found = _described(report) | {"valkey": "answers" if valkey else "does not answer"}
    return found | {"seconds": round(time.monotonic() - started, 1)}, 0 if report.sound else FOUND


async def _archive(settings: ToolSettings, options: argparse.Namespace) -> tuple[dict[str, Any], int]:
    started = time.monotonic()
    if options.days < DAYS_MIN:
        raise InvalidArgumentError("DAYS_OUT_OF_RANGE", f"--days must be {DAYS_MIN} or more.")
    async with AsyncExitStack() as stack:
        journal = _journal(stack, settings, [])
        ledger = Ledger(_open(stack, settings.database_url, "ledger"))
        archiving = Archiving(journal, ledger, SystemClock().now_ms() - options.days * DAY_MS)
        archive = None
        if not options.dry_run:
            archive = Archive(journal.database, options.to)
            stack.push_async_callback(archive.close)
            await archive.prepare()
        moved = [await archiving.run(cell, archive, _tell) for cell in await JournalInspection(journal).cells()]
    found = {"cells": [dataclasses.asdict(each) for each in moved], "to": str(options.to)}
    return found | {"dry_run": options.dry_run, "seconds": round(time.monotonic() - started, 1)}, 0


async def _rebuild(settings: ToolSettings, options: argparse.Namespace) -> tuple[dict[str, Any], int]:
    started = time.monotonic()
    async with AsyncExitStack() as stack:
        journal = _journal(stack, settings, options.archive)
        ledger = Ledger(_open(stack, settings.database_url, "ledger"))
        cells = list(await JournalInspection(journal).cells())
        if options.cell is not None and options.cell not in cells:
            raise NotFoundError("CELL_NOT_FOUND", f"There is no cell {options.cell}; the journal has {_span(cells)}.")
        tables = FoldedTables(ledger.database)
        if options.ledger:
            books = BooksRebuild(journal, ledger, tables, cells)
            done: Any = await (books.plan if options.dry_run else books.run)(_tell)
            found = {"what": "ledger", **dataclasses.asdict(done)}
        else:
            client = connect(settings.valkey_url, socket_timeout=VALKEY_TIMEOUT_S)
            stack.push_async_callback(client.aclose)
            state = StateRebuild(
                partial(Engine, client), journal, ledger, tables, SystemClock(), from_journal=options.from_journal
            )
            chosen = cells if options.cell is None else [options.cell]
            rebuilt = [await (state.plan if options.dry_run else state.run)(cell, _tell) for cell in chosen]
            found = {"what": "valkey", "from": "journal" if options.from_journal else "books"}
            found["cells"] = [dataclasses.asdict(each) for each in rebuilt]
    return found | {"dry_run": options.dry_run, "seconds": round(time.monotonic() - started, 1)}, 0


def _span(cells: Sequence[int]) -> str:
    return f"cells {cells[0]} to {cells[-1]}" if cells else "none"


def _described(report: Report) -> dict[str, Any]:
    findings = [
        {"code": each.code, "place": each.place, "message": each.message, "repair": each.repair}
        for each in report.findings
    ]
    return {
        "sound": report.sound,
        "cells": [dataclasses.asdict(cell) for cell in report.cells.values()],
        "counts": dict(sorted(report.counts.items())),
        "findings": findings,
    }


if __name__ == "__main__":
    main()
