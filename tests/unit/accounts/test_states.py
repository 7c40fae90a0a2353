"""The life of an account and its sub-accounts, as laws."""

import itertools

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from services.accounts.domain.accounts import Account, AccountState, SuspensionCause, placed_below
from services.accounts.domain.states import MATRIX, Family, Verb, first_state, target_of
from services.common.errors import FailedPreconditionError
from services.common.identity import AccountKind

DRAFT, NEW, LEAD = AccountState.DRAFT, AccountState.NEW, AccountState.LEAD
ACTIVE, SUSPENDED, TERMINATED = AccountState.ACTIVE, AccountState.SUSPENDED, AccountState.TERMINATED
NOW_MS = 1_800_000_000_000


def master(state=DRAFT) -> Account:
    cause = SuspensionCause.SELF if state is SUSPENDED else SuspensionCause.NONE
    return Account(
        id="m", kind=AccountKind.ENTERPRISE, path=("o", "m"), currency="EUR", state=state, suspension_cause=cause
    )


def sub(name: str, state: AccountState, cause=SuspensionCause.NONE) -> Account:
    return Account(id=name, kind=AccountKind.SUB_ACCOUNT, path=("o", "m", name), state=state, suspension_cause=cause)


def refusal(family: Family, account_id: str, verb: Verb) -> str:
    with pytest.raises(FailedPreconditionError) as caught:
        family.moved(account_id, verb, NOW_MS)
    return caught.value.reason


@pytest.mark.requirement("R131", "R132", "R133", "R134", "R136", "R141")
def test_the_matrix_is_that_of_the_document():
    expected = {
        DRAFT: {DRAFT},
        LEAD: {NEW, LEAD},
        ACTIVE: {NEW, LEAD, ACTIVE, SUSPENDED, TERMINATED},
        SUSPENDED: {NEW, LEAD, SUSPENDED, TERMINATED},
        TERMINATED: {TERMINATED},
    }
    assert expected == MATRIX


@pytest.mark.requirement("R131", "R132", "R133", "R134", "R135", "R136", "R139", "R141")
@pytest.mark.parametrize(
    ("parent", "state", "verb"),
    [(parent, state, verb) for parent in MATRIX for state, verb in itertools.product(sorted(MATRIX[parent]), Verb)],
)
def test_a_sub_account_moves_only_to_what_its_parent_allows(parent, state, verb):
    cause = SuspensionCause.SELF if state is SUSPENDED else SuspensionCause.NONE
    family = Family(master(parent), (sub("s", state, cause),))
    if verb in family.permitted(family.member("s")):
        moved = family.moved("s", verb, NOW_MS)
        assert moved.member("s").state is target_of(verb)
        assert moved.holds()
        assert moved.master is family.master
    else:
        assert refusal(family, "s", verb) in {"ACCOUNT_STATE_INVALID", "ACCOUNT_STATE_NOT_ALLOWED_BY_PARENT"}


@pytest.mark.requirement("R141")
@pytest.mark.parametrize("parent", list(MATRIX))
def test_a_sub_account_is_born_in_a_state_that_its_parent_allows(parent):
    if parent is TERMINATED:
        with pytest.raises(FailedPreconditionError, match="ACCOUNT_STATE_NOT_ALLOWED_BY_PARENT"):
            first_state(AccountKind.SUB_ACCOUNT, master(parent))
    else:
        assert first_state(AccountKind.SUB_ACCOUNT, master(parent)) in MATRIX[parent]


def test_a_master_account_is_born_a_draft_and_never_new():
    for parent in (DRAFT, LEAD, ACTIVE, SUSPENDED):
        assert first_state(AccountKind.ENTERPRISE, master(parent)) is DRAFT


def test_promoting_a_draft_makes_its_draft_partitions_new():
    family = Family(master(DRAFT), (sub("a", DRAFT), sub("b", DRAFT))).moved("m", Verb.PROMOTE, NOW_MS)
    assert [account.state for account in family.members] == [LEAD, NEW, NEW]


@pytest.mark.requirement("R137", "R138")
def test_suspending_a_parent_suspends_active_partitions_and_no_others():
    states = (NEW, LEAD, ACTIVE, TERMINATED)
    family = Family(master(ACTIVE), tuple(sub(state.name, state) for state in states))
    moved = family.moved("m", Verb.SUSPEND, NOW_MS, "unpaid")
    assert [account.state for account in moved.subs] == [NEW, LEAD, SUSPENDED, TERMINATED]
    assert moved.member("ACTIVE").suspension_cause is SuspensionCause.PARENT
    assert moved.master.suspension_cause is SuspensionCause.SELF
    assert moved.master.state_reason == "unpaid"
    unchanged = [after is before for before, after in zip(family.subs, moved.subs, strict=True)]
    assert unchanged == [True, True, False, True]


def test_resuming_a_parent_lifts_by_cascade_exactly_what_its_suspension_suspended():
    own = sub("own", SUSPENDED, SuspensionCause.SELF)
    family = Family(master(ACTIVE), (own, sub("with", ACTIVE))).moved("m", Verb.SUSPEND, NOW_MS)
    alone = family.moved("m", Verb.RESUME, NOW_MS)
    assert [account.state for account in alone.subs] == [SUSPENDED, SUSPENDED]
    lifted = family.moved("m", Verb.RESUME, NOW_MS, cascade=True)
    assert [account.state for account in lifted.subs] == [SUSPENDED, ACTIVE]
    assert lifted.member("with").suspension_cause is SuspensionCause.NONE


@pytest.mark.requirement("R139")
def test_a_partition_does_not_become_active_under_a_suspended_parent():
    family = Family(master(SUSPENDED), (sub("lead", LEAD), sub("held", SUSPENDED, SuspensionCause.PARENT)))
    assert refusal(family, "lead", Verb.ACTIVATE) == "ACCOUNT_STATE_NOT_ALLOWED_BY_PARENT"
    assert refusal(family, "held", Verb.RESUME) == "ACCOUNT_STATE_NOT_ALLOWED_BY_PARENT"


@pytest.mark.requirement("R140")
@pytest.mark.parametrize("state", [DRAFT, LEAD, ACTIVE, SUSPENDED])
def test_terminating_a_parent_terminates_every_partition(state):
    family = Family(master(state), tuple(sub(each.name, each) for each in sorted(MATRIX[state])))
    moved = family.moved("m", Verb.TERMINATE, NOW_MS)
    assert {account.state for account in moved.members} == {TERMINATED}
    assert moved.permitted(moved.master) == ()


def test_a_refusal_names_the_state_and_the_verbs_that_it_permits():
    with pytest.raises(FailedPreconditionError) as caught:
        Family(master(SUSPENDED)).moved("m", Verb.PROMOTE, NOW_MS)
    assert caught.value.reason == "ACCOUNT_STATE_INVALID"
    assert caught.value.metadata == {"state": "SUSPENDED", "permitted_verbs": "resume,terminate"}


class Life(RuleBasedStateMachine):
    """Any verbs, in any order, on a master account and partitions that come in between."""

    subs = Bundle("subs")

    def __init__(self) -> None:
        super().__init__()
        self.family = Family(master())
        self.moves = 0

    def attempt(self, account_id: str, verb: Verb, *, cascade: bool = False) -> None:
        before = self.family
        permitted = before.permitted(before.member(account_id))
        try:
            self.family = before.moved(account_id, verb, NOW_MS, cascade=cascade)
        except FailedPreconditionError:
            assert verb not in permitted
            return
        assert verb in permitted
        self.moves += 1
        for old, new in zip(before.members, self.family.members, strict=True):
            assert new.version == old.version + (new is not old)
            assert old.state is not TERMINATED or new is old

    @rule(target=subs)
    def create(self) -> str:
        name = f"s{len(self.family.subs)}"
        try:
            state = first_state(AccountKind.SUB_ACCOUNT, self.family.master)
        except FailedPreconditionError:
            assert self.family.master.state is TERMINATED
            return "m"
        draft = Account(kind=AccountKind.SUB_ACCOUNT, state=state)
        born = placed_below(draft, self.family.master, name, NOW_MS)
        self.family = Family(self.family.master, (*self.family.subs, born))
        return name

    @rule(verb=st.sampled_from([Verb.PROMOTE, Verb.ACTIVATE, Verb.SUSPEND]))
    def move_master_on(self, verb: Verb) -> None:
        self.attempt("m", verb)

    @rule(cascade=st.booleans())
    def resume_master(self, *, cascade: bool) -> None:
        self.attempt("m", Verb.RESUME, cascade=cascade)

    @rule(name=subs, verb=st.sampled_from(Verb), cascade=st.booleans())
    def move_any(self, name: str, verb: Verb, *, cascade: bool) -> None:
        self.attempt(name, verb, cascade=cascade)

    @rule()
    def terminate_master_late(self) -> None:
        if self.moves > 6:
            self.attempt("m", Verb.TERMINATE)

    @invariant()
    def the_matrix_holds(self) -> None:
        assert self.family.holds()

    @invariant()
    def only_suspended_accounts_have_a_cause(self) -> None:
        for account in self.family.members:
            assert (account.suspension_cause is not SuspensionCause.NONE) == (account.state is SUSPENDED)

    @invariant()
    def partitions_read_the_terms_of_their_parent(self) -> None:
        assert all(account.currency == self.family.master.currency for account in self.family.subs)


TestLife = pytest.mark.requirement("R131", "R134", "R136", "R140", "R141")(Life.TestCase)
