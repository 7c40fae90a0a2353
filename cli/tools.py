"""Runs the tools of rating on the stores that ``meterline up`` uses for a data folder and environment."""

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import orjson

from cli.datafolder import DataFolder
from cli.output import Failure, Output
from services.runtime.valkey import EmbeddedValkey

OK, FOUND = 0, 1

archive_option = click.option(
    "--archive",
    "archives",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A file to which `meterline archive` moved what is old. May be given several times.",
)


def archive_words(archives: Sequence[Path]) -> list[str]:
    """The arguments that name archives to a tool."""
    return [word for file in archives for word in ("--archive", str(file))]


class ToolFailure(Failure):
    """It could not do what was asked: another status than where something was found."""

    exit_code = 2


def run_tool(folder: DataFolder, output: Output, *arguments: str) -> tuple[Any, int]:
    """Run a tool; returns its result, and 0 if all is well or 1 if it found something.

    Raises:
        ToolFailure: it could not do what was asked.
    """
    if "METERLINE_RATING_JOURNAL_URL" not in os.environ and not folder.path.is_dir():
        raise ToolFailure(f"there is no data folder {folder.path}. Name it with --data-dir or METERLINE_DATA_DIR.")
    stores = {
        "METERLINE_RATING_DATABASE_URL": folder.database_url("rating"),
        "METERLINE_RATING_JOURNAL_URL": folder.database_url("journal"),
        "METERLINE_VALKEY_URL": EmbeddedValkey(folder.path / "valkey").url,
    }
    command = [sys.executable, "-P", "-m", "services.rating.tools", *arguments]
    with (
        subprocess.Popen(  # noqa: S603 - our own program
            command, env={**stores, **os.environ}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process,
        ThreadPoolExecutor(1) as reader,
    ):
        answer = reader.submit(process.stdout.read) if process.stdout else None  # a long one must not wait for us
        said = _tell(process.stderr, output)
        result = answer.result() if answer else ""
    if process.returncode not in {OK, FOUND} or not result:
        why = orjson.loads(result)["error"]["message"] if result else "\n".join(said)
        raise ToolFailure(why)
    return orjson.loads(result), process.returncode


def _tell(lines: Any, output: Output) -> Sequence[str]:
    """Show what a tool says while it works; returns the end of it."""
    last: list[str] = []
    for line in lines:
        last = [*last[-20:], line.rstrip()]
        output.say(line.rstrip(), style="dim")
    return last
