"""``meterline verify``: whether journal, books and balances agree, and what to do if they do not."""

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
@click.option(
    "--scratch",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder for a scratch file about as large as the sums of the books; the temporary folder if not given.",
)
@archive_option
@json_option
@click.pass_context
def verify(context: click.Context, data_dir: Path, scratch: Path | None, archives: Sequence[Path]) -> None:
    """Compare the journal, the books and the balances in Valkey, on a system that runs or not.

    The journal is folded a second time and held against the books and against Valkey. Changes nothing. Ends with
    status 0 if all that could be compared agree, 1 if something does not, 2 if it could not be found out.
    """
    output = context.ensure_object(Output)
    folder = DataFolder(data_dir)
    words = [*(["--scratch", str(scratch)] if scratch else []), *archive_words(archives)]
    found, status = run_tool(folder, output, "verify", *words)
    output.result(found, lambda: _picture(found))
    sys.exit(status)


def _picture(found: dict[str, Any]) -> RenderableType:
    total = sum(found["counts"].values())
    verdict = "Everything agrees." if found["sound"] else f"{total} things do not agree:"
    if found["sound"] and any(cell["state"] != "compared" for cell in found["cells"]):
        verdict = "What was compared agrees; balances in Valkey were not, see the table."
    cells = table("cell", "epoch", "segments", "in the books", "records", "holders", "sessions", "ids", "Valkey")
    for cell in found["cells"]:
        numbers = [cell[n] for n in ("segments", "folded", "records", "holders", "sessions", "ids")]
        cells.add_row(str(cell["cell"]), str(cell["epoch"]), *(f"{n:,}" for n in numbers), cell["state"])
    head = f"Looked at in {found['seconds']} s; Valkey {found['valkey']}."
    if found["sound"]:
        return Group(cells, "", head, verdict)
    listed = table("what", "where", "how", "repair")
    for each in found["findings"]:
        listed.add_row(each["code"], each["place"], each["message"], each["repair"])
    more = total - len(found["findings"])
    return Group(cells, "", head, verdict, "", listed, f"and {more} more" if more else "")
