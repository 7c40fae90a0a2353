"""What of a table a caller sees: its own account's rows and those below."""

from typing import Any

import sqlalchemy as sa

from services.common.identity import AccountKind, Principal, path_text


def visible(table: sa.Table, caller: Principal) -> sa.ColumnElement[bool]:
    """The condition for rows in the caller's subtree; enterprises and their partitions are found by an index."""
    if caller.service or caller.account_kind is AccountKind.OPERATOR:
        return sa.true()
    if caller.account_kind is AccountKind.ENTERPRISE:
        return table.c.enterprise_id == caller.account_id
    if caller.account_kind is AccountKind.SUB_ACCOUNT:
        return table.c.owner_path == path_text(caller.account_path)
    return table.c.owner_path.startswith(path_text(caller.account_path), autoescape=True)


def path_of(text: str) -> tuple[str, ...]:
    """Read a path as `path_text` writes it."""
    return tuple(text[:-1].split("/"))


def after(table: sa.Table, key: tuple[Any, ...]) -> sa.ColumnElement[bool]:
    """The condition for rows behind the last one of the page before."""
    return table.c.id > str(key[0]) if key else sa.true()
