"""Tools for those who run rating: `python -m services.rating.tools verify`. The result is JSON on standard output.

They work on the stores by the settings of the environment, whether services run on them or not.
"""

import argparse
import asyncio
import dataclasses
import json
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pydantic import SecretStr

from services.common.clock import SystemClock
from services.common.errors import MeterlineError, NotFoundError
from services.rating.domain.findings import Report
from services.rating.engine.inspection import StateInspection
from services.rating.engine.records import read_segment
from services.rating.settings import RatingSettings
from services.rating.storage.inspection import JournalInspection
from services.rating.storage.journal import Journal
from services.rating.storage.scratch import Scratch
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
    options = parser.parse_args()
    settings = ToolSettings()  # type: ignore[call-arg] # the environment gives them
    configure_logging("WARNING", "console")
    try:
        result, status = asyncio.run(options.tool(settings, options))
    except MeterlineError as error:
        result, status = {"error": {"reason": error.reason, "message": error.message}}, FAILED
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


async def _verify(settings: ToolSettings, options: argparse.Namespace) -> tuple[dict[str, Any], int]:
    started = time.monotonic()
    async with AsyncExitStack() as stack:
        journal = Journal(_open(stack, settings.journal_url, "journal"), read_segment)
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
