"""What of a table a caller sees, and where a page of it begins."""

import sqlalchemy as sa

from services.common.identity import AccountKind, Principal, path_text
from services.common.pages import token_invalid

_MS_MAX = 2**63 - 1


def below(path: sa.ColumnElement[str], caller: Principal) -> sa.ColumnElement[bool]:
    """The condition for rows of the caller's account and of those below it."""
    if caller.service or caller.account_kind is AccountKind.OPERATOR:
        return sa.true()
    return path.startswith(path_text(caller.account_path), autoescape=True)


def path_of(text: str) -> tuple[str, ...]:
    """Read a path as `path_text` writes it."""
    return tuple(text[:-1].split("/"))


def after(table: sa.Table, key: tuple[str | int, ...]) -> sa.ColumnElement[bool]:
    """The condition for rows behind the last one of the page before, in the order of `oldest_first`."""
    match key:
        case ():
            return sa.true()
        case (int(created_ms), str(row_id)) if 0 <= created_ms <= _MS_MAX:
            return sa.tuple_(table.c.created_ms, table.c.id) > sa.tuple_(sa.literal(created_ms), sa.literal(row_id))
    raise token_invalid()


ORDER = ("created_ms", "id")
"""The attributes that order a list, oldest first."""


def oldest_first(table: sa.Table) -> tuple[sa.ColumnElement[int], sa.ColumnElement[str]]:
    """The columns that order a list."""
    return table.c.created_ms, table.c.id


def named_like(table: sa.Table, query: str) -> sa.ColumnElement[bool]:
    """The condition for rows whose name contains `query`, in any case."""
    return table.c.name_folded.contains(query.casefold(), autoescape=True) if query else sa.true()
