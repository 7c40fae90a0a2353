"""Reads arithmetic that people wrote, `D(20)+min(D(8),6)*10`, as lines of a price list.

A sum has fees and groups of lines; a line prices a volume, of which a part may be free, in whole increments, between a
least and a highest volume; a group has bounds, a rounding, or money that is paid already, over all of its lines.
What is multiplied is use if the example says so of one of the numbers (`Stated`), a pass if it says days, and else a fee.
Nothing is guessed from the result, and what cannot be a price list raises `NotReadError`.
"""

import ast
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from tests.integration.tariffs.expressions import NotReadError

ROUNDING = re.compile(r"r(up|half|down)([0-9]?)")
"""Functions that round money: which way, and to how many decimals, two if it does not say."""
WHOLE = {"floor": "rdown0", "int": "rdown0"}
PASS_DAYS_MAX = 62
DIRECTIONS = {"up": "UP", "half": "HALF_UP", "down": "DOWN"}
NUMBER = {"D", "Decimal", "Fraction"}
NOTHING = Fraction(0)


@dataclass(frozen=True)
class Stated:
    """The numbers that an example states: what is used, on how many days, and how many things have it."""

    used: frozenset[Fraction] = frozenset()
    days: frozenset[Fraction] = frozenset()
    things: frozenset[Fraction] = frozenset()


@dataclass(frozen=True)
class Line:
    """A volume at a price for each unit, or for each increment where there is one.

    Attributes:
        by_day: whether the volume is days with use, and the price that of each.
        free: what costs nothing, of the beginning.
        least: at least so much is priced, free units apart.
        highest: what is above it costs nothing.
    """

    quantity: Fraction
    price: Fraction = Fraction(1)
    free: Fraction = NOTHING
    least: Fraction = NOTHING
    increment: Fraction | None = None
    highest: Fraction | None = None
    by_day: bool = False


@dataclass(frozen=True)
class Group:
    """Lines that are bounded, rounded or paid together, so many times; `paid` is money that is there before."""

    lines: tuple[Line, ...]
    lowest: Fraction | None = None
    highest: Fraction | None = None
    rounding: tuple[Fraction, str] | None = None
    paid: Fraction = NOTHING
    times: int = 1

    @property
    def is_plain(self) -> bool:
        """Whether it is nothing but its lines."""
        return self == Group(self.lines)


@dataclass(frozen=True)
class Sum:
    """Fees, below 0 if they are discounts, and groups."""

    fees: Fraction = NOTHING
    groups: tuple[Group, ...] = ()

    def __add__(self, other: "Sum") -> "Sum":
        return Sum(self.fees + other.fees, self.groups + other.groups)

    def times(self, factor: Fraction) -> "Sum":
        """Everything so many times as dear."""
        if factor < 0 and self.groups:
            raise NotReadError("a price below nothing")
        return Sum(self.fees * factor, tuple(_dearer(group, factor) for group in self.groups if factor))

    @property
    def line(self) -> Line | None:
        """Its line, if it is nothing but one."""
        is_one = not self.fees and len(self.groups) == 1 and self.groups[0].is_plain and len(self.groups[0].lines) == 1
        return self.groups[0].lines[0] if is_one else None

    @property
    def volume(self) -> Line | None:
        """Its line, if it is nothing but a volume, without price and increments."""
        line = self.line
        is_volume = line is not None and line.price == 1 and line.increment is None and not line.by_day
        return line if is_volume else None


def read(text: str, stated: Stated) -> Sum:
    """Read an expression of what is to be paid."""
    return _Reading(stated).sum(_WithoutFloorDivision().visit(ast.parse(text, mode="eval").body))


def read_rest(text: str) -> tuple[Fraction, Fraction]:
    """Read an expression of what is left of a bundle: its quantity, and what is used of it."""
    node = ast.parse(text, mode="eval").body
    while _name(node) in {"max", *NUMBER} and isinstance(node, ast.Call):
        others = [each for each in node.args if constant(each) != 0]
        if len(others) != 1:
            raise NotReadError("what is left of several bundles")
        (node,) = others
    less = _difference(node)
    given, used = (constant(less.left), constant(less.right)) if less else (None, None)
    if given is None or used is None or given < 0 or used < 0:
        raise NotReadError("what is left of something that is no bundle")
    return given, used


class _WithoutFloorDivision(ast.NodeTransformer):
    """Says `-(-a // b)` as `ceil(a / b)`, and `a // b` as `floor(a / b)`."""

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        match node:
            case ast.UnaryOp(
                op=ast.USub(),
                operand=ast.BinOp(left=ast.UnaryOp(op=ast.USub(), operand=left), op=ast.FloorDiv(), right=right),
            ):
                return self._called("ceil", left, right)
        return self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        if isinstance(node.op, ast.FloorDiv):
            return self._called("floor", node.left, node.right)
        return self.generic_visit(node)

    def _called(self, name: str, left: ast.expr, right: ast.expr) -> ast.Call:
        divided = ast.BinOp(self.visit(left), ast.Div(), self.visit(right))
        return ast.Call(ast.Name(name, ast.Load()), [divided], [])


def constant(node: ast.AST) -> Fraction | None:
    """The value of what has no function but `D` and `sum` of numbers."""
    found: Fraction | None = None
    match node:
        case ast.Constant(value=int() | float() | str() as stated) if not isinstance(stated, bool):
            found = Fraction(str(stated))
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
            found = constant(operand)
            found = -found if found is not None and isinstance(sign, ast.USub) else found
        case ast.BinOp(left=left, op=op, right=right):
            one, other = constant(left), constant(right)
            found = None if one is None or other is None else _calculated(one, op, other)
        case ast.Call(args=[argument]) if _name(node) in NUMBER:
            found = constant(argument)
        case ast.Call(args=[ast.List(elts=elements) | ast.Tuple(elts=elements)]) if _name(node) == "sum":
            values = [value for value in map(constant, elements) if value is not None]
            found = sum(values, NOTHING) if len(values) == len(elements) else None
    return found


def _name(node: ast.AST) -> str:
    """Name of the function that is called, without its module."""
    match node:
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), keywords=[]):
            return name
    return ""


def _difference(node: ast.AST) -> ast.BinOp | None:
    """Something less something."""
    return node if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub) else None


def _calculated(one: Fraction, op: ast.operator, other: Fraction) -> Fraction | None:
    match op:
        case ast.Add():
            return one + other
        case ast.Sub():
            return one - other
        case ast.Mult():
            return one * other
        case ast.Div():
            return one / other
    return None


def _dearer(group: Group, factor: Fraction) -> Group:
    if group.rounding is not None:
        if factor.denominator != 1:
            raise NotReadError("a part of something rounded")
        return replace(group, times=group.times * int(factor))
    return replace(
        group,
        lines=tuple(replace(line, price=line.price * factor) for line in group.lines),
        lowest=None if group.lowest is None else group.lowest * factor,
        highest=None if group.highest is None else group.highest * factor,
        paid=group.paid * factor,
    )


def _of(*lines: Line) -> Sum:
    return Sum(NOTHING, (Group(lines),))


def _factors(node: ast.AST) -> Iterator[tuple[ast.AST, bool]]:
    """What is multiplied, and whether it divides."""
    match node:
        case ast.BinOp(left=left, op=ast.Mult() | ast.Div() as op, right=right):
            yield from _factors(left)
            for factor, divides in _factors(right):
                yield factor, divides != isinstance(op, ast.Div)
        case ast.Call(args=[ast.BinOp() | ast.Call() as argument]) if _name(node) in NUMBER:
            yield from _factors(argument)
        case _:
            yield node, False


class _Reading:
    def __init__(self, stated: Stated) -> None:
        self._stated = stated
        self._used = stated.used

    def sum(self, node: ast.AST) -> Sum:
        match node:
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self.sum(left) + self.sum(right)
            case ast.BinOp(left=left, op=ast.Sub(), right=right):
                return self._less(left, right)
            case ast.BinOp(op=ast.Mult() | ast.Div()):
                return self._product(node)
            case ast.Call(args=[ast.List(elts=elements) | ast.Tuple(elts=elements)]) if _name(node) == "sum":
                return sum(map(self.sum, elements), Sum())
        number = constant(node)
        return self._called(node) if number is None else Sum(number)

    def _less(self, left: ast.AST, right: ast.AST) -> Sum:
        off = constant(right)
        if off is None:
            raise NotReadError("a price that is taken off")
        return self.sum(left) + Sum(-off)

    def _factor(self, node: ast.AST) -> Sum:
        """Something that is not a number alone: also a volume of which a part is free, and whole increments of one."""
        match node:
            case ast.BinOp(left=left, op=ast.Sub(), right=right):
                off, whole = constant(right), constant(left)
                if whole is not None and off is not None and whole in self._used and 0 <= off <= whole:
                    return _of(Line(whole, free=off))
            case ast.Call(args=[ast.BinOp(op=ast.Div()) as parts]) if _name(node) in WHOLE:
                return self._in_whole(parts, goes_down=True)
        return self.sum(node)

    def _product(self, node: ast.AST) -> Sum:
        numbers, others, divisor = list[Fraction](), list[ast.AST](), Fraction(1)
        for factor, divides in _factors(node):
            number = constant(factor)
            if divides and number is None:
                raise NotReadError("something that is divided by a function")
            if divides:
                divisor *= number or NOTHING
            elif (
                number is None
                or self._has_price(factor)
                or ((less := _difference(factor)) and constant(less.left) in self._used)
            ):
                others.append(factor)
            else:
                numbers.append(number)
        if len(others) > 1:
            raise NotReadError("a product of functions")
        if others:
            return self._factor(others[0]).times(math.prod(numbers) / divisor)
        return self._priced(numbers, divisor)

    def _priced(self, numbers: Sequence[Fraction], divisor: Fraction) -> Sum:
        """Numbers that are multiplied: those that are used are the volume; if none is, days, or the first where nothing
        is known of any.
        """
        if len(numbers) < 2 and divisor == 1:
            return Sum(sum(numbers, NOTHING))
        volumes, price = [number for number in numbers if number in self._used], math.prod(numbers) / divisor
        days = [number for number in numbers if number in self._stated.days and number not in volumes]
        if not volumes and len(days) == 1 and divisor == 1 and days[0] in range(1, PASS_DAYS_MAX) and price >= 0:
            return _of(Line(days[0], price / days[0], by_day=True))
        if not volumes and any(number in self._stated.things | self._stated.days for number in numbers):
            return Sum(price)
        volume = Fraction(math.prod(volumes or numbers[:1]))
        if volumes and volume == 0:
            return _of(Line(volume, math.prod(number for number in numbers if number not in volumes) / divisor))
        if volume <= 0 or price < 0:
            return Sum(price)
        return _of(Line(volume, price / volume))

    def _called(self, node: ast.AST) -> Sum:
        arguments = node.args if isinstance(node, ast.Call) else []
        name = WHOLE.get(_name(node), _name(node))
        if name in NUMBER and len(arguments) == 1:
            return self.sum(arguments[0])
        if name == "ceil" and len(arguments) == 1:
            return self._in_whole(arguments[0], goes_down=False)
        if name in {"min", "max"} and len(arguments) > 1:
            return self._bounded(arguments, is_least=name == "max")
        if (rounding := ROUNDING.fullmatch(name)) and len(arguments) == 1:
            return self._rounded(arguments[0], Fraction(1, 10 ** int(rounding[2] or 2)), DIRECTIONS[rounding[1]])
        if (
            name == "round"
            and len(arguments) in {1, 2}
            and (digits := constant([*arguments, ast.Constant(0)][1])) in range(7)
        ):
            return self._rounded(arguments[0], Fraction(1, 10 ** int(digits or 0)), "HALF_EVEN")
        raise NotReadError(f"{ast.unparse(node)} is neither a number nor a function that is known")

    def _in_whole(self, node: ast.AST, *, goes_down: bool) -> Sum:
        """Whole increments of a volume, the last one begun included or not: then all but a whole one is free."""
        volume, increment = node, Fraction(1)
        while isinstance(volume, ast.BinOp) and isinstance(volume.op, ast.Div):
            divisor = constant(volume.right)
            if not divisor or divisor < 0:
                raise NotReadError("increments that are no number")
            volume, increment = volume.left, increment * divisor
        line = self._volume(volume)
        if line.highest is not None and (line.highest - line.free) % increment:
            raise NotReadError("whole increments of a volume that ends within one")
        if goes_down:
            if line.highest is not None or line.least:
                raise NotReadError("increments, rounded down, of a volume with bounds")
            unit = Fraction(1, math.lcm(1000, *(each.denominator for each in (line.quantity, line.free, increment))))
            line = replace(line, free=line.free + increment - unit)
        return _of(replace(line, increment=increment))

    def _volume(self, node: ast.AST) -> Line:
        """A volume without a price."""
        match node:
            case ast.BinOp(left=left, op=ast.Sub(), right=right):
                off, line = constant(right), self._volume(left)
                if off is None or off < 0 or line.free or line.least:
                    raise NotReadError("a volume that is taken off another")
                return replace(line, free=off)
            case ast.Call(args=[ast.Call() as argument]) if _name(node) in NUMBER:
                return self._volume(argument)
            case ast.Call() if _name(node) in {"min", "max"}:
                if (bounded := self.sum(node).volume) is not None:
                    return bounded
        number = constant(node)
        if number is None or number < 0:
            raise NotReadError(f"{ast.unparse(node)} is no volume")
        return Line(number)

    def _bounded(self, arguments: Sequence[ast.AST], *, is_least: bool) -> Sum:
        extreme = max if is_least else min
        # a difference is a number, but below 0 it would be cut
        others = [
            each
            for each in arguments
            if constant(each) is None or (is_least and _difference(each)) or self._is_price(each)
        ]
        numbers = [number for each in arguments if each not in others and (number := constant(each)) is not None]
        if not others:
            volume = next((number for number in numbers if number in self._used), numbers[-1])
            bounds = list(numbers)
            bounds.remove(volume)
            return _of(_within(Line(volume), extreme(bounds), is_least=is_least))
        if len(others) > 1 or not numbers:
            raise NotReadError(f"the {extreme.__name__} of two prices")
        bound = extreme(numbers)
        if is_least and (less := _difference(others[0])):
            return self._above(less, bound)
        inner = self.sum(others[0])
        if inner.volume is not None:
            return _of(_within(inner.volume, bound, is_least=is_least))
        return _with_least(inner, bound) if is_least else _with_highest(inner, bound)

    def _has_price(self, node: ast.AST) -> bool:
        """Whether it is a sum in which something is priced."""
        return any(isinstance(each, ast.BinOp) and self._is_price(each) for each in ast.walk(node))

    def _is_price(self, node: ast.AST) -> bool:
        """Whether it is a number of units at a price for each."""
        numbers = [constant(factor) for factor, _ in _factors(node)]
        return len(numbers) > 1 and any(number in self._used for number in numbers)

    def _above(self, node: ast.BinOp, least: Fraction) -> Sum:
        """What is above a free part or a sum that is paid, at least so much."""
        off = constant(node.right)
        if off is None or off < 0:
            raise NotReadError("a price that is taken off")
        if constant(node.left) is not None or _name(node.left) in {"min", "max"}:
            line = self._volume(node)
            if least and line.quantity <= off:
                raise NotReadError("a least volume where all of it is free")
            return _of(replace(line, least=least))
        inner = self.sum(node.left)
        if least or len(inner.groups) != 1 or inner.fees or inner.groups[0].paid:
            raise NotReadError("money that is taken off several prices")
        line_of, increments = inner.line, NOTHING
        if line_of is not None and line_of.increment and line_of.price and not line_of.free:
            increments = off / line_of.price
            if increments.denominator == 1:
                return _of(replace(line_of, free=increments * line_of.increment))
        return Sum(NOTHING, (replace(inner.groups[0], paid=off),))

    def _rounded(self, node: ast.AST, unit: Fraction, mode: str) -> Sum:
        inner = self.sum(node)
        if not inner.groups:
            inner = _of(Line(Fraction(1), inner.fees))
        (group, *more) = inner.groups
        if more or len(group.lines) > 1 or group.rounding or group.paid or inner.fees % unit:
            raise NotReadError("a rounding over several prices")
        return Sum(inner.fees, (replace(group, rounding=(unit, mode)),))


def _within(line: Line, bound: Fraction, *, is_least: bool) -> Line:
    if is_least:
        return replace(line, least=max(line.least, bound))
    if line.highest is not None or line.least:
        raise NotReadError("a volume with two bounds")
    return replace(line, highest=bound)


def _with_least(inner: Sum, bound: Fraction) -> Sum:
    """A sum that is not below a bound. One line has a least price; several are paid for by a fee of it first."""
    due = bound - inner.fees
    if due <= 0:
        return inner
    if any(group.rounding or group.paid or group.lowest for group in inner.groups) or len(inner.groups) == 0:
        raise NotReadError("a bound of what is rounded, paid or bounded")
    if len(inner.groups) == 1 and len(inner.groups[0].lines) == 1 and inner.groups[0].highest is None:
        return Sum(inner.fees, (replace(inner.groups[0], lowest=due),))
    return Sum(bound, (replace(_together(inner.groups), paid=due),))


def _with_highest(inner: Sum, bound: Fraction) -> Sum:
    if bound <= inner.fees:
        return Sum(bound)
    if any(group.rounding or group.paid for group in inner.groups) or len(inner.groups) == 0:
        raise NotReadError("a bound of what is rounded or paid")
    due = bound - inner.fees
    group = _together(inner.groups)
    return Sum(inner.fees, (replace(group, highest=due if group.highest is None else min(due, group.highest)),))


def _together(groups: Sequence[Group]) -> Group:
    if len(groups) == 1:
        return groups[0]
    if not all(group.is_plain for group in groups):
        raise NotReadError("a bound of what has bounds")
    return Group(tuple(line for group in groups for line in group.lines))
