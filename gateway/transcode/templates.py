"""Path templates of google.api.http, and the router that finds the one that a path fits."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from urllib.parse import unquote

T = TypeVar("T")

ANY = "*"
REST = "**"
_TEMPLATE = re.compile(r"/(?P<segments>[^:]+)(?::(?P<verb>[A-Za-z0-9_-]+))?")
_PART = re.compile(r"\{(?P<path>[a-z0-9_.]+)(?:=(?P<inner>[^{}]+))?\}|(?P<plain>[^/{}]+)")


class TemplateError(ValueError):
    """An annotation has a path that is no template."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A field of the request that the segments from `start` to before `end` give; `end` None is to the last."""

    path: str
    start: int
    end: int | None

    @property
    def name(self) -> str:
        """Its name for people: `company_id` for `company.id`."""
        return self.path.replace(".", "_")


@dataclass(frozen=True, slots=True)
class Template:
    """A path template: literal segments, `*` for any one, `**` for all that follow; a verb after a colon."""

    segments: tuple[str, ...]
    verb: str
    variables: tuple[Variable, ...]

    @classmethod
    def parse(cls, text: str) -> "Template":
        """Read a template such as `/v1/accounts/{account_id}:suspend`.

        Raises:
            TemplateError: it is none.
        """
        match = _TEMPLATE.fullmatch(text)
        if match is None:
            raise TemplateError(f"{text!r} is not a path template")
        segments: list[str] = []
        variables = []
        for part in _parts(match["segments"]):
            inner = (part["inner"] or ANY).split("/") if part["path"] else [part["plain"]]
            if part["path"]:
                end = None if REST in inner else len(segments) + len(inner)
                variables.append(Variable(part["path"], len(segments), end))
            segments += inner
        if REST in segments[:-1]:
            raise TemplateError(f"{text!r}: ** must be the last segment")
        return cls(tuple(segments), match["verb"] or "", tuple(variables))

    def __str__(self) -> str:
        """The path as OpenAPI writes it."""
        shown = list(self.segments)
        for variable in reversed(self.variables):
            shown[variable.start : variable.end] = [f"{{{variable.name}}}"]
        return "/" + "/".join(shown) + (f":{self.verb}" if self.verb else "")

    def values(self, segments: Sequence[str]) -> list[str]:
        """The texts of the variables in the segments of a path, in the order of `variables`.

        Raises:
            UnicodeDecodeError: a segment is not UTF-8 once it is unquoted.
        """
        return ["/".join(_unquote(segment) for segment in segments[v.start : v.end]) for v in self.variables]


def _parts(segments: str) -> list[re.Match[str]]:
    parts, at = [], 0
    while at <= len(segments):
        match = _PART.match(segments, at)
        if match is None or segments[match.end() : match.end() + 1] not in {"", "/"}:
            raise TemplateError(f"{segments!r} is not a path template")
        parts.append(match)
        at = match.end() + 1
    return parts


def _unquote(segment: str) -> str:
    return unquote(segment, errors="strict") if "%" in segment else segment


@dataclass(slots=True)
class _Node(Generic[T]):
    literals: "dict[str, _Node[T]]" = field(default_factory=dict)
    any: "_Node[T] | None" = None
    rest: "_Node[T] | None" = None
    ends: dict[str, dict[str, T]] = field(default_factory=dict)

    def child(self, segment: str) -> "_Node[T]":
        if segment == ANY:
            self.any = self.any or _Node()
            return self.any
        if segment == REST:
            self.rest = self.rest or _Node()
            return self.rest
        return self.literals.setdefault(segment, _Node())

    def find(self, segments: Sequence[str], at: int, verb: str) -> Mapping[str, T] | None:
        if at == len(segments):
            return self.ends.get(verb)
        literal = self.literals.get(segments[at])
        if literal is not None and (found := literal.find(segments, at + 1, verb)):
            return found
        if self.any is not None and segments[at] and (found := self.any.find(segments, at + 1, verb)):
            return found
        return self.rest.ends.get(verb) if self.rest is not None else None


class Router(Generic[T]):
    """Finds what belongs to a path, whatever the number of templates; a literal segment wins over a variable."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()

    def add(self, template: Template, method: str, target: T) -> None:
        """Add what belongs to a method on the paths of a template.

        Raises:
            TemplateError: something else has it.
        """
        node = self._root
        for segment in template.segments:
            node = node.child(segment)
        methods = node.ends.setdefault(template.verb, {})
        if method in methods:
            raise TemplateError(f"{method} {template} belongs to two methods")
        methods[method] = target

    def find(self, raw_path: str) -> tuple[Mapping[str, T], list[str]] | None:
        """What belongs to each method on a path, and the path's segments; None if the path fits no template.

        Args:
            raw_path: the path as sent, percent-encoded. A colon in its last segment begins a verb; one that is part
                of a value is sent as `%3A`.
        """
        path, colon, verb = raw_path.rpartition(":")
        if not colon or "/" in verb:
            path, verb = raw_path, ""
        elif not verb:
            return None
        segments = path.split("/")[1:]
        methods = self._root.find(segments, 0, verb)
        return (methods, segments) if methods else None
