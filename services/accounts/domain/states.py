"""The life of accounts: verbs, and the matrix that holds between an account and its sub-accounts (R131-R141)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from services.accounts.domain.accounts import Account, AccountState, SuspensionCause
from services.common.errors import FailedPreconditionError
from services.common.identity import AccountKind

DRAFT, NEW, LEAD = AccountState.DRAFT, AccountState.NEW, AccountState.LEAD
ACTIVE, SUSPENDED, TERMINATED = AccountState.ACTIVE, AccountState.SUSPENDED, AccountState.TERMINATED

MATRIX: Mapping[AccountState, frozenset[AccountState]] = {
    DRAFT: frozenset({DRAFT}),
    LEAD: frozenset({NEW, LEAD}),
    ACTIVE: frozenset({NEW, LEAD, ACTIVE, SUSPENDED, TERMINATED}),
    SUSPENDED: frozenset({NEW, LEAD, SUSPENDED, TERMINATED}),
    TERMINATED: frozenset({TERMINATED}),
}
"""What a sub-account may be, by the state of its parent; a parent is never NEW (model, e-02)."""


class Verb(StrEnum):
    """What moves an account from one state to another."""

    PROMOTE = "promote"
    ACTIVATE = "activate"
    SUSPEND = "suspend"
    RESUME = "resume"
    TERMINATE = "terminate"


_MOVES: Mapping[Verb, tuple[frozenset[AccountState], AccountState]] = {
    Verb.PROMOTE: (frozenset({DRAFT, NEW}), LEAD),
    Verb.ACTIVATE: (frozenset({LEAD}), ACTIVE),
    Verb.SUSPEND: (frozenset({ACTIVE}), SUSPENDED),
    Verb.RESUME: (frozenset({SUSPENDED}), ACTIVE),
    Verb.TERMINATE: (frozenset(AccountState) - {TERMINATED}, TERMINATED),
}


def target_of(verb: Verb) -> AccountState:
    """The state to which a verb leads."""
    return _MOVES[verb][1]


def first_state(kind: AccountKind, parent: Account) -> AccountState:
    """The state in which an account is born below `parent`, or raise ACCOUNT_STATE_NOT_ALLOWED_BY_PARENT."""
    if parent.state is TERMINATED:
        raise _not_allowed_by_parent(f"A {kind.name} cannot be created", parent)
    partition = kind is AccountKind.SUB_ACCOUNT
    return NEW if partition and parent.state is not DRAFT else DRAFT


@dataclass(frozen=True, slots=True)
class Family:
    """A master account with its sub-accounts: what one verb may touch.

    Attributes:
        master: an account of the charging tree.
        subs: its SUB_ACCOUNTs; none unless it is an ENTERPRISE.
    """

    master: Account
    subs: tuple[Account, ...] = ()

    @property
    def members(self) -> tuple[Account, ...]:
        """The master, then its sub-accounts."""
        return (self.master, *self.subs)

    def member(self, account_id: str) -> Account:
        """The member with this id."""
        return next(account for account in self.members if account.id == account_id)

    def holds(self) -> bool:
        """Whether the matrix holds."""
        return all(sub.state in MATRIX[self.master.state] for sub in self.subs)

    def permitted(self, account: Account) -> tuple[Verb, ...]:
        """The verbs that a member's state and its parent's permit."""
        return tuple(verb for verb in Verb if self._follows(account, verb) and self._is_allowed(account, verb))

    def _follows(self, account: Account, verb: Verb) -> bool:
        return account.state in _MOVES[verb][0]

    def _is_allowed(self, account: Account, verb: Verb) -> bool:
        return account is self.master or target_of(verb) in MATRIX[self.master.state]

    def moved(self, account_id: str, verb: Verb, now_ms: int, reason: str = "", *, cascade: bool = False) -> "Family":
        """Apply a verb to a member, and what follows for the others.

        Args:
            account_id: the member.
            verb: what to do.
            now_ms: the time, milliseconds since 1970.
            reason: why, in the words of who does it.
            cascade: for RESUME of the master: lift the sub-accounts that its suspension suspended too (e-03).

        Raises:
            FailedPreconditionError: ACCOUNT_STATE_INVALID, or ACCOUNT_STATE_NOT_ALLOWED_BY_PARENT.
        """
        account = self.member(account_id)
        if not self._follows(account, verb):
            raise self._wrong_state(account, verb)
        if not self._is_allowed(account, verb):
            raise _not_allowed_by_parent(f"Account {account.id} cannot become {target_of(verb).name}", self.master)
        if account is not self.master:
            after = _entering(account, target_of(verb), now_ms, reason)
            return replace(self, subs=tuple(after if sub is account else sub for sub in self.subs))
        return Family(
            _entering(account, target_of(verb), now_ms, reason),
            tuple(_following(sub, verb, now_ms, reason, cascade=cascade) for sub in self.subs),
        )

    def _wrong_state(self, account: Account, verb: Verb) -> FailedPreconditionError:
        permitted = self.permitted(account)
        can = f"It permits: {', '.join(permitted)}" if permitted else "It is final"
        return FailedPreconditionError(
            "ACCOUNT_STATE_INVALID",
            f"Account {account.id} is {account.state.name}, from which there is no {verb}. {can}.",
            metadata={"state": account.state.name, "permitted_verbs": ",".join(permitted)},
            resource=("account", account.id),
        )


def _entering(
    account: Account, state: AccountState, now_ms: int, reason: str, cause: SuspensionCause = SuspensionCause.SELF
) -> Account:
    return replace(
        account,
        state=state,
        suspension_cause=cause if state is SUSPENDED else SuspensionCause.NONE,
        state_reason=reason,
        updated_ms=now_ms,
        version=account.version + 1,
    )


def _following(sub: Account, verb: Verb, now_ms: int, reason: str, *, cascade: bool) -> Account:
    """What a verb on the master does to a sub-account."""
    if verb is Verb.PROMOTE and sub.state is DRAFT:
        return _entering(sub, NEW, now_ms, reason)
    if verb is Verb.SUSPEND and sub.state is ACTIVE:
        return _entering(sub, SUSPENDED, now_ms, reason, SuspensionCause.PARENT)
    if verb is Verb.RESUME and cascade and sub.suspension_cause is SuspensionCause.PARENT:
        return _entering(sub, ACTIVE, now_ms, reason)
    if verb is Verb.TERMINATE and sub.state is not TERMINATED:
        return _entering(sub, TERMINATED, now_ms, reason)
    return sub


def _not_allowed_by_parent(what: str, parent: Account) -> FailedPreconditionError:
    return FailedPreconditionError(
        "ACCOUNT_STATE_NOT_ALLOWED_BY_PARENT",
        f"{what} while its parent {parent.id} is {parent.state.name}. Change the parent's state first, if that is due.",
        metadata={"parent_state": parent.state.name},
        resource=("account", parent.id),
    )
