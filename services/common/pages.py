"""Pages of lists: a bounded size and an opaque token that says where the next page begins."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from services.common.errors import InvalidArgumentError, invalid

T = TypeVar("T")

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 1000
KEY_NUMBERS_END = 1 << 63
"""Numbers of a key are below it, as those of a database are."""


@dataclass(frozen=True, slots=True)
class PageRequest:
    """What page is asked for.

    Attributes:
        size: rows on the page, 1 to 1000.
        after: key of the last row of the page before; empty for the first page.
    """

    size: int = DEFAULT_PAGE_SIZE
    after: tuple[str | int, ...] = ()

    def key(self, *kinds: type) -> tuple[str | int, ...]:
        """The key of the last row, of these types; empty for the first page.

        Raises:
            InvalidArgumentError: PAGE_TOKEN_INVALID: the token is one of another list.
        """
        fits = all(not isinstance(part, int) or abs(part) < KEY_NUMBERS_END for part in self.after)
        if self.after and not (fits and [type(part) for part in self.after] == list(kinds)):
            raise token_invalid()
        return self.after


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A page of rows, with the token of the next one, empty on the last."""

    rows: Sequence[T]
    next_page_token: str = ""


def page_request(page_size: int, page_token: str) -> PageRequest:
    """Read what a list request asks for; a token that this server did not make is INVALID_ARGUMENT."""
    size = min(page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
    if not page_token:
        return PageRequest(size)
    try:
        after = json.loads(base64.urlsafe_b64decode(page_token.encode()))
    except ValueError:
        after = None
    if not isinstance(after, list) or not after or not all(isinstance(part, str | int) for part in after):
        raise token_invalid()
    return PageRequest(size, tuple(after))


def token_invalid() -> InvalidArgumentError:
    """The error for a token that is not of the list that it came with."""
    return invalid(
        "page_token", "is not a token of this list; take next_page_token of the page before", "PAGE_TOKEN_INVALID"
    )


def page_token(*after: str | int) -> str:
    """Make the token of the page that begins after the row with this key."""
    return base64.urlsafe_b64encode(json.dumps(after, separators=(",", ":")).encode()).decode()


def page_of(rows: Sequence[T], request: PageRequest, *keys: str) -> Page[T]:
    """Make a page out of up to `request.size + 1` rows; `keys` are the attributes that order them."""
    if len(rows) <= request.size:
        return Page(rows)
    rows = rows[: request.size]
    return Page(rows, page_token(*(getattr(rows[-1], key) for key in keys)))
