"""``meterline``: the command line. Commands are imported when they are called, so that ``--help`` is quick."""

import importlib
from collections.abc import Mapping

import click

from cli.output import Output, json_option

COMMANDS: Mapping[str, str] = {
    "up": "Start everything on this machine, and stop it with Ctrl-C.",
    "demo": "Charge a month of roaming for 10,000 endpoints, and check the result.",
    "charge": "Charge a file of usage records.",
    "balances": "Show what is left of each balance.",
    "explain": "Show how a charge came about.",
    "verify": "Compare journal, books and balances.",
    "rebuild": "Make balances or books anew from the journal.",
    "archive": "Move what is old out of the journal.",
}
"""Each command NAME is the function NAME of the module cli.NAME."""


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports one when it is called."""

    def list_commands(self, _context: click.Context) -> list[str]:
        """The names, in the order in which a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        """The command of that name, imported."""
        if name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f"cli.{name}"), name)
        return command

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="meterline")
@json_option
@click.pass_context
def main(context: click.Context) -> None:
    """Meterline: connectivity management and real-time charging at every level of an account tree."""
    context.ensure_object(Output)


if __name__ == "__main__":
    main(prog_name="meterline")
