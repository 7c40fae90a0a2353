"""Commercial terms become a program."""

from dataclasses import replace

import pytest

from services.rating.domain.buckets import bucket_specs
from services.rating.domain.compiling import compile_program, own_plans
from services.rating.domain.programs import ENDPOINT_HOLDER, NO_HOLDER, StepMode, steps_from_body
from services.rating.domain.reasons import BalanceState, Reason, Service
from services.rating.domain.terms import Benefit, Use
from services.rating.ports import ChainTerms, KnownEndpoint
from services.rating.usecases import charging
from tests.unit.rating.terms import (
    ENDPOINT,
    ENTERPRISE,
    EU,
    GB,
    OPERATOR,
    RESELLER,
    ZA,
    account,
    addon,
    catalog,
    chain,
    endpoint,
    given,
    plan,
    tariff,
)

IN_EU, IN_ZA = Use(Service.DATA, EU, 3), Use(Service.DATA, ZA, 3)
PREPAID = plan("pln_prepaid", prepaid=True)
RETAIL = plan("pln_retail", tariff_id="tar_retail")
WHOLESALE = plan("pln_wholesale", tariff_id="tar_wholesale")
EU_ADDON = addon("pln_eu", GB, zones=("zon_eu",))
TARIFFS = [tariff("tar_retail", 2_000_000), tariff("tar_wholesale", 1_000_000, "zon_eu")]
TERMS = catalog([PREPAID, RETAIL, WHOLESALE, EU_ADDON], TARIFFS)
CHAIN = chain(given("e", RETAIL.key), given("r", WHOLESALE.key))
TRAVELLER = endpoint(given("base", PREPAID.key), given("a", EU_ADDON.key, 1))


def compiled(use: Use = IN_EU, at_ms: int = 0, who=TRAVELLER, accounts=CHAIN, terms=TERMS):
    return compile_program(who, accounts, terms, use, at_ms)


@pytest.mark.requirement("R271", "R272", "R273", "R274", "R277")
def test_there_is_a_step_for_each_edge_and_the_parent_is_paid():
    steps = compiled().steps
    assert [(step.payer, step.payee) for step in steps] == [
        ("", ENTERPRISE),
        (ENTERPRISE, RESELLER),
        (RESELLER, OPERATOR),
    ]


@pytest.mark.requirement("R275", "R050", "R059")
def test_each_step_has_its_own_plan_and_price():
    own, retail, wholesale = compiled().steps
    assert (own.mode, own.rate) == (StepMode.PREPAID, None)
    assert retail.rate is not None
    assert wholesale.rate is not None
    assert (retail.rate.price(GB), wholesale.rate.price(GB)) == (2_000_000, 1_000_000)


@pytest.mark.requirement("R051", "R083", "R037")
def test_an_addon_is_usable_in_its_zones_and_nowhere_else():
    assert compiled(IN_EU).steps[0].refs
    assert not compiled(IN_ZA).steps[0].refs


def test_a_network_without_rate_has_no_price_and_says_why():
    step = compiled(IN_ZA).steps[2]
    assert (step.rate, step.no_rate) == (None, Reason.NO_RATE)
    assert compiled(IN_ZA).steps[0].no_rate is Reason.NO_VALID_ADDON


@pytest.mark.parametrize("prepaid", [True, False])
def test_where_the_base_plan_has_a_bundle_and_no_rate_the_bundle_is_what_is_missing(prepaid):
    benefit = Benefit("b1", frozenset({Service.DATA}), GB, ("zon_eu",), recurring=True)
    bundled = plan("pln_bundled", prepaid=prepaid, benefits=(benefit,))
    known, who = catalog([bundled, RETAIL, WHOLESALE], TARIFFS), endpoint(given("base", bundled.key))
    elsewhere = Reason.NO_VALID_ADDON if prepaid else Reason.NO_RATE
    uses = (IN_EU, IN_ZA, replace(IN_EU, service=Service.SMS_MO))
    reasons = [compiled(use, who=who, terms=known).steps[0].no_rate for use in uses]
    assert reasons == [Reason.BALANCE_DEPLETED, elsewhere, elsewhere]


@pytest.mark.requirement("R046", "R047", "R230")
def test_services_and_access_types_outside_the_profile_are_refused():
    data_only = replace(PREPAID, access={1: frozenset({3})})
    terms = catalog([data_only, RETAIL, WHOLESALE, EU_ADDON], TARIFFS)
    assert compiled(Use(Service.SMS_MO, EU, 3), terms=terms).deny_reason is Reason.SERVICE_BARRED
    assert compiled(Use(Service.DATA, EU, 1), terms=terms).deny_reason is Reason.SERVICE_BARRED
    assert compiled(IN_EU, terms=terms).deny_reason is Reason.NONE


@pytest.mark.requirement("R058", "R231")
def test_networks_outside_coverage_or_roaming_profile_are_refused():
    at_home = replace(PREPAID, networks=frozenset({ZA}))
    terms = catalog([at_home, RETAIL, WHOLESALE, EU_ADDON], TARIFFS)
    assert compiled(IN_EU, terms=terms).deny_reason is Reason.NETWORK_NOT_ALLOWED
    assert compiled(Use(Service.DATA, "net_99999", 3)).deny_reason is Reason.NETWORK_NOT_ALLOWED


@pytest.mark.requirement("R063", "R064", "R070")
def test_without_a_base_plan_nothing_is_charged_online():
    bare = endpoint(None, given("a", EU_ADDON.key))
    assert (compiled(who=bare).deny_reason, compiled(who=bare).deny_step) == (Reason.NO_BASE_PLAN, 0)
    no_retail = chain(None, given("r", WHOLESALE.key))
    assert (compiled(accounts=no_retail).deny_reason, compiled(accounts=no_retail).deny_step) == (
        Reason.NO_BASE_PLAN,
        1,
    )


@pytest.mark.requirement("R099", "R101", "R102")
def test_only_an_active_endpoint_below_active_accounts_passes_traffic():
    asleep = endpoint(given("base", PREPAID.key), active=False)
    assert compiled(who=asleep).deny_reason is Reason.ENDPOINT_NOT_ACTIVE
    suspended = [CHAIN[0], replace(CHAIN[1], active=False), CHAIN[2]]
    assert compiled(accounts=suspended).deny_reason is Reason.ACCOUNT_NOT_ACTIVE


@pytest.mark.requirement("R113")
def test_a_barred_service_is_refused():
    barred = replace(TRAVELLER, barred=frozenset({1}))
    assert compiled(who=barred).deny_reason is Reason.SERVICE_BARRED


@pytest.mark.requirement("R185")
def test_an_account_with_a_limit_has_a_holder_and_one_without_has_none():
    limited = chain(given("e", RETAIL.key), given("r", WHOLESALE.key), limit=5)
    assert [step.holder for step in compiled(accounts=limited).steps] == [ENDPOINT_HOLDER, NO_HOLDER, RESELLER]
    assert [step.mode for step in compiled(accounts=limited).steps][2] is StepMode.POSTPAID


def test_a_new_version_of_a_tariff_prices_from_its_time_on():
    later = tariff("tar_retail", 3_000_000, effective_ms=1000, version=2)
    terms = catalog([PREPAID, RETAIL, WHOLESALE, EU_ADDON], [*TARIFFS, later])
    before, after = compiled(at_ms=999, terms=terms), compiled(at_ms=1000, terms=terms)
    assert (before.steps[1].tariff, before.valid_until_ms) == (("tar_retail", 1), 1000)
    assert (after.steps[1].tariff, after.valid_from_ms) == (("tar_retail", 2), 1000)


def test_uses_before_and_after_a_change_of_price_are_each_compiled_once(monkeypatch):
    later = tariff("tar_retail", 3_000_000, effective_ms=1000, version=2)
    terms = catalog([PREPAID, RETAIL, WHOLESALE, EU_ADDON], [*TARIFFS, later])
    known = KnownEndpoint(TRAVELLER, ChainTerms(tuple(CHAIN), terms, set(terms.plans)), {})
    times: list[int] = []

    def counting(*asked):
        times.append(asked[-1])
        return compile_program(*asked)

    monkeypatch.setattr(charging, "compile_program", counting)
    versions = {
        at_ms: charging.program_for(known, 1, EU, 3, at_ms).steps[1].tariff[1] for at_ms in (900, 1000, 999, 1900)
    }
    assert versions == {900: 1, 1000: 2, 999: 1, 1900: 2}
    assert times == [900, 1000]


def test_the_same_terms_make_the_same_program_and_its_body_reads_back():
    assert compiled().id == compiled().id != compiled(IN_ZA).id
    assert steps_from_body(compiled().body()) == compiled().steps


@pytest.mark.requirement("R077", "R078", "R304")
def test_validity_runs_from_assignment_or_from_first_use():
    week = 7 * 86_400_000
    at_once, first_use = addon("pln_a", GB, validity_ms=week), addon("pln_b", GB, validity_ms=week, on_usage=True)
    who = endpoint(None, given("a", at_once.key, expires_ms=week), given("b", first_use.key))
    a, b = bucket_specs(own_plans(who, catalog([at_once, first_use])), account(ENTERPRISE, ()), 0)
    assert (a.state, a.expires_ms) == (BalanceState.ACTIVE, week)
    assert (b.state, b.expires_ms, b.validity_ms) == (BalanceState.PENDING, 0, week)
    assert ENDPOINT == "ep_1"
