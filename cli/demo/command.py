"""The command: finds or starts a Meterline, builds the tree, charges the month, states and checks it."""

import asyncio
import contextlib
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, date, datetime
from pathlib import Path

import click
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cli.books import Books
from cli.charge.command import batches_of, progress_bar
from cli.charge.records import Record, write_csv
from cli.charge.stream import Batch, UsageStream
from cli.client import Target, failure_of, operator_key_of
from cli.datafolder import DataFolder
from cli.demo.actor import Actor
from cli.demo.answers import Answers
from cli.demo.audit import Audit, line_of
from cli.demo.checks import Check, failed
from cli.demo.networks import load_world
from cli.demo.setup import Setup, Size, Tree
from cli.demo.statement import Statement, as_data, money_table, volume_table
from cli.demo.usage import UsageGenerator, month_before
from cli.output import Failure, Output, json_option
from cli.up import Ports, data_dir_option, running
from meterline.rating.v1.charging_pb2 import ChargeResult, UsageEvent
from services.common.errors import MeterlineError

FOLD_WAIT_S = 120.0
FOOTNOTE = "Usage only: the fees of plans and add-ons are not in it. Margin is revenue less cost in the same currency."
ENDPOINTS_MAX = 1_000_000
RECORDS_MAX = 10_000_000


@click.command()
@click.option("--endpoints", type=click.IntRange(10, ENDPOINTS_MAX), default=10_000, show_default=True)
@click.option("--records", type=click.IntRange(100, RECORDS_MAX), default=100_000, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True, help="Another seed makes another tree and month.")
@click.option(
    "--usage-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where to write the usage records for `meterline charge`; else in the data folder.",
)
@data_dir_option
@json_option
@click.pass_context
def demo(
    context: click.Context, endpoints: int, records: int, seed: int, usage_file: Path | None, data_dir: Path
) -> None:
    """Charge a month of roaming for a tree of accounts, state each level, and check the result.

    Uses the Meterline that runs on the data folder; if none does, starts one of its own in a temporary folder. Real
    networks and real prices from data/; usage from a seeded generator. To run it again on the same data repeats every
    request and must give the same statement. Exit status 1 if a check fails.
    """
    output = context.ensure_object(Output)
    run = _run(Size(seed, endpoints, records), usage_file, DataFolder(data_dir), output)
    try:
        good = asyncio.run(run)
    except MeterlineError as error:
        raise failure_of(error, Target(f"the data folder {data_dir}", "")) from error
    except asyncio.CancelledError:
        raise click.Abort from None
    if not good:
        context.exit(1)


async def _run(size: Size, usage_file: Path | None, folder: DataFolder, output: Output) -> bool:
    clock = _Stopwatch(output)
    async with _system(folder, output) as system:
        world, month = load_world(), month_before(datetime.now(UTC).date())
        operator = Actor(system, operator_key_of(DataFolder(Path(system["data_folder"]))), size.label)
        tree = Tree(await operator.identify())
        try:
            await Setup(tree, world, size, clock.tell).build()
            uses = UsageGenerator(world, size.seed, month, size.endpoints).uses(size.records)
            events = []
            for use in uses:
                event = UsageEvent(endpoint_id=tree.endpoints[use.fleet][use.device])
                event.MergeFrom(use.event)
                events.append(event)
            late, repeated = sum(use.late for use in uses), sum(use.duplicate for use in uses)
            file = usage_file or Path(system["data_folder"]) / "demo" / f"{month:%Y-%m}-{size.label[5:]}.csv"
            _write(file, events)
            clock.tell(f"{len(events):,} records of {month:%B %Y}, {late:,} late, {repeated:,} duplicates, in {file}")
            answers = await _charge(operator, events, clock)
            audit = Audit(tree, month, answers, len(events))
            await Books(operator.rating).wait_until_complete(time.time_ns() // 1_000_000, FOLD_WAIT_S)
            await audit.read()
            clock.tell("the books are complete")
            statements, checks = audit.statements(), await audit.laws()
            clock.tell(f"{len(checks)} laws checked")
        finally:
            await tree.close()
        _show(output, month, tree, statements, checks)
    return not any(failed(checks))


async def _charge(operator: Actor, events: Sequence[UsageEvent], clock: "_Stopwatch") -> Answers:
    answers, records = Answers(), (Record(line, event) for line, event in enumerate(events, start=2))
    started = time.monotonic()
    with clock.progress(len(events)) as advance:

        def answered(batch: Batch, results: list[ChargeResult]) -> None:
            answers.answered(batch, results)
            advance(len(results))

        await UsageStream(operator.rating, answered, clock.warn).charge(
            batches_of(records, lambda _line, _detail: None)
        )
    seconds = time.monotonic() - started
    clock.tell(f"charged in {seconds:.1f} s, {len(events) / seconds:,.0f} records a second")
    return answers


@contextlib.asynccontextmanager
async def _system(folder: DataFolder, output: Output) -> AsyncIterator[Mapping[str, str]]:
    """The Meterline that runs on the folder, or one that lasts as long as the demo."""
    found = folder.read_system()
    if found is not None:
        output.say(f"using the Meterline that runs on {folder.path}")
        yield found
        return
    with tempfile.TemporaryDirectory(prefix="meterline-demo-") as temporary:
        output.say(f"no Meterline runs on {folder.path}: starting one in {temporary}")
        async with running(DataFolder(Path(temporary)), _free_ports(), lambda text: output.say(text, "dim")) as own:
            watching = asyncio.create_task(own.supervisor.watch())
            try:
                yield own.describe()
            finally:
                watching.cancel()


def _free_ports() -> Ports:
    names = [field.name for field in fields(Ports) if field.name != "metrics"]
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in names]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        return Ports(**{name: free.getsockname()[1] for name, free in zip(names, sockets, strict=True)}, metrics=0)


def _write(file: Path, events: Sequence[UsageEvent]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("w", encoding="ascii") as lines:
            lines.writelines(write_csv(events))
    except OSError as error:
        raise Failure(f"cannot write {file}: {error.strerror}. Choose another with --usage-file.") from error


def _show(
    output: Output, month: date, tree: Tree, statements: Mapping[str, Statement], checks: Sequence[Check]
) -> None:
    accounts = [as_data(name, tree.account_id(name), statement) for name, statement in statements.items()]
    laws = [{"law": check.law, "holds": check.holds, "figures": check.figures} for check in checks]
    data = {"month": f"{month:%Y-%m}", "accounts": accounts, "checks": laws}
    output.result(data, lambda: _picture(month, statements, checks))


def _picture(month: date, statements: Mapping[str, Statement], checks: Sequence[Check]) -> RenderableType:
    title = Text(f"Statement of {month:%B %Y}, from the top of the tree down", "bold")
    tables = [make(statements, lambda name: len(line_of(name)) - 1) for make in (volume_table, money_table)]
    laws = Table(title="checks", title_justify="left", box=None, show_header=False, padding=(0, 1))
    for check in checks:
        laws.add_row(
            Text("ok" if check.holds else "FAILED", "green" if check.holds else "bold red"), check.law, check.figures
        )
    wrong = sum(1 for _ in failed(checks))
    verdict = (
        Text(f"{wrong} of {len(checks)} checks failed.", "bold red") if wrong else Text("All checks hold.", "green")
    )
    return Group("", title, "", tables[0], "", tables[1], Text(FOOTNOTE, "dim"), "", laws, "", verdict)


class _Stopwatch:
    """Tells what happened and how long it took."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._started = time.monotonic()

    def tell(self, text: str) -> None:
        """A stage is over."""
        self._output.say(f"{time.monotonic() - self._started:6.1f} s  {text}")

    def warn(self, text: str) -> None:
        """Something went wrong and is being mended."""
        self._output.say(text, "yellow")

    @contextlib.contextmanager
    def progress(self, total: int) -> Iterator[Callable[[int], None]]:
        """A bar on a terminal."""
        with progress_bar(self._output) as bar:
            task = bar.add_task("charging", total=total)
            yield lambda count: bar.advance(task, count)
