"""Reads a tariff nobody has said yet out of the arithmetic that a worked example states.

`D(20)+min(D(8),6)*10` is a fee of 20 and a volume of 8 at 10 each, free above 6. What cannot be read so is said to be
not read; nothing is guessed from the expected amount.
"""

import ast
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from tests.integration.tariffs.expressions import UNREADABLE, Example, NotReadError, Use, tariff

SCALE = 1000
"""Units of volume in one unit of the example: its quantities have up to three decimals."""
SERVICES = ("DATA", "NB_IOT", "SMS_MO", "SMS_MT")
ROUNDINGS = {"rup": ("0.01", "UP"), "rdown0": ("1", "DOWN")}


@dataclass(frozen=True)
class Volume:
    """A volume, rounded up to whole increments, of which a part is free."""

    quantity: Fraction
    increment: Fraction = Fraction(0)
    free: Fraction = Fraction(0)
    highest: Fraction | None = None
    lowest: Fraction = Fraction(0)
    """At least so many increments (or units) are priced."""


@dataclass(frozen=True)
class Priced:
    """A volume at a price for each unit (or each increment)."""

    volume: Volume
    price: Fraction


@dataclass(frozen=True)
class Bounded:
    """Prices with a bound over all of them, or one rounded to a unit of money."""

    parts: tuple[Priced, ...]
    lowest: Fraction | None = None
    highest: Fraction | None = None
    rounding: tuple[str, str] | None = None


def read(example: dict[str, Any]) -> Example:
    """Say an example as uses of a tariff; `not_read` where that cannot be done."""
    expression = example.get("check_expr")
    if not expression or not isinstance(expression, str):
        return Example("not_read", "it states no arithmetic")
    try:
        used = {Fraction(str(value)) for value in _numbers(example.get("usage"))}
        fees, parts = _sum(ast.parse(expression, mode="eval").body, used)
        return _example(fees, parts, example["expected_charge"].get("currency", "USD"))
    except UNREADABLE as error:
        return Example("not_read", f"{expression}: {error}")


def _numbers(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [number for each in value.values() for number in _numbers(each)]
    if isinstance(value, list):
        return [number for each in value for number in _numbers(each)]
    try:
        Fraction(str(value))
    except (ValueError, ZeroDivisionError):
        return []
    return [value]


def _number(node: ast.AST) -> Fraction | None:
    if isinstance(node, ast.Constant):
        return Fraction(str(node.value))
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "D":
        return _number(node.args[0])
    return None


def _sum(node: ast.AST, used: set[Fraction]) -> tuple[Fraction, list[Bounded]]:
    """Fees and priced parts of a sum."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        one, other = _sum(node.left, used), _sum(node.right, used)
        return one[0] + other[0], one[1] + other[1]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        for times, parts in ((node.left, node.right), (node.right, node.left)):
            if isinstance(parts, ast.BinOp) and isinstance(parts.op, ast.Add):
                return _times(_number(times), *_sum(parts, used))
    number = _number(node)
    if number is not None:
        return number, []
    return Fraction(0), [_bounded(node, used)]


def _times(factor: Fraction | None, fees: Fraction, parts: list[Bounded]) -> tuple[Fraction, list[Bounded]]:
    """A sum so many times: the fees are, and the prices are so much higher."""
    if factor is None or any(part.lowest or part.highest or part.rounding for part in parts):
        raise NotReadError("a product of sums, bounds or roundings")
    dearer = [Bounded(tuple(Priced(each.volume, each.price * factor) for each in part.parts)) for part in parts]
    return fees * factor, dearer


def _bounded(node: ast.AST, used: set[Fraction]) -> Bounded:
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") in {"min", "max"} and len(node.args) == 2:
        numbers = [_number(each) for each in node.args]
        bound = next((number for number in numbers if number is not None), None)
        others = [each for each, number in zip(node.args, numbers, strict=True) if number is None]
        if bound is not None and len(others) == 1:
            fees, parts = _sum(others[0], used)
            if fees or any(part.lowest is not None or part.highest is not None or part.rounding for part in parts):
                raise NotReadError("a bound over fees, bounds or roundings")
            priced = tuple(priced for part in parts for priced in part.parts)
            is_min = getattr(node.func, "id", "") == "min"
            return Bounded(priced, None if is_min else bound, bound if is_min else None)
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ROUNDINGS:
        number = _number(node.args[0])
        priced_part = Priced(Volume(Fraction(1)), number) if number is not None else _priced(node.args[0], used)
        return Bounded((priced_part,), rounding=ROUNDINGS[node.func.id])  # type: ignore[attr-defined]
    return Bounded((_priced(node, used),))


def _priced(node: ast.AST, used: set[Fraction]) -> Priced:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        left, right = _number(node.left), _number(node.right)
        if left is not None and right is not None:
            return Priced(Volume(left), right) if left in used or right not in used else Priced(Volume(right), left)
        if right is not None:
            return Priced(_volume(node.left), right)
        if left is not None:
            return Priced(_volume(node.right), left)
    return Priced(_volume(node), Fraction(1))


def _volume(node: ast.AST) -> Volume:
    if isinstance(node, ast.Call):
        name, numbers = getattr(node.func, "id", ""), [_number(each) for each in node.args]
        if name == "ceil":
            return _rounded_up(node.args[0])
        if name == "min" and len(numbers) == 2 and None not in numbers:
            return Volume(numbers[0] or Fraction(0), highest=numbers[1])
        if name == "max" and numbers[1] == 0:
            return _difference(node.args[0])
        if name == "max" and numbers[1] is not None:
            return replace(_volume(node.args[0]), lowest=numbers[1])
        raise NotReadError(f"{name}() of a volume")
    return _difference(node)


def _rounded_up(node: ast.AST) -> Volume:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        quantity, increment = _number(node.left), _number(node.right)
        if increment:
            above = Volume(quantity) if quantity is not None else _difference(node.left)
            return Volume(above.quantity, increment, above.free)
    quantity = _number(node)
    if quantity is not None:
        return Volume(quantity, Fraction(1))
    difference = _difference(node)
    return Volume(difference.quantity, Fraction(1), difference.free)


def _difference(node: ast.AST) -> Volume:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub):
        quantity, free = _number(node.left), _number(node.right)
        if quantity is not None and free is not None and free >= 0:
            return Volume(quantity, free=free)
    raise NotReadError("not a volume")


def _units(value: Fraction) -> int:
    if (value * SCALE).denominator != 1:
        raise NotReadError(f"{value} has more than three decimals")
    return int(value * SCALE)


def _example(fees: Fraction, parts: list[Bounded], currency: str) -> Example:
    priced = [(part, each) for part in parts for each in part.parts]
    bounded = [part for part in parts if part.lowest is not None or part.highest is not None]
    if len(priced) > len(SERVICES) or len(bounded) > 1 or (bounded and len(parts) > 1):
        raise NotReadError("more parts than are read at once")
    rates, uses, caps = [], [], []
    for service, (bounds, each) in zip(SERVICES, priced, strict=False):
        rates.append({"services": [service], "components": [_component(bounds, each)]})
        half = _units(each.volume.quantity) // 2
        uses += [Use(half, service), Use(_units(each.volume.quantity) - half, service)]
        if bounds.highest is not None:
            caps = [{"scope": "CYCLE", "amount": str(_money(bounds.highest))}]
    said = {"currency": currency, "rates": rates or [{"services": ["DATA"], "price": "0"}], "spending_caps": caps}
    return Example(tariff=tariff(said), uses=tuple(uses), fees=fees)


def _component(bounds: Bounded, each: Priced) -> dict[str, Any]:
    increment = _units(each.volume.increment or Fraction(1, SCALE))
    per = SCALE if not each.volume.increment else increment
    price = {"price": str(_money(each.price)), "per_quantity": per}
    tiers: list[dict[str, Any]] = [price]
    if each.volume.highest is not None:
        tiers = [{**price, "up_to": _units(each.volume.highest)}, {}]
    made: dict[str, Any] = {"scope": "CYCLE", "increment": increment, "tiers": tiers}
    if each.volume.lowest:
        made["minimum"] = int(each.volume.lowest * per)
    if each.volume.free:
        made["free_quantity"] = _units(each.volume.free)
    if bounds.rounding is not None:
        made["rounding_unit"], made["rounding_mode"] = bounds.rounding
    if bounds.lowest is not None:
        made["minimum_price"] = str(_money(bounds.lowest))
    return made


def _money(value: Fraction) -> str:
    whole = value * 10**6
    if whole.denominator != 1:
        raise NotReadError(f"{value} is finer than a micro")
    return f"{int(whole) // 10**6}.{int(whole) % 10**6:06d}"
