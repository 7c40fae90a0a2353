"""What all objects of the catalogue have in common: an owner, a name, a version of their state."""

from dataclasses import dataclass, replace
from typing import TypeVar

from services.common.errors import FailedPreconditionError, InvalidArgumentError, invalid
from services.common.identity import AccountKind
from services.common.ids import derived_id, new_id

T = TypeVar("T", bound="Item")

DEFAULT = "DEFAULT"
"""Name of the profiles and the APN group that an enterprise is born with [000]."""


@dataclass(frozen=True, slots=True)
class Owner:
    """An account as the owner of objects.

    Attributes:
        kind: what it is.
        path: ids from the OPERATOR down to it, itself included.
    """

    kind: AccountKind
    path: tuple[str, ...]

    @property
    def id(self) -> str:
        """Its id."""
        return self.path[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An object that an account owns.

    Attributes:
        id: prefix and 26 characters; empty before it is stored.
        owner_path: path of the account that owns it, from the OPERATOR down.
        name: unique in the account among the objects of its noun.
        system_managed: whether the server made it and keeps its content.
        created_ms: when it was created, milliseconds since 1970.
        updated_ms: when it last changed, milliseconds since 1970.
        etag: counts the changes, from 1.
    """

    id: str = ""
    owner_path: tuple[str, ...] = ()
    name: str = ""
    system_managed: bool = False
    created_ms: int = 0
    updated_ms: int = 0
    etag: int = 0

    @property
    def account_id(self) -> str:
        """The account that owns it."""
        return self.owner_path[-1]


def born(draft: T, prefix: str, owner: Owner, now_ms: int) -> T:
    """Make a stored object out of what a caller described."""
    return replace(
        draft,
        id=new_id(prefix, at_ms=now_ms),
        owner_path=owner.path,
        system_managed=False,
        created_ms=now_ms,
        updated_ms=now_ms,
        etag=1,
    )


def born_default(draft: T, prefix: str, path: tuple[str, ...], now_ms: int) -> T:
    """Make a DEFAULT object of an account; its id follows from account and name, so making it again is harmless."""
    return replace(
        draft,
        id=derived_id(prefix, path[-1], draft.name),
        owner_path=path,
        system_managed=True,
        created_ms=now_ms,
        updated_ms=now_ms,
        etag=1,
    )


def revised(current: T, changed: T, now_ms: int) -> T:
    """Carry over what no change touches: identity, owner, birth; count the change."""
    return replace(
        changed,
        id=current.id,
        owner_path=current.owner_path,
        system_managed=current.system_managed,
        created_ms=current.created_ms,
        updated_ms=now_ms,
        etag=current.etag + 1,
    )


def require_not_system_managed(item: Item, what: str) -> None:
    """Raise FAILED_PRECONDITION SYSTEM_MANAGED for a DEFAULT object."""
    if item.system_managed:
        raise FailedPreconditionError(
            "SYSTEM_MANAGED",
            f"{item.name} is kept by the server: {what}. Clone it and change the copy.",
            metadata={"id": item.id},
        )


def require_free_name(name: str, reserved: tuple[str, ...], field: str) -> None:
    """Raise INVALID_ARGUMENT NAME_RESERVED for a name that only the server gives."""
    if name in reserved:
        raise invalid(field, f"{name!r} is kept for the server; choose another name", "NAME_RESERVED")


def immutable(field: str) -> InvalidArgumentError:
    """The error for a change of what cannot change."""
    return invalid(field, "cannot be changed", "FIELD_IMMUTABLE")


def require_can_own(owner: Owner) -> None:
    """Raise FAILED_PRECONDITION for a SUB_ACCOUNT: a partition uses what its enterprise owns (model, e-01)."""
    if owner.kind is AccountKind.SUB_ACCOUNT:
        raise FailedPreconditionError(
            "ACCOUNT_IS_PARTITION",
            f"{owner.id} is a SUB_ACCOUNT and uses the catalogue of its enterprise; name the enterprise instead.",
            metadata={"account_id": owner.id},
        )
