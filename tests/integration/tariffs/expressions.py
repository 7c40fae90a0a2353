"""Reads how a published tariff is said in Meterline's terms: the contract's own fields, with a little sugar."""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.type.money_pb2 import Money

from meterline.catalog.v1 import plans_pb2, tariffs_pb2

MICROS = 10**6
NETWORKS = {"A": ("net_20601", "BE"), "B": ("net_20610", "BE"), "C": ("net_26201", "DE")}
UNITS = {"": 1}
UNITS |= {f"{letter}B": 1000**power for power, letter in enumerate("KMGT", 1)}
UNITS |= {f"{letter}iB": 1024**power for power, letter in enumerate("KMGT", 1)}
DEFAULT_TIME = "2026-03-20 12:00"
NO_TARIFF = {"currency": "EUR"}
"""Of an example that is about bundles only: what they do not cover has no price."""


class NotReadError(Exception):
    """What is said is not of a form that is read; the text says what."""


UNREADABLE = (NotReadError, ArithmeticError, AttributeError, LookupError, SyntaxError, TypeError, ValueError)
"""What reading something that people wrote may fail with."""


@dataclass(frozen=True)
class Use:
    """A use of the network."""

    quantity: int
    service: str = "DATA"
    network: str = "A"
    endpoint: str = "a"
    session: str = ""
    time: str = DEFAULT_TIME
    access_type: str = "4G"
    cost: str = "0"
    uncovered: int = 0
    """Units that are not to be covered: a bound stops them."""

    @property
    def at_ms(self) -> int:
        return milliseconds(self.time)


@dataclass(frozen=True)
class Refill:
    """A refill of the bundle that the endpoint has as its base plan."""

    quantity: int
    time: str
    days: int
    most: int = 0


@dataclass(frozen=True)
class Bundle:
    """A bundle that the endpoint has: its base plan (refillable or monthly) or an add-on.

    Attributes:
        rolls: for how many cycles a rest lives on, and in which order rests are drawn.
    """

    name: str
    quantity: int
    kind: str = "addon"
    given: str = DEFAULT_TIME
    days: int = 0
    on_usage: bool = False
    rolls: int = 0
    order: str = "OLDEST_FIRST"


@dataclass(frozen=True)
class Example:
    """A worked example, said as uses of a tariff, or why it is not.

    Attributes:
        rests: what is left of months of a bundle (`name~day of the month's end`), put right when the month ends.
        members: when each endpoint joined (`m1`, `m2`, ...) that shares the benefits by its plan, earliest first.
        left: names of the bundles of which the numbers that are expected are what is left at `until`.
        ends: the name of the bundle of which the day that is expected is the end.
        parts: examples, each with a tariff of its own, that cost the expected amount together.
        is_loose: whether it was read out of words, which may not say all.
    """

    verdict: str = ""
    why: str = ""
    tariff: tariffs_pb2.Tariff = field(default_factory=tariffs_pb2.Tariff)
    benefits: tuple[plans_pb2.Benefit, ...] = ()
    bundles: tuple[Bundle, ...] = ()
    rests: dict[str, int] = field(default_factory=dict)
    members: tuple[str, ...] = ()
    uses: tuple[Use, ...] = ()
    refills: tuple[Refill, ...] = ()
    left: tuple[str, ...] = ()
    ends: str = ""
    until: str = DEFAULT_TIME
    fees: Fraction = Fraction(0)
    per: Fraction = Fraction(1)
    times: int = 1
    within: Fraction = Fraction(0)
    parts: tuple["Example", ...] = ()
    is_loose: bool = False


def milliseconds(text: str) -> int:
    """Read a time, UTC if it says no other."""
    moment = datetime.fromisoformat(text)
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def volume(text: object) -> int:
    """Read `100KB` as 100000."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([A-Za-z]*)", str(text))
    units = Fraction(found[1]) * UNITS.get(found[2], 0) if found else Fraction(1, 2)
    if units.denominator != 1 or (found and found[2] not in UNITS):
        raise NotReadError(f"{text!r} is not a volume of whole units")
    return int(units)


def money(text: object, currency: str) -> Money:
    """Read an amount, whole micros."""
    micros = Fraction(str(text)) * MICROS
    if micros.denominator != 1:
        raise NotReadError(f"{text!r} is finer than a micro")
    return Money(currency_code=currency, units=int(micros) // MICROS, nanos=int(micros) % MICROS * 1000)


def fill(message: Message, fields: dict[str, Any], currency: str) -> Message:
    """Set fields of a message from plain data."""
    for name, given in fields.items():
        described = message.DESCRIPTOR.fields_by_name.get(name)
        if described is None:
            raise NotReadError(f"{name!r} is no field of {message.DESCRIPTOR.name}")
        values = given if isinstance(given, list) else [given]
        read = [_value(described, value, currency) for value in values]
        if described.is_repeated:
            getattr(message, name).extend(read)
        elif described.message_type:
            getattr(message, name).CopyFrom(read[0])
        else:
            setattr(message, name, read[0])
    return message


def _value(described: Any, value: Any, currency: str) -> Any:
    if described.enum_type is not None:
        first: str = described.enum_type.values[0].name
        known = described.enum_type.values_by_name.get(f"{first.removesuffix('UNSPECIFIED')}{value}")
        if known is None:
            raise NotReadError(f"{value!r} is no {described.enum_type.name}")
        return known.number
    if described.message_type is not None:
        if described.message_type.full_name == "google.type.Money":
            return money(value, currency)
        return fill(GetMessageClass(described.message_type)(), value, currency)
    if described.type == FieldDescriptor.TYPE_INT64:
        return volume(value)
    return value


def tariff(fields: dict[str, Any]) -> tariffs_pb2.Tariff:
    """Read a tariff."""
    made = tariffs_pb2.Tariff()
    fill(made, fields, fields["currency"])
    return made


def benefit(fields: dict[str, Any]) -> plans_pb2.Benefit:
    """Read a benefit of a plan."""
    made = plans_pb2.Benefit()
    fill(made, fields, "")
    return made


def _use(given: Any) -> Use:
    fields = given if isinstance(given, dict) else {"quantity": given}
    return Use(**{**fields, "quantity": volume(fields["quantity"]), "uncovered": volume(fields.get("uncovered", 0))})


def _refill(fields: dict[str, Any]) -> Refill:
    return Refill(**{**fields, "quantity": volume(fields["quantity"]), "most": volume(fields.get("most", 0))})


def _bundle(name: str, fields: dict[str, Any]) -> Bundle:
    return Bundle(name, **{**fields, "quantity": volume(fields["quantity"])})


def examples(entry: dict[str, Any], count: int) -> list[Example]:
    """Read the examples of a tariff; each of `count` has one. One that cannot be read spoils no other."""
    read = []
    for said in entry["examples"]:
        try:
            read.append(_example(said, entry))
        except UNREADABLE as error:
            read.append(Example("not_read", f"its expression: {error!r}"))
    if len(read) != count:
        raise NotReadError(f"it says {len(read)} of {count} examples")
    return read


def _example(said: dict[str, Any], entry: dict[str, Any]) -> Example:
    for verdict in ("not_usage", "not_yet"):
        if verdict in said:
            return Example(verdict, said[verdict])
    return Example(
        tariff=tariff(said.get("tariff") or entry.get("tariff") or NO_TARIFF),
        benefits=tuple(map(benefit, said.get("benefits", entry.get("benefits", [])))),
        bundles=tuple(_bundle(name, fields) for name, fields in said.get("bundles", {}).items()),
        rests={name: volume(quantity) for name, quantity in said.get("rests", {}).items()},
        members=tuple(time for time, count in said.get("members", {}).items() for _ in range(count)),
        uses=tuple(map(_use, said.get("uses", ()))),
        refills=tuple(map(_refill, said.get("refills", ()))),
        left=tuple(said.get("left", ())),
        ends=said.get("ends", ""),
        until=said.get("until", DEFAULT_TIME),
        fees=Fraction(said.get("fees", 0)),
        per=Fraction(volume(said["per"]) if "left" in said else said.get("per", 1)),
        times=said.get("times", 1),
        within=Fraction(said.get("within", 0)),
    )
