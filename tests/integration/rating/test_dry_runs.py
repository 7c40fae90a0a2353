"""Dry runs and price enquiries: answered as they would be, and nothing at all changes."""

from dataclasses import replace
from typing import Any

import pytest

from services.common.errors import MeterlineError
from services.common.money import Money
from services.rating.domain.decisions import SessionAction
from services.rating.domain.pricing import Action
from services.rating.domain.reasons import Outcome, Reason
from services.rating.domain.terms import ComponentTerms, RateTerms, Scope, TariffVersion, TierTerms
from services.rating.usecases.enquiring import Enquiries
from tests.integration.rating.test_charging import ENTERPRISE_CALLER, STRANGER, example, session_call
from tests.integration.rating.test_corrections import adjust, transfer
from tests.integration.rating.test_refunds import paid
from tests.integration.rating.world import OPERATOR_CALLER, StillTerms, World, event, snapshot, world
from tests.unit.rating.terms import (
    ALL,
    ENDPOINT,
    ENTERPRISE,
    GB,
    MB,
    RESELLER,
    ZA,
    catalog,
    chain,
    endpoint,
    given,
    plan,
)


async def everything(core: World) -> dict[bytes, Any]:
    """All that the balance store and the journal hold, but not when a dry run was."""
    await core.cell.preview([], {})
    kept: dict[bytes, Any] = {**await snapshot(core.client)}
    kept[b"journal"] = [segment async for segment in core.journal.read_all(0, 0)]
    return kept


async def test_a_dry_run_of_events_answers_as_the_real_one_and_changes_nothing(valkey_url, sqlite_url):
    async with world(example(), valkey_url, sqlite_url) as core:
        events = [event(600 * MB, "a"), event(300 * MB, "b"), event(300 * MB, "c"), event(600 * MB, "a"), event(0, "d")]
        before = await everything(core)
        would = await core.charging.charge(OPERATOR_CALLER, events, dry_run=True)
        assert await everything(core) == before
        real = await core.charging.charge(OPERATOR_CALLER, events)
        assert [replace(answer, usage_record_id="") for answer in real] == would
        assert [answer.outcome for answer in would] == [1, 1, 2, 1, 3]
        assert [answer.replayed for answer in would] == [False, False, False, True, False]
        again = await core.charging.charge(OPERATOR_CALLER, events[:1], dry_run=True)
        assert (again[0].replayed, again[0].usage_record_id) == (True, real[0].usage_record_id)


async def test_a_dry_run_of_a_session_is_the_balance_check(valkey_url, sqlite_url):
    async with world(example(), valkey_url, sqlite_url) as core:
        before = await everything(core)
        asked = replace(session_call("check", SessionAction.CREATE, 0, 0, 2**43), dry_run=True)
        for caller, limiting in ((OPERATOR_CALLER, 0), (ENTERPRISE_CALLER, 0)):
            (most,) = (await core.sessions.call(caller, asked)).grants
            assert (most.granted, most.reason, most.limiting_step) == (1000 * MB, Reason.NO_VALID_ADDON, limiting)
            assert most.final
        fits = replace(session_call("check", SessionAction.CREATE, 0, 0, 999 * MB), dry_run=True)
        (grant,) = (await core.sessions.call(OPERATOR_CALLER, fits)).grants
        assert (grant.granted, grant.reason, grant.final) == (999 * MB, Reason.NONE, False)
        elsewhere = replace(fits, network_id=ZA)
        (grant,) = (await core.sessions.call(OPERATOR_CALLER, elsewhere)).grants
        assert (grant.granted, grant.reason) == (0, Reason.NO_VALID_ADDON)
        assert await everything(core) == before


async def test_a_dry_run_of_update_and_release_leaves_the_session_as_it_is(valkey_url, sqlite_url):
    async with world(example(), valkey_url, sqlite_url) as core:
        await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.CREATE, 0, 0, 100 * MB))
        before = await everything(core)
        update = session_call("s", SessionAction.UPDATE, 1, 50 * MB, 200 * MB)
        release = session_call("s", SessionAction.RELEASE, 1, 50 * MB, 0)
        assert (await core.sessions.call(OPERATOR_CALLER, replace(update, dry_run=True))).grants[0].granted == 200 * MB
        would = await core.sessions.call(OPERATOR_CALLER, replace(release, dry_run=True))
        assert await everything(core) == before
        assert await core.sessions.call(OPERATOR_CALLER, release) == would
        wrong = replace(session_call("s", SessionAction.UPDATE, 7, 0, 1), dry_run=True)
        with pytest.raises(MeterlineError, match="OUT_OF_SEQUENCE"):
            await core.sessions.call(OPERATOR_CALLER, wrong)


async def test_a_dry_run_of_money_moves_none(valkey_url, sqlite_url):
    async with world(paid(), valkey_url, sqlite_url) as core:
        before = await everything(core)
        would = await core.balances.top_up(OPERATOR_CALLER, ENDPOINT, "", Money("EUR", 5_000), "t", dry_run=True)
        assert would.remaining == 5_000
        assert (await adjust(core, "bal_1.money", 5_000, dry_run=True)).done.answer == [5_000]
        assert await everything(core) == before
        assert await core.balances.top_up(OPERATOR_CALLER, ENDPOINT, "", Money("EUR", 5_000), "t") == would
        before = await everything(core)
        moved = await transfer(core, ENDPOINT, ENTERPRISE, 2_000, dry_run=True)
        assert (moved.id("trf"), moved.done.answer) == ("", [3_000, 2_000])
        with pytest.raises(MeterlineError, match="BALANCE_TOO_SMALL"):
            await transfer(core, ENDPOINT, ENTERPRISE, 5_001, dry_run=True)
        assert await everything(core) == before


def counted() -> StillTerms:
    """The first 5 MB of a cycle at 1 EUR/GB, then 3 EUR/GB; prepaid, without money."""
    tiers = (
        TierTerms(5 * MB, 1_000_000, GB, 0, Action.CHARGE),
        TierTerms(0, 3_000_000, GB, 0, Action.CHARGE),
    )
    part = ComponentTerms(id="c1", tiers=tiers, scope=Scope.CYCLE)
    fee = ComponentTerms(id="fee", tiers=(TierTerms(0, 0, 1, 500, Action.CHARGE),), scope=Scope.DAY)
    rate = RateTerms(id="r1", services=ALL, components=(part, fee))
    tariff = TariffVersion(id="tar_tiers", version=1, currency="EUR", effective_ms=0, rates=(rate,))
    paygo, post = plan("pln_paygo", prepaid=True, tariff_id="tar_tiers"), plan("pln_post", tariff_id="tar_tiers")
    accounts = chain(given("e", post.key), given("r", post.key), limit=1)
    return StillTerms([endpoint(given("base", paygo.key))], accounts, catalog([paygo, post], [tariff]))


async def test_a_price_enquiry_needs_no_balance_and_counts_from_where_counts_stand(valkey_url, sqlite_url):
    async with world(counted(), valkey_url, sqlite_url) as core:
        enquiries = Enquiries(core.kit)
        assert (await core.use(4 * MB, "poor")).reason is Reason.BALANCE_DEPLETED
        before = await everything(core)
        first = await enquiries.preview(OPERATOR_CALLER, event(4 * MB, "preview"))
        assert [step.charge.amount for step in first.steps] == [4_500, 4_500, 4_500]
        assert [step.charge.uncovered for step in first.steps] == [0, 0, 0]
        own = await enquiries.preview(ENTERPRISE_CALLER, event(4 * MB, "preview"))
        assert [(step.charge.payer_id, step.charge.payee_id) for step in own.steps] == [
            (ENDPOINT, ENTERPRISE),
            (ENTERPRISE, RESELLER),
        ]
        assert await everything(core) == before
        await core.use(4 * MB, "reported", mode=2)  # without money at the endpoint, within the limit at no step above
        await core.balances.top_up(OPERATOR_CALLER, ENDPOINT, "", Money("EUR", 4_500), "t")
        core.terms.change(
            chain=[
                core.terms.accounts[0],
                replace(core.terms.accounts[1], limit_version=2, credit_limit_micros=GB),
                core.terms.accounts[2],
            ]
        )
        assert (await core.use(4 * MB, "paid")).outcome is Outcome.CHARGED
        second = await enquiries.preview(OPERATOR_CALLER, event(4 * MB, "preview"))
        assert second.steps[0].charge.amount == 1_000 + 9_000  # 1 MB at the first tier, 3 MB at the second; fee is paid
        for caller, bad in ((STRANGER, event(1, "preview")), (OPERATOR_CALLER, event(1, "x", network_id="net_00000"))):
            with pytest.raises(MeterlineError, match="NOT_FOUND"):
                await enquiries.preview(caller, bad)


async def test_a_price_enquiry_shows_buckets_and_what_has_no_price(valkey_url, sqlite_url):
    async with world(example(), valkey_url, sqlite_url) as core:
        preview = await Enquiries(core.kit).preview(OPERATOR_CALLER, event(1200 * MB, "preview"))
        step = preview.steps[0]
        assert [(draw[0], draw[1]) for draw in step.charge.draws] == [("a.b1", 500 * MB), ("b.b1", 500 * MB)]
        assert (step.charge.uncovered, preview.reason) == (200 * MB, Reason.NO_VALID_ADDON)
        assert (preview.steps[1].charge.benefit, preview.steps[1].charge.amount) == (GB, 400_000)
        assert any("activated by this first use" in sentence for sentence in step.sentences)
