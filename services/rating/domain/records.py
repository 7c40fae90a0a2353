"""Names of what stands in the books: they say where in the journal a thing comes from."""

import hashlib
from typing import NamedTuple

from services.common.errors import not_found

LINES_MAX = 8
"""Usage records that one operation can make: one a service of a session."""


class Position(NamedTuple):
    """Where in the journal a usage record comes from.

    Attributes:
        cell: cell.
        sequence: segment.
        place: operation in the segment, times 8, plus the line of a session's report.
    """

    cell: int
    sequence: int
    place: int


def usage_record_id(position: tuple[int, int, int]) -> str:
    """Id of a usage record, of which the Position is given, or its parts as a tuple."""
    cell, sequence, place = position
    return f"usg_{cell}.{sequence}.{place}"


def charge_id(position: Position, step: int) -> str:
    """Id of the charge of a usage record at a step."""
    return f"chg_{position.cell}.{position.sequence}.{position.place}.{step}"


def read_usage_record_id(text: str) -> Position:
    """Read the id of a usage record, or raise NOT_FOUND."""
    numbers = _numbers(text, "usage_record", 3)
    return Position(*numbers)


def read_charge_id(text: str) -> tuple[Position, int]:
    """Read the id of a charge, or raise NOT_FOUND."""
    numbers = _numbers(text, "charge", 4)
    return Position(*numbers[:3]), numbers[3]


def read_refund_id(text: str) -> Position:
    """Read the id of a refund, or raise NOT_FOUND; its place is its operation."""
    return Position(*_numbers(text, "refund", 3))


def _numbers(text: str, kind: str, count: int) -> list[int]:
    parts = text.partition("_")[2].split(".")
    if len(parts) != count or not all(part.isascii() and part.isdigit() and len(part) < 19 for part in parts):
        raise not_found(kind, text)
    return [int(part) for part in parts]


def id_digest(endpoint_id: str, event_id: str) -> bytes:
    """16 bytes that stand for an event id of an endpoint (BLAKE2b)."""
    return hashlib.blake2b(f"{endpoint_id} {event_id}".encode(), digest_size=16).digest()


def repeat_digest(digest: bytes, position: Position) -> bytes:
    """What stands in the books in place of the digest of an id that was decided before: that one keeps its place."""
    return hashlib.blake2b(digest + repr(tuple(position)).encode(), digest_size=16).digest()


def body_digest(body: bytes) -> bytes:
    """8 bytes that stand for the content of an event (BLAKE2b)."""
    return hashlib.blake2b(body, digest_size=8).digest()
