"""``meterline archive``: moves old segments out of the journal to a file that is kept elsewhere."""

import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Group, RenderableType

from cli.datafolder import DataFolder
from cli.output import Output, json_option, table
from cli.tools import run_tool
from cli.up import data_dir_option


@click.command()
@data_dir_option
@click.option(
    "--to",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The archive: a file of SQLite, made if it is not there, continued if it is.",
)
@click.option("--days", default=90, show_default=True, type=click.IntRange(7), help="Age in days of what is moved.")
@click.option("--dry-run", is_flag=True, help="Tell what would be moved, change nothing.")
@json_option
@click.pass_context
def archive(context: click.Context, data_dir: Path, to: Path, days: int, *, dry_run: bool) -> None:
    """Move segments that are old and in the books out of the journal, on a system that runs or not.

    Each is committed to the archive and read back before the journal lets go of it. Keep archives as you keep backups:
    the books are made anew from them and the journal. Ends with status 0 when it is done, 2 if it could not be.
    """
    output = context.ensure_object(Output)
    words = ["--to", str(to.absolute()), "--days", str(days), *(["--dry-run"] if dry_run else [])]
    done, status = run_tool(DataFolder(data_dir), output, "archive", *words)
    output.result(done, lambda: _picture(done))
    sys.exit(status)


def _picture(done: dict[str, Any]) -> RenderableType:
    rows = table("cell", "segments", "from", "to", "bytes", numbers=True)
    for cell in done["cells"]:
        count = cell["last"] - cell["first"] + 1
        span = (f"{cell['first']:,}", f"{cell['last']:,}") if count else ("", "")
        rows.add_row(str(cell["cell"]), f"{count:,}", *span, f"{cell['bytes']:,}")
    if done["dry_run"]:
        return Group(rows, "", f"These would be moved to {done['to']}. Nothing was changed.")
    return Group(rows, "", f"Moved to {done['to']} in {done['seconds']} s.")
