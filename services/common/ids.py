"""Ids: a prefix that names the kind of thing, and a UUIDv7 in base32 (26 characters) that sorts by time."""

import hashlib
import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford base32: no i, l, o, u
_LENGTH = 26
_VALUES = frozenset(_ALPHABET)


def _encode(number: int) -> str:
    characters = []
    for _ in range(_LENGTH):
        characters.append(_ALPHABET[number & 31])
        number >>= 5
    return "".join(reversed(characters))


class _Sequence:
    """Makes the ids of one process grow: a millisecond's first is random, the next ones count on from it."""

    def __init__(self) -> None:
        self._milliseconds = 0
        self._count = 0

    def next(self, milliseconds: int) -> tuple[int, int]:
        """Return the millisecond and the 12 bits that stand behind it."""
        if milliseconds > self._milliseconds:
            self._milliseconds, self._count = milliseconds, secrets.randbits(11)
        else:
            self._count += 1
            if self._count >> 12:
                self._milliseconds, self._count = self._milliseconds + 1, 0
        return self._milliseconds, self._count


_SEQUENCE = _Sequence()


def new_id(prefix: str, *, at_ms: int | None = None) -> str:
    """Return a new id such as `acc_06dp...`; later ids of a process sort behind earlier ones.

    Args:
        prefix: kind of thing, 2 to 4 lower-case letters.
        at_ms: the time in it, milliseconds since 1970; now if left out.
    """
    if at_ms is None:
        milliseconds, count = _SEQUENCE.next(time.time_ns() // 1_000_000)
    else:
        milliseconds, count = at_ms, secrets.randbits(12)
    number = (milliseconds << 80) | (0x7 << 76) | (count << 64) | (0b10 << 62) | secrets.randbits(62)
    return f"{prefix}_{_encode(number)}"


def derived_id(prefix: str, *parts: str) -> str:
    """Return the id that always belongs to `parts`: the same parts, the same id (SHA-256, 128 bits)."""
    digest = hashlib.sha256("\x00".join(parts).encode()).digest()
    return f"{prefix}_{_encode(int.from_bytes(digest[:16], 'big'))}"


def is_id(prefix: str, text: str) -> bool:
    """Whether `text` has the form of an id with this prefix. Networks are `net_` and 5 or 6 digits."""
    head, separator, tail = text.partition("_")
    if head != prefix or not separator:
        return False
    if prefix == "net":
        return len(tail) in {5, 6} and tail.isascii() and tail.isdigit()
    if prefix in {"usg", "chg", "led", "bal", "rfd"}:
        return 0 < len(tail) <= 100 and tail.isascii() and tail.isprintable()  # these carry a position or an owner
    return len(tail) == _LENGTH and _VALUES.issuperset(tail)
