"""Assignments become buckets: cycles, validity, renewal, proration; pools become part of the program."""

from dataclasses import replace
from typing import Any

import pytest

from services.common.clock import DAY_MS
from services.rating.domain.balances import RenewOn, Role, owner_of_holder, pool_id
from services.rating.domain.buckets import RETELL_MS, bucket_specs
from services.rating.domain.compiling import compile_program, own_plans, pooled_addons
from services.rating.domain.pricing import Action
from services.rating.domain.programs import steps_from_body
from services.rating.domain.reasons import Service, Unit
from services.rating.domain.terms import Assignment, Benefit, PlanTerms, Use
from tests.unit.rating.terms import (
    ENTERPRISE,
    EU,
    GB,
    OPERATOR,
    RESELLER,
    account,
    addon,
    catalog,
    chain,
    endpoint,
    plan,
    tariff,
)
from tests.unit.rating.terms import given as assignment

NOW_MS = 1_760_000_000_000
DATA = frozenset({1})
WHO = account(ENTERPRISE, (OPERATOR, RESELLER, ENTERPRISE))
PREPAID = plan("pln_prepaid", prepaid=True)


def bucket(of: PlanTerms, *, at_ms: int = NOW_MS, assigned_ms: int = NOW_MS, expires_ms: int = 0):
    given = Assignment("asg_a", of.key, 0, assigned_ms, expires_ms)
    (spec,) = bucket_specs([(given, of)], WHO, at_ms)
    return spec


def monthly(**fields: Any) -> PlanTerms:
    return plan("pln_m", benefits=(Benefit("b1", DATA, GB, (), recurring=True, **fields),))


def test_an_ordinary_bucket_carries_nothing_more_than_it_needs():
    assert bucket(addon("pln_a", GB)).renewal is None
    assert bucket(monthly()).renewal is None
    assert bucket(replace(addon("pln_a", GB), shares=(80,))).renewal is None


@pytest.mark.parametrize("rolls", [0, 1, 12])
@pytest.mark.parametrize("years", [0, 1, 3, 19])
def test_cycles_are_told_for_longer_than_until_they_are_told_again(years, rolls):
    now = NOW_MS + years * 365 * DAY_MS
    cycles = bucket(monthly(roll_over_cycles=rolls), at_ms=now).cycles
    assert list(cycles) == sorted(set(cycles))
    assert cycles[-1] > now + 2 * RETELL_MS + rolls * 31 * DAY_MS  # where a rest of the last told cycle would end
    assert cycles[0] > NOW_MS
    assert sum(boundary <= now for boundary in cycles) >= min(rolls + 1, 12 * years)


def test_cycles_end_with_the_assignment():
    until = NOW_MS + 40 * DAY_MS
    assert bucket(monthly(), expires_ms=until).cycles[-1] == until
    assert len(bucket(monthly(), expires_ms=until).cycles) == 2


def test_a_recurring_addon_ends_first_after_its_validity_and_last_with_its_assignment():
    again = addon("pln_w", GB, renew_on=RenewOn.EXPIRY, subscriptions_max=4, validity_ms=7 * DAY_MS)
    spec = bucket(again, expires_ms=NOW_MS + 30 * DAY_MS)
    assert (spec.expires_ms, spec.renewal.last_end_ms) == (NOW_MS + 7 * DAY_MS, NOW_MS + 30 * DAY_MS)
    assert (spec.renewal.on, spec.renewal.most, spec.renewal.quantity) == (RenewOn.EXPIRY, 4, GB)
    assert bucket(again, expires_ms=NOW_MS + DAY_MS).expires_ms == NOW_MS + DAY_MS
    assert bucket(replace(again, on_usage=True)).expires_ms == 0


def test_proration_takes_whole_units_of_the_rest_of_the_first_cycle():
    prorated = replace(monthly(), prorated=True)
    began, ends = 1_759_276_800_000, 1_761_955_200_000  # October 2025
    assert bucket(prorated).quantity == GB * (ends - NOW_MS) // (ends - began)
    assert bucket(prorated, assigned_ms=began).quantity == GB
    assert bucket(prorated, assigned_ms=ends - 1).quantity == 0
    assert bucket(prorated, at_ms=NOW_MS + 365 * DAY_MS).quantity == GB  # looked at only later: a whole cycle
    assert bucket(prorated).renewal.quantity == GB


def test_money_is_counted_in_micros_of_the_currency_of_its_step():
    money = addon("pln_c", 0, benefits=(Benefit("b1", DATA, 5, (), recurring=False, money=True),))
    assert bucket(money).unit is Unit.MONEY
    priced = plan("pln_base", tariff_id="tar_t")
    who = endpoint(assignment("base", priced.key), assignment("c", money.key))
    for currency, refs in (("EUR", 1), ("USD", 0)):
        terms = catalog([priced, replace(money, currency=currency)], [tariff("tar_t", 1)])
        step = compile_program(who, chain(None, None), terms, Use(Service.DATA, EU, 3), 0).steps[0]
        assert len(step.refs) == refs


def test_a_pool_belongs_to_the_endpoints_and_not_to_the_accounts_own_step():
    shared, own = addon("pln_p", GB, pooled=True), addon("pln_o", GB)
    accounts = chain(None, None, assignment("p", shared.key), assignment("o", own.key))
    terms = catalog([PREPAID, shared, own])
    made = compile_program(endpoint(assignment("base", PREPAID.key)), accounts, terms, Use(Service.DATA, EU, 3), 0)
    assert (made.steps[0].pool, made.steps[0].refs) == (pool_id(ENTERPRISE), ("p:1:b1",))
    assert (made.steps[1].pool, made.steps[1].refs) == ("", ("o:1:b1",))
    assert set(made.holders) == {pool_id(ENTERPRISE), ENTERPRISE}
    assert steps_from_body(made.body()) == made.steps
    assert owner_of_holder(pool_id(ENTERPRISE)) == ENTERPRISE
    assert [p.key for _, p in own_plans(accounts[0], terms)] == [own.key]
    (spec,) = bucket_specs(pooled_addons(accounts[0], terms), accounts[0], 0, pool=True)
    assert spec.role is Role.POOL


def test_a_pool_elsewhere_leaves_the_program_alone():
    shared = addon("pln_p", GB, pooled=True, access={2: frozenset({3})})
    accounts = chain(None, None, assignment("p", shared.key))
    made = compile_program(
        endpoint(assignment("base", PREPAID.key)), accounts, catalog([PREPAID, shared]), Use(Service.DATA, EU, 3), 0
    )
    assert (made.steps[0].pool, made.holders) == ("", ())


def test_what_throttles_does_so_only_without_tariff_and_where_something_can_be_used_up():
    slow = plan("pln_s", throttles=True, benefits=(Benefit("b1", DATA, GB, ("zon_eu",), recurring=True),))
    priced = replace(slow, tariff_id="tar_t")

    def step(of: PlanTerms, network: str):
        terms = catalog([of], [tariff("tar_t", 1)])
        who = endpoint(assignment("base", of.key))
        return compile_program(who, chain(None, None), terms, Use(Service.DATA, network, 3), 0).steps[0]

    assert step(slow, EU).pricing.components[0].tiers[0].action is Action.THROTTLE
    assert step(slow, EU).pricing.components[0].price(2**43) == (0, Action.THROTTLE)
    assert step(slow, "net_65501").pricing is None
    assert step(priced, EU).pricing is None
