"""Who may stand below whom, and what a partition takes from its parent."""

import pytest

from services.accounts.domain.accounts import (
    DEPTH_MAX,
    Account,
    inherited_violations,
    placed_below,
    require_fits_below,
)
from services.common.errors import MeterlineError
from services.common.identity import AccountKind
from services.common.money import Money

OPERATOR, RESELLER = AccountKind.OPERATOR, AccountKind.RESELLER
ENTERPRISE, SUB_ACCOUNT = AccountKind.ENTERPRISE, AccountKind.SUB_ACCOUNT


def an_account(kind: AccountKind, depth: int = 2) -> Account:
    return Account(id=f"a{depth}", kind=kind, path=tuple(f"a{level}" for level in range(1, depth + 1)), currency="EUR")


@pytest.mark.requirement("R253", "R254", "R255", "R256", "R264", "R265")
@pytest.mark.parametrize(
    ("kind", "parent", "reason"),
    [
        (RESELLER, OPERATOR, ""),
        (ENTERPRISE, OPERATOR, ""),
        (RESELLER, RESELLER, ""),
        (ENTERPRISE, RESELLER, ""),
        (SUB_ACCOUNT, ENTERPRISE, ""),
        (RESELLER, ENTERPRISE, "PARENT_IS_LEAF"),
        (ENTERPRISE, ENTERPRISE, "PARENT_IS_LEAF"),
        (RESELLER, SUB_ACCOUNT, "PARENT_IS_LEAF"),
        (ENTERPRISE, SUB_ACCOUNT, "PARENT_IS_LEAF"),
        (SUB_ACCOUNT, OPERATOR, "SUB_ACCOUNT_NEEDS_ENTERPRISE"),
        (SUB_ACCOUNT, RESELLER, "SUB_ACCOUNT_NEEDS_ENTERPRISE"),
        (SUB_ACCOUNT, SUB_ACCOUNT, "SUB_ACCOUNT_NEEDS_ENTERPRISE"),
        *((OPERATOR, parent, "OPERATOR_IS_UNIQUE") for parent in AccountKind),
    ],
)
def test_the_tree_has_its_kinds_in_order(kind, parent, reason):
    found = ""
    try:
        require_fits_below(kind, an_account(parent))
    except MeterlineError as error:
        found = error.reason
    assert found == reason


def test_the_tree_has_a_greatest_depth():
    require_fits_below(RESELLER, an_account(RESELLER, DEPTH_MAX - 1))
    with pytest.raises(MeterlineError, match="ACCOUNT_TREE_TOO_DEEP"):
        require_fits_below(RESELLER, an_account(RESELLER, DEPTH_MAX))


@pytest.mark.requirement("R117", "R187")
def test_a_partition_has_the_terms_of_its_parent():
    parent = Account(
        id="e",
        kind=ENTERPRISE,
        path=("o", "e"),
        company_id="com",
        currency="GBP",
        credit_limit=Money("GBP", 5_000_000),
        billing_cycle_day=15,
        time_zone="Europe/London",
    )
    sub = placed_below(Account(kind=SUB_ACCOUNT, name="East Coast"), parent, "s", 7)
    assert sub.path == ("o", "e", "s")
    assert (sub.company_id, sub.currency, sub.credit_limit) == ("com", "GBP", Money("GBP", 5_000_000))
    assert (sub.billing_cycle_day, sub.time_zone) == (15, "Europe/London")
    assert (sub.master_id, parent.master_id) == ("e", "e")


def test_a_partition_may_repeat_its_parents_terms_but_not_state_others():
    parent = Account(id="e", kind=ENTERPRISE, path=("o", "e"), company_id="com", currency="GBP", billing_cycle_day=15)
    same = Account(kind=SUB_ACCOUNT, company_id="com", currency="GBP", billing_cycle_day=15)
    assert inherited_violations(same, parent) == []
    other = Account(kind=SUB_ACCOUNT, currency="EUR", credit_limit=Money("GBP", 0), billing_cycle_day=2)
    assert [violation.field for violation in inherited_violations(other, parent)] == [
        "account.currency",
        "account.credit_limit",
        "account.billing_cycle_day",
    ]
