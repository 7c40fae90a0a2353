"""Usage records as people and mediation systems write them: CSV with a header, or JSON Lines.

Fields: event_id, endpoint_id, service, network_id, access_type, usage_time (RFC 3339 with offset, or milliseconds
since 1970), quantity, and mode (ONLINE or OFFLINE; OFFLINE if left out). A bad line spoils only itself. What can be
said only by someone who knows the endpoints and networks is left to the server.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cli.output import Failure
from meterline.rating.v1.charging_pb2 import UsageEvent, UsageMode
from meterline.type.v1.service_pb2 import AccessType, Service

REQUIRED = ("event_id", "endpoint_id", "service", "network_id", "access_type", "usage_time", "quantity")
FIELDS = (*REQUIRED, "mode")
LINE_CHARACTERS_MAX = 10_000
_INT64_MAX = 2**63 - 1

Parser = Callable[[str], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is not a usage record.

    Attributes:
        line: its number, from 1.
        detail: the field and what it should be.
    """

    line: int
    detail: str


@dataclass(frozen=True, slots=True)
class Record:
    """A usage record and the number of its line, from 1."""

    line: int
    event: UsageEvent


def read_records(lines: Iterable[str]) -> Iterator[Record | BadLine]:
    """Read a file's lines; whether they are JSON Lines or CSV shows in the first one that is not empty.

    Raises:
        Failure: there is no line, or the CSV header lacks a field or has one that is not known.
    """
    numbered = ((number, line.strip()) for number, line in enumerate(lines, start=1))
    filled = ((number, line) for number, line in numbered if line)
    first = next(filled, None)
    if first is None:
        raise Failure("the file is empty: expected usage records as CSV with a header, or as JSON Lines.")
    line = first[1].removeprefix("\ufeff")
    parse: Parser = _json_line
    if line.startswith("{"):
        yield _record(first[0], line, parse)
    else:
        parse = _csv_line(_header(line))
    for number, text in filled:
        yield _record(number, text, parse)


def write_csv(records: Iterable[UsageEvent]) -> Iterator[str]:
    """Write usage records as the lines of a CSV file, times in RFC 3339."""
    yield ",".join(FIELDS) + "\n"
    for event in records:
        moment = datetime.fromtimestamp(event.usage_time_ms / 1000, tz=UTC).isoformat(timespec="milliseconds")
        values = (
            event.event_id,
            event.endpoint_id,
            Service.Name(event.service).removeprefix("SERVICE_"),
            event.network_id,
            AccessType.Name(event.access_type).removeprefix("ACCESS_TYPE_"),
            moment.replace("+00:00", "Z"),
            str(event.quantity),
            UsageMode.Name(event.mode).removeprefix("USAGE_MODE_"),
        )
        yield ",".join(values) + "\n"


def _record(number: int, line: str, parse: Parser) -> Record | BadLine:
    if len(line) > LINE_CHARACTERS_MAX:
        return BadLine(number, f"line: is longer than {LINE_CHARACTERS_MAX} characters")
    try:
        return Record(number, _event(parse(line)))
    except ValueError as error:
        return BadLine(number, str(error))


def _header(line: str) -> Sequence[str]:
    names = [name.strip() for name in next(csv.reader([line]))]
    missing, unknown = sorted(set(REQUIRED) - set(names)), sorted(set(names) - set(FIELDS))
    if missing or unknown or len(set(names)) < len(names):
        problems = [f"it lacks {', '.join(missing)}"] if missing else []
        problems += [f"it has {', '.join(map(repr, unknown))}, which is not known"] if unknown else []
        problems = problems or ["a column comes twice"]
        raise Failure(f"the header of the CSV is wrong: {'; '.join(problems)}. The columns are {', '.join(FIELDS)}.")
    return names


def _csv_line(names: Sequence[str]) -> Parser:
    """A parser of single lines: a quote that is never closed spoils one line, not all that follow."""

    def parse(line: str) -> Mapping[str, Any]:
        if '"' not in line:
            values = line.split(",")
        else:
            try:
                values = next(csv.reader([line], strict=True))
            except csv.Error as error:
                raise ValueError(f"line: is not CSV: {error}") from error
        if len(values) != len(names):
            raise ValueError(f"line: has {len(values)} values, the header {len(names)} columns")
        return dict(zip(names, values, strict=True))

    return parse


def _json_line(line: str) -> Mapping[str, Any]:
    try:
        value = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"line: is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError("line: is not a JSON object")  # noqa: TRY004 - the line is wrong, not the program
    unknown = value.keys() - set(FIELDS)
    if unknown:
        raise ValueError(f"{min(unknown)}: is not a known field")
    return value


def _event(values: Mapping[str, Any]) -> UsageEvent:
    return UsageEvent(
        event_id=_text(values, "event_id"),
        endpoint_id=_text(values, "endpoint_id"),
        service=_SERVICES.read(values),
        network_id=_text(values, "network_id"),
        access_type=_ACCESS_TYPES.read(values),
        usage_time_ms=_moment_ms(values.get("usage_time")),
        quantity=_whole(values.get("quantity"), "quantity"),
        mode=_MODES.read(values),
    )


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    if not isinstance(value, str) or not (text := value.strip()):
        raise ValueError(f"{name}: is missing")
    return text.encode("utf-8", "replace").decode()  # half a surrogate pair cannot cross the wire


class _Names:
    """The names of an enumeration, with and without their common prefix."""

    def __init__(self, name: str, enum: Any, prefix: str, default: int | None = None) -> None:
        self._name = name
        self._default = default
        self._shown = [full.removeprefix(prefix) for full, number in enum.items() if number]
        self._numbers = {full: number for full, number in enum.items() if number}
        self._numbers |= {full.removeprefix(prefix): number for full, number in self._numbers.items()}

    def read(self, values: Mapping[str, Any]) -> Any:
        """The number for the name in ``values``."""
        value = values.get(self._name)
        if (value is None or value == "") and self._default is not None:
            return self._default
        number = self._numbers.get(value.strip().upper()) if isinstance(value, str) else None
        if number is None:
            raise ValueError(f"{self._name}: is {value!r}, expected one of {', '.join(self._shown)}")
        return number


_SERVICES = _Names("service", Service, "SERVICE_")
_ACCESS_TYPES = _Names("access_type", AccessType, "ACCESS_TYPE_")
_MODES = _Names("mode", UsageMode, "USAGE_MODE_", UsageMode.USAGE_MODE_OFFLINE)


def _whole(value: Any, name: str) -> int:
    if isinstance(value, str):
        text = value.strip()
        number = int(text) if text.removeprefix("-").isdecimal() and text.isascii() and len(text) <= 20 else None
    else:
        number = value if isinstance(value, int) and not isinstance(value, bool) else None
    if number is None or abs(number) > _INT64_MAX:
        raise ValueError(f"{name}: is {value!r}, expected a whole number")
    return number


def _moment_ms(value: Any) -> int:
    if isinstance(value, str) and not value.strip().removeprefix("-").isdecimal():
        try:
            moment = datetime.fromisoformat(value.strip().upper())
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            raise ValueError(f"usage_time: is {value!r}, expected a time as 2026-01-31T23:59:59Z, or milliseconds")
        return round((moment - datetime.fromtimestamp(0, tz=UTC)).total_seconds() * 1000)
    return _whole(value, "usage_time")
