"""Who is calling: the account context in which every call runs [003]."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum

from services.common.errors import NotFoundError, PermissionDeniedError, not_found


class AccountKind(IntEnum):
    """What an account is; numbers as in the contract."""

    OPERATOR = 1
    RESELLER = 2
    ENTERPRISE = 3
    SUB_ACCOUNT = 4


class Role(IntEnum):
    """What the holder of a credential may do; numbers as in the contract."""

    ADMIN = 1
    MANAGER = 2
    VIEWER = 3
    CHARGER = 4


class ContextLevel(IntEnum):
    """From where a caller looks at entitlements [002]; numbers as in the contract."""

    CSP = 1
    ACCOUNT = 2
    ACCOUNT_GROUP = 3


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller.

    Attributes:
        actor: id of the API key, or name of a service.
        account_id: the account in whose context the call runs.
        account_kind: its kind.
        account_path: ids from the OPERATOR down to it, itself included.
        role: what the caller may do.
        service: name of the Meterline service that makes the call itself; empty for a customer's call.
        expires_ms: when the credential ends, milliseconds since 1970; None if it does not.
    """

    actor: str
    account_id: str
    account_kind: AccountKind
    account_path: tuple[str, ...]
    role: Role
    service: str = ""
    expires_ms: int | None = field(default=None, compare=False)

    @property
    def context_level(self) -> ContextLevel:
        """CSP for the provider's side, ACCOUNT for an enterprise, ACCOUNT_GROUP inside it."""
        if self.account_kind in {AccountKind.OPERATOR, AccountKind.RESELLER}:
            return ContextLevel.CSP
        return ContextLevel.ACCOUNT if self.account_kind is AccountKind.ENTERPRISE else ContextLevel.ACCOUNT_GROUP

    def sees(self, path: tuple[str, ...] | list[str]) -> bool:
        """Whether an account with this path (OPERATOR down to itself) is the caller's own or below it."""
        return bool(self.service) or self.account_id in path

    def require_sees(self, path: tuple[str, ...] | list[str], kind: str, object_id: str) -> None:
        """Raise NOT_FOUND for an object of an account outside the caller's subtree."""
        if not self.sees(path):
            raise not_found(kind, object_id)

    def require_role(self, *roles: Role) -> None:
        """Raise PERMISSION_DENIED unless the caller has one of the roles (services of ours always do)."""
        if not self.service and self.role not in roles:
            wanted = ", ".join(role.name for role in roles)
            raise PermissionDeniedError(
                "ROLE_NOT_PERMITTED",
                f"This call needs the role {wanted}; this credential has {self.role.name}. Use another API key.",
            )

    def require_kind(self, *kinds: AccountKind) -> None:
        """Raise PERMISSION_DENIED unless the caller's account is of one of the kinds."""
        if not self.service and self.account_kind not in kinds:
            wanted = " or ".join(kind.name for kind in kinds)
            raise PermissionDeniedError(
                "ACCOUNT_KIND_NOT_PERMITTED",
                f"Only {wanted} accounts may do this; this credential belongs to {self.account_kind.name}.",
            )

    def require_service(self) -> None:
        """Raise NOT_FOUND unless one of Meterline's own services calls: internal methods do not exist outside."""
        if not self.service:
            raise NotFoundError("METHOD_NOT_FOUND", "There is no such method.")


def path_text(path: Iterable[str]) -> str:
    """Write an account path as it is stored, `operator/.../owner/`: a prefix match on it selects a subtree."""
    return "/".join([*path, ""])


def tree_of(caller: Principal) -> str:
    """Prefix of the paths of enterprises whose usage the caller sees; a sub-account's own is asked by endpoint."""
    is_sub = caller.account_kind is AccountKind.SUB_ACCOUNT
    return path_text(caller.account_path[:-1] if is_sub else caller.account_path)


WRITERS = (Role.ADMIN, Role.MANAGER)
"""Roles that may write."""
READERS = (Role.ADMIN, Role.MANAGER, Role.VIEWER)
"""Roles that may read everything of their account."""
CHARGERS = (Role.ADMIN, Role.MANAGER, Role.CHARGER)
"""Roles that may charge."""
BALANCE_READERS = (*READERS, Role.CHARGER)
"""Roles that may read balances."""
