"""Reads arithmetic that people wrote, `D(20)+min(D(8),6)*10`, as lines of a price list.

A sum has fees and groups of lines; a line prices a volume, of which a part may be free, in whole increments, between a
least and a highest volume; a group has bounds, a rounding, or money that is paid already, over all of its lines.
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
DIRECTIONS = {"up": "UP", "half": "HALF_UP", "down": "DOWN"}
NUMBER = {"D", "Decimal", "Fraction"}
NOTHING = Fraction(0)


@dataclass(frozen=True)
class Line:
    """A volume at a price for each unit, or for each increment where there is one.

    Attributes:
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
        return line if line is not None and line.price == 1 and line.increment is None else None


def read(text: str, used: set[Fraction]) -> Sum:
    """Read an expression; `used` are the numbers of which one is the volume where two are multiplied."""
    return _Reading(used).sum(ast.parse(text, mode="eval").body)


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
    def __init__(self, used: set[Fraction]) -> None:
        self._used = used

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
        off, whole = constant(right), constant(left)
        if off is None:
            raise NotReadError("a price that is taken off")
        if whole in self._used and 0 <= off <= (whole or 0):
            return _of(Line(whole or NOTHING, free=off))
        return self.sum(left) + Sum(-off)

    def _product(self, node: ast.AST) -> Sum:
        numbers, others, divisor = list[Fraction](), list[ast.AST](), Fraction(1)
        for factor, divides in _factors(node):
            number = constant(factor)
            if divides and number is None:
                raise NotReadError("something that is divided by a function")
            if divides:
                divisor *= number or NOTHING
            elif number is None or ((less := _difference(factor)) and constant(less.left) in self._used):
                others.append(factor)
            else:
                numbers.append(number)
        if len(others) > 1:
            raise NotReadError("a product of functions")
        if others:
            return self.sum(others[0]).times(math.prod(numbers) / divisor)
        return self._priced(numbers, divisor)

    def _priced(self, numbers: Sequence[Fraction], divisor: Fraction) -> Sum:
        """Numbers that are multiplied: those that are used are the volume, or the first is."""
        if len(numbers) < 2 and divisor == 1:
            return Sum(sum(numbers, NOTHING))
        volumes = [number for number in numbers if number in self._used] or list(numbers[:1])
        volume, price = Fraction(math.prod(volumes)), math.prod(numbers) / divisor
        if volume <= 0 or price < 0:
            return Sum(price)
        return _of(Line(volume, price / volume))

    def _called(self, node: ast.AST) -> Sum:
        arguments = node.args if isinstance(node, ast.Call) else []
        name = WHOLE.get(_name(node), _name(node))
        if name in NUMBER and len(arguments) == 1:
            return self.sum(arguments[0])
        if name == "ceil" and len(arguments) == 1:
            return self._rounded_up(arguments[0])
        if name in {"min", "max"} and len(arguments) > 1:
            return self._bounded(arguments, is_least=name == "max")
        if (rounding := ROUNDING.fullmatch(name)) and len(arguments) == 1:
            return self._rounded(arguments[0], Fraction(1, 10 ** int(rounding[2] or 2)), DIRECTIONS[rounding[1]])
        if name == "round" and len(arguments) == 2 and (digits := constant(arguments[1])) in range(7):
            return self._rounded(arguments[0], Fraction(1, 10 ** int(digits or 0)), "HALF_UP")
        raise NotReadError(f"{ast.unparse(node)} is neither a number nor a function that is known")

    def _rounded_up(self, node: ast.AST) -> Sum:
        """Whole increments of a volume."""
        volume, increment = node, Fraction(1)
        while isinstance(volume, ast.BinOp) and isinstance(volume.op, ast.Div):
            divisor = constant(volume.right)
            if not divisor or divisor < 0:
                raise NotReadError("increments that are no number")
            volume, increment = volume.left, increment * divisor
        line = self._volume(volume)
        if line.highest is not None and (line.highest - line.free) % increment:
            raise NotReadError("whole increments of a volume that ends within one")
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
        others = [each for each in arguments if constant(each) is None or (is_least and _difference(each))]
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
