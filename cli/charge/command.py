"""The command: a file in, batches out, a summary at the end."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

import click
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

from cli.charge.currencies import currencies_of
from cli.charge.records import BadLine, Record, read_records
from cli.charge.stream import BATCH_EVENTS, Batch, UsageStream
from cli.charge.summary import Summary, as_data, as_picture
from cli.client import Connection, Target, failure_of, rating_options
from cli.output import Failure, Output, json_option
from services.common.errors import MeterlineError


@click.command()
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@rating_options
@json_option
@click.pass_context
def charge(context: click.Context, file: Path, target: Target) -> None:
    """Charge a FILE of usage records; - is standard input.

    CSV with a header, or JSON Lines, with the fields event_id, endpoint_id, service (DATA, SMS_MO, SMS_MT, NB_IOT),
    network_id, access_type (2G, 3G, 4G, 5G), usage_time (RFC 3339, or milliseconds since 1970), quantity (bytes or
    messages) and mode (ONLINE asks first; OFFLINE, the default, reports). The same file may be sent again: what has
    been charged is answered, not charged again. Exit status 1 if any record is invalid.
    """
    output = context.ensure_object(Output)
    try:
        summary = asyncio.run(_charge(file, target, output))
    except MeterlineError as error:
        raise failure_of(error, target) from error
    if summary.invalid_count:
        context.exit(1)


async def _charge(file: Path, target: Target, output: Output) -> Summary:
    summary, started = Summary(), time.monotonic()
    with _opened(file) as lines, progress_bar(output) as progress:
        task = progress.add_task(file.name, total=_size(file))
        source = read_records(_counting(lines, lambda length: progress.advance(task, length)))
        async with Connection(target) as connection:
            stream = UsageStream(connection, summary.answered, lambda text: output.say(text, "yellow"))
            await stream.charge(batches_of(source, summary.bad_line))
            seconds = time.monotonic() - started
            levels = summary.levels(await currencies_of(connection, summary))
    output.result(as_data(summary, levels, seconds), lambda: as_picture(summary, levels, seconds))
    return summary


async def batches_of(
    records: Iterator[Record | BadLine], on_bad_line: Callable[[int, str], None], size: int = BATCH_EVENTS
) -> AsyncIterator[Batch]:
    """Group records into batches of ``size``; a bad line goes to ``on_bad_line``.

    Reading runs in a thread, because standard input may make it wait.
    """

    def read(batch: Batch) -> Batch:
        for record in records:
            if isinstance(record, BadLine):
                on_bad_line(record.line, record.detail)
                continue
            batch.lines.append(record.line)
            batch.events.append(record.event)
            if len(batch.events) == size:
                break
        return batch

    number = 1
    while (batch := await asyncio.to_thread(read, Batch(number))).events:
        yield batch
        number += 1


def _opened(file: Path) -> IO[str]:
    try:
        return click.open_file(str(file), encoding="utf-8", errors="replace")
    except OSError as error:
        raise Failure(f"cannot read {file}: {error.strerror}.") from error


def _size(file: Path) -> int | None:
    return file.stat().st_size if file.is_file() else None


def _counting(lines: Iterable[str], advance: Callable[[int], None]) -> Iterator[str]:
    for line in lines:
        advance(len(line))
        yield line


def progress_bar(output: Output) -> Progress:
    """A bar on a terminal; nothing where nobody looks."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=output.messages,
        transient=True,
        disable=not output.messages.is_terminal,
    )
