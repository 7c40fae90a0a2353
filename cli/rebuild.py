"""``meterline rebuild``: makes anew what ``meterline verify`` found to differ from the journal."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Group, RenderableType

from cli.datafolder import DataFolder
from cli.output import Output, json_option, table
from cli.tools import archive_option, archive_words, run_tool
from cli.up import data_dir_option


@click.command()
@data_dir_option
@click.option("--valkey", "what", flag_value="valkey", help="The balances in Valkey, from books and journal.")
@click.option("--ledger", "what", flag_value="ledger", help="The books, from the first segment of the journal on.")
@click.option("--from-journal", is_flag=True, help="With --valkey: from the journal alone; the books are not trusted.")
@click.option("--cell", type=click.IntRange(0, 1023), help="With --valkey: only this cell.")
@archive_option
@click.option("--dry-run", is_flag=True, help="Tell what would be done, change nothing.")
@json_option
@click.pass_context
def rebuild(
    context: click.Context,
    data_dir: Path,
    what: str | None,
    cell: int | None,
    archives: Sequence[Path],
    *,
    from_journal: bool,
    dry_run: bool,
) -> None:
    """Make the balances in Valkey or the books anew from the journal, on a system that runs or not.

    It looks first whether the journal is whole; if it is not, nothing is changed. Who charges while a cell is rebuilt
    is told to try again. Ends with status 0 when it is done, 1 if it could not be.
    """
    if what is None:
        raise click.UsageError("say what: --valkey or --ledger. `meterline verify` tells which.")
    if what == "ledger" and (from_journal or cell is not None):
        raise click.UsageError(
            "--ledger takes neither --cell nor --from-journal: books are sums over all cells, always from the journal."
        )
    output = context.ensure_object(Output)
    words = [f"--{what}", *(["--from-journal"] if from_journal else []), *(["--dry-run"] if dry_run else [])]
    words += [] if cell is None else ["--cell", str(cell)]
    words += archive_words(archives)
    done, status = run_tool(DataFolder(data_dir), output, "rebuild", *words)
    output.result(done, lambda: _picture(done))
    sys.exit(status)


def _picture(done: dict[str, Any]) -> RenderableType:
    return (_of_books if done["what"] == "ledger" else _of_state)(done)


def _of_state(done: dict[str, Any]) -> RenderableType:
    rows = table("cell", "epoch", "images", "ids", "segments replayed", numbers=True)
    for cell in done["cells"]:
        counts = ("" if cell[name] is None else f"{cell[name]:,}" for name in ("images", "ids", "segments"))
        rows.add_row(str(cell["cell"]), str(cell["epoch"]), *counts)
    source = "the journal alone" if done["from"] == "journal" else "books and journal"
    if done["dry_run"]:
        return Group(rows, "", f"This is what would be loaded from {source}. Nothing was changed.")
    return Group(rows, "", f"Rebuilt from {source} in {done['seconds']} s.")


def _of_books(done: dict[str, Any]) -> RenderableType:
    tables = table("table", "rows", numbers=True)
    for name, rows in done["rows"].items():
        tables.add_row(name, f"{rows:,}")
    count = len(done["segments"])
    segments = f"{sum(done['segments'].values()):,} segments of {count} {'cell' if count == 1 else 'cells'}"
    if done["dry_run"]:
        return Group(tables, "", f"These rows would be deleted and folded anew from {segments}. Nothing was changed.")
    return Group(tables, "", f"Folded anew from {segments} in {done['seconds']} s.")
