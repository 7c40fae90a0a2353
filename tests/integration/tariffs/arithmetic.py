"""Says a tariff nobody has said yet by the arithmetic that a worked example states: each of its lines is charged."""

import itertools
import math
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

from babel.numbers import is_currency

from tests.integration.tariffs import formulas
from tests.integration.tariffs.expressions import (
    DEFAULT_TIME,
    MICROS,
    NETWORKS,
    UNREADABLE,
    Bundle,
    Example,
    NotReadError,
    Use,
    benefit,
    tariff,
)
from tests.integration.tariffs.formulas import Group, Line, Stated

SLOTS = list(itertools.product(NETWORKS, ("DATA", "NB_IOT", "SMS_MO", "SMS_MT")))
"""Each line of a group is priced for its own service on its own network."""
USE_MAX = 8 * 10**12
UNITS_MAX = 2**50
MONTH = "2026-03-01"
LAST_DAY = datetime.fromisoformat(DEFAULT_TIME)
LEFT = re.compile(r"\b(left|remain\w*|unused)\b")
"""Units of a quantity that is the rest of a bundle."""
DAYS = frozenset({"day", "days"})
THINGS = frozenset({"sim", "sims", "line", "lines", "device", "devices", "user", "users", "month", "months", "members"})
VOLUMES = frozenset(
    {"b", "bytes", "kb", "mb", "gb", "tb", "kib", "mib", "gib", "sms", "messages", "min", "minutes", "sessions"}
)
PROSE = re.compile(r"\s+\(.*|\s*[;=].*|,\s.*", re.DOTALL)
"""What follows arithmetic in a sentence."""


def read(example: dict[str, Any]) -> Example:
    """Say an example as uses of tariffs; `not_read` where that cannot be done."""
    stated = example.get("check_expr") or PROSE.sub("", str(example.get("arithmetic") or ""))
    if not stated or not isinstance(stated, str):
        return Example("not_read", "it states no arithmetic")
    try:
        expected = example["expected_charge"]
        unit = str(expected.get("unit"))
        if "quantity" in expected and LEFT.search(unit):
            if any(map(is_currency, unit.split())):
                raise NotReadError("what is left of money")
            return _rest(*formulas.read_rest(stated))
        found = formulas.read(stated, _stated(example.get("usage")))
        if not found.groups:
            return Example("not_usage", "it states fees, and no price of a use")
        currency = expected.get("currency", "USD")
        parts = tuple(_said(group, currency) for group in found.groups)
    except (RecursionError, *UNREADABLE) as error:
        return Example("not_read", f"{stated}: {error}")
    return Example(parts=parts, fees=found.fees, is_loose="check_expr" not in example)


def _stated(usage: Any) -> Stated:
    """The numbers of an example by what their names say of them."""
    found = list(_numbers("", usage))
    used = {number for name, number in found if not _is(name, DAYS) and not _is(name, THINGS)}
    days = {number for name, number in found if _is(name, DAYS)} - used
    return Stated(frozenset(used), frozenset(days), frozenset(number for _, number in found) - used - days)


def _is(name: str, words: frozenset[str]) -> bool:
    """Whether a name says so, and does not name a volume beside: `sims`, but not `sims_month_kb`."""
    said = frozenset(re.split(r"[_\W]+", name.lower()))
    return bool(said & words) and not said & VOLUMES


def _numbers(name: str, value: Any) -> Iterator[tuple[str, Fraction]]:
    if isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else ((name, each) for each in value):
            yield from _numbers(str(key), each)
        return
    with suppress(ValueError, ZeroDivisionError):
        yield name, Fraction(str(value))


def _rest(given: Fraction, used: Fraction) -> Example:
    """A bundle of the month, and what is used of it."""
    scale = math.lcm(1000, given.denominator, used.denominator)
    return Example(
        bundles=(Bundle("plan", _units(given * scale), "monthly", given=MONTH),),
        uses=tuple(Use(units) for units in _in_turn(_units(used * scale)) if units),
        left=("plan",),
        per=Fraction(scale),
    )


def _said(group: Group, currency: str) -> Example:
    if len(group.lines) > len(SLOTS):
        raise NotReadError("more lines than are read at once")
    rates, uses = [], []
    for (network, service), line in zip(SLOTS, group.lines, strict=False):
        scale = _scale(line)
        component = (_pass(line) if line.by_day else _component(line, scale)) | _bounds(group)
        rates.append({"services": [service], "network_ids": [NETWORKS[network][0]], "components": [component]})
        if line.by_day:
            days = reversed([LAST_DAY - timedelta(days=back) for back in range(int(line.quantity))])
            uses += [Use(1, service, network, time=str(day)) for day in days for _ in range(2)]
        else:
            uses += [Use(units, service, network) for units in _in_turn(_units(line.quantity * scale))]
    said: dict[str, Any] = {"currency": currency, "rates": rates}
    if group.highest is not None:
        said["spending_caps"] = [{"scope": "CYCLE", "amount": _money(group.highest)}]
    services = sorted({use.service for use in uses})
    paid = {"services": services, "unit": "MONEY", "quantity": _units(group.paid * MICROS)}
    return Example(
        tariff=tariff(said),
        uses=tuple(uses),
        times=group.times,
        benefits=(benefit(paid),) if group.paid else (),
    )


def _pass(line: Line) -> dict[str, Any]:
    """A price of each day with use."""
    return {"scope": "DAY", "meter": "RECORDS", "tiers": [{"flat_price": _money(line.price)}]}


def _scale(line: Line) -> int:
    """Units of a volume in one of the example, so that all volumes are whole."""
    volumes = (line.quantity, line.free, line.least, line.increment, line.highest)
    return math.lcm(1000, *(volume.denominator for volume in volumes if volume is not None))


def _in_turn(units: int) -> list[int]:
    """A volume as at least two uses, none too large."""
    count = max(2, -(-units // USE_MAX))
    if count > 100:
        raise NotReadError("more use than is tried")
    return [units // count] * (count - 1) + [units - units // count * (count - 1)]


def _component(line: Line, scale: int) -> dict[str, Any]:
    increment = _units((line.increment or Fraction(1, scale)) * scale)
    block = increment if line.increment else scale
    micros = line.price * MICROS
    price = {"price": _money(Fraction(micros.numerator, MICROS)), "per_quantity": block * micros.denominator}
    tiers: list[dict[str, Any]] = [price]
    if line.highest is not None:
        if line.highest <= line.free:
            raise NotReadError("all of it is free")
        tiers = [{**price, "up_to": _units((line.highest - line.free) * scale)}, {}]
    made: dict[str, Any] = {"scope": "CYCLE", "increment": increment, "tiers": tiers}
    if line.least:
        made["minimum"] = _units(line.least * scale)
    if line.free:
        made["free_quantity"] = _units(line.free * scale)
    return made


def _bounds(group: Group) -> dict[str, Any]:
    made = {"rounding_mode": "HALF_UP"}
    if group.rounding is not None:
        made["rounding_unit"], made["rounding_mode"] = _money(group.rounding[0]), group.rounding[1]
    if group.lowest is not None:
        made["minimum_price"] = _money(group.lowest)
    return made


def _units(value: Fraction) -> int:
    if value.denominator != 1 or value > UNITS_MAX:
        raise NotReadError(f"{value} is no volume of whole units below 2^50")
    return int(value)


def _money(value: Fraction) -> str:
    whole = value * MICROS
    if whole.denominator != 1:
        raise NotReadError(f"{value} is finer than a micro")
    return f"{int(whole) // MICROS}.{int(whole) % MICROS:06d}"
