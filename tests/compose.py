"""compose.yaml as Compose reads it: variables put in, anchors merged."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
COMPOSE, DOCKERFILE, EXAMPLE = ROOT / "compose.yaml", ROOT / "Dockerfile", ROOT / ".env.example"
_VARIABLE = re.compile(r"(?<!\$)\$\{(?P<name>\w+)(?:(?P<kind>:[?-])(?P<text>[^}]*))?\}")
_MAKE = re.compile(r"^# make: (?P<command>.+)\n(?P<name>\w+)=$", re.MULTILINE)


class MissingVariableError(Exception):
    """A variable that compose.yaml requires is not set."""


def recipes(example: str) -> dict[str, str]:
    """The variables of .env.example that have to be made, and the commands that make them."""
    return {found["name"]: found["command"] for found in _MAKE.finditer(example)}


def interpolated(text: str, environment: Mapping[str, str]) -> str:
    """Put variables in.

    Raises:
        MissingVariableError: one that is required is missing or empty.
    """

    def value(match: re.Match[str]) -> str:
        given = environment.get(match["name"], "")
        if given:
            return given
        if match["kind"] == ":-":
            return match["text"]
        raise MissingVariableError(f"{match['name']}: {match['text']}")

    return _VARIABLE.sub(value, text).replace("$$", "$")


def variables(text: str) -> Iterator[tuple[str, str, str]]:
    """Name, kind (``:?`` required, ``:-`` default) and text of every variable in use."""
    for match in _VARIABLE.finditer(text):
        yield match["name"], match["kind"] or "", match["text"] or ""


def composed(text: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """The file as Compose sees it."""
    content: dict[str, Any] = yaml.safe_load(interpolated(text, environment))
    return content
