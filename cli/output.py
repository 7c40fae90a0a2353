"""How a command speaks: results on standard output (for people, or as JSON), everything else on standard error."""

from collections.abc import Callable
from typing import Any

import click
import orjson
from rich.console import Console, RenderableType
from rich.table import Table

PIPED_WIDTH = 160
"""Characters of a line where there is no terminal that has a width."""


class Failure(click.ClickException):
    """The command could not do what was asked; the message says why and what to do. Exit status 1."""

    def show(self, file: Any = None) -> None:  # noqa: ARG002 - the base's signature
        """Print the message to standard error."""
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            f"meterline: {self.message}", markup=False, style="red"
        )


class Output:
    """Where a command writes to.

    Attributes:
        as_json: results are for programs: one JSON document a result, on a line of its own.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self.messages = Console(stderr=True, highlight=False)
        console = Console(highlight=False)
        self._results = console if console.is_terminal else Console(highlight=False, width=PIPED_WIDTH)

    def result(self, data: Any, render: Callable[[], RenderableType]) -> None:
        """Write one result: ``data`` as JSON, or what ``render`` makes of it for people (text is not wrapped)."""
        if self.as_json:
            click.echo(orjson.dumps(data, default=str))
        else:
            shown = render()
            self._results.print(shown, soft_wrap=isinstance(shown, str), markup=False)

    def say(self, message: str, style: str = "") -> None:
        """Tell people what happens; a program reads only results."""
        self.messages.print(message, style=style, markup=False, soft_wrap=True)


def table(*columns: str, numbers: bool = False) -> Table:
    """An empty table with these columns; with `numbers`, all but the first are aligned to the right."""
    made = Table(box=None, padding=(0, 1), pad_edge=False)
    for place, column in enumerate(columns):
        made.add_column(column, justify="right" if numbers and place else "left", overflow="fold")
    return made


def _set_json(context: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's
    if value:
        context.ensure_object(Output).as_json = True


json_option = click.option(
    "--json",
    is_flag=True,
    expose_value=False,
    callback=_set_json,
    help="Write results as JSON, for programs.",
)
"""``--json`` for a command, so that it may stand before or behind the command's name."""
