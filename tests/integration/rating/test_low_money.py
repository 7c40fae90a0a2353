"""Money and credit limits that become low or are used up: each crossing is an event, once, for those whom it concerns."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from services.common.errors import ResourceExhaustedError
from services.common.money import Money
from services.common.pages import PageRequest
from services.rating.domain.decisions import SessionAction
from services.rating.domain.reasons import Outcome, Reason
from services.rating.ports import ChainTerms, KnownEndpoint
from services.rating.storage.happenings import Happenings as HappeningsStore
from services.rating.usecases.enquiring import Enquiries
from services.rating.usecases.happenings import Wanted
from services.runtime.packing import pack, unpack
from tests.integration.rating.many import PRICE, Many, ManyTerms, many
from tests.integration.rating.settling import settled_world
from tests.integration.rating.test_balances import events, kinds
from tests.integration.rating.test_charging import ENTERPRISE_CALLER, STRANGER, session_call
from tests.integration.rating.test_corrections import OTHER, adjust, money, transfer, two_endpoints
from tests.integration.rating.test_refunds import RESELLER_CALLER, paid, refund
from tests.integration.rating.world import OPERATOR_CALLER, StillTerms, World, event
from tests.unit.rating.terms import ENDPOINT, ENTERPRISE, MB, RESELLER, given, plan

MONEY, RESELLER_MONEY = "bal_1.money", "bal_r.money"
LOW, EMPTY = "balance.threshold_reached", "balance.depleted"
NEAR, EXHAUSTED = "account.credit_threshold_reached", "account.credit_exhausted"
MOST = 2**53 - 1


def limited(micros: int) -> StillTerms:
    """The endpoint prepaid at 2,000 micros for a megabyte, the reseller with a limit, at 1,000."""
    terms = paid()
    enterprise, reseller, operator = terms.accounts
    terms.change(chain=(enterprise, replace(reseller, credit_limit_micros=micros), operator))
    return terms


async def put_in(core: World, micros: int, name: str, owner: str = ENDPOINT) -> None:
    of = ("", owner) if owner.startswith("acc_") else (owner, "")
    await core.balances.top_up(OPERATOR_CALLER, *of, Money("EUR", micros), name)


async def owe(core: World, micros: int) -> None:
    """Let the reseller owe so much more."""
    await adjust(core, RESELLER_MONEY, micros, credit_used=True)


# --- money ----------------------------------------------------------------------------------------------------------


async def test_money_is_low_once_and_used_up_once(valkey_url, sqlite_url):
    async with settled_world(paid(), valkey_url, sqlite_url) as core:
        await put_in(core, 20_000, "t")
        seen = []
        for name in "abcdefghij":
            await core.use(MB, name)
            await core.use(MB, name)  # again
            seen.append(await kinds(core))
        assert seen == [[]] * 7 + [[LOW]] * 2 + [[LOW, EMPTY]]
        assert (await core.use(MB, "k")).reason is Reason.BALANCE_DEPLETED
        about = {"holder_id": ENDPOINT, "endpoint_id": ENDPOINT}
        assert await events(core) == [
            (LOW, MONEY, {**about, "threshold_percent": 80}),
            (EMPTY, MONEY, {**about, "granted": 20_000}),
        ]
        assert len(await events(core, ENTERPRISE_CALLER, account_id=ENTERPRISE)) == 2
        assert await events(core, STRANGER) == []


@pytest.mark.parametrize("mode", [1, 2])
async def test_one_use_may_cross_both(mode, valkey_url, sqlite_url):
    async with settled_world(paid(), valkey_url, sqlite_url) as core:
        await put_in(core, 20_000, "t")
        await core.use(10 * MB, "a", mode=mode)
        assert await kinds(core) == [LOW, EMPTY]


async def test_reported_use_that_is_not_all_covered_uses_money_up(valkey_url, sqlite_url):
    async with settled_world(paid(), valkey_url, sqlite_url) as core:
        await put_in(core, 20_000, "t")
        await core.use(7 * MB, "a", mode=2)
        assert await kinds(core) == []
        await core.use(4 * MB, "b", mode=2)
        await core.use(MB, "c", mode=2)
        assert await kinds(core) == [LOW, EMPTY, "endpoint.blocked"]


async def test_what_sessions_report_crosses_and_what_they_reserve_does_not(valkey_url, sqlite_url):
    async with settled_world(paid(), valkey_url, sqlite_url) as core:
        await put_in(core, 20_000, "t")
        await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.CREATE, 0, 0, 10 * MB))
        assert await kinds(core) == []
        await core.sessions.call(OPERATOR_CALLER, session_call("s", SessionAction.RELEASE, 1, 8 * MB, 0))
        assert await kinds(core) == [LOW]


async def by_top_up(core: World) -> None:
    await put_in(core, 6_000, "more")


async def by_adjustment(core: World) -> None:
    await adjust(core, MONEY, 6_000)


async def by_transfer(core: World) -> None:
    await put_in(core, 50_000, "other", OTHER)
    await transfer(core, OTHER, ENDPOINT, 6_000)


@pytest.mark.parametrize("puts_in", [by_top_up, by_adjustment, by_transfer])
async def test_it_is_told_again_after_money_was_put_in(
    puts_in: Callable[[World], Awaitable[None]], valkey_url, sqlite_url
):
    async with settled_world(two_endpoints(), valkey_url, sqlite_url) as core:
        await put_in(core, 20_000, "t")
        await core.use(8 * MB, "a")
        await puts_in(core)  # there are 10,000 now
        await core.use(3 * MB, "b")
        assert await kinds(core) == [LOW]
        await core.use(MB, "c")
        assert await kinds(core) == [LOW, LOW]
        await core.use(MB, "d")
        assert [payload.get("granted") for _, _, payload in await events(core)] == [None, None, 10_000]


async def test_what_a_refund_gives_back_is_crossed_again_and_not_put_in(valkey_url, sqlite_url):
    async with settled_world(paid(), valkey_url, sqlite_url) as core:
        await put_in(core, 20_000, "t")
        used = await core.use(9 * MB, "a")
        await refund(core, used.usage_record_id, 2 * MB)  # 6,000 are left
        assert await kinds(core) == [LOW]
        await core.use(MB, "b")
        assert await kinds(core) == [LOW, LOW]


async def test_only_use_says_that_money_is_low_or_used_up(valkey_url, sqlite_url):
    async with settled_world(two_endpoints(), valkey_url, sqlite_url) as core:
        await put_in(core, 20_000, "t")
        await adjust(core, MONEY, -17_000)
        await transfer(core, ENDPOINT, OTHER, 1_000)
        assert await kinds(core) == []
        await core.use(MB, "a")
        assert await kinds(core) == [EMPTY]
        await transfer(core, OTHER, ENDPOINT, 1_000)
        await transfer(core, ENDPOINT, OTHER, 1_000)
        assert await kinds(core) == [EMPTY]


async def test_who_only_asks_hears_nothing_and_uses_no_crossing_up(valkey_url, sqlite_url):
    async with settled_world(limited(10_000), valkey_url, sqlite_url) as core:
        await put_in(core, 20_000, "t")
        await core.charging.charge(OPERATOR_CALLER, [event(10 * MB, "dry")], dry_run=True)
        await Enquiries(core.kit).preview(OPERATOR_CALLER, event(20 * MB, "preview"))
        assert (await core.use(11 * MB, "refused")).outcome is Outcome.REFUSED
        assert await kinds(core) == []
        await core.use(10 * MB, "a")
        assert await kinds(core) == [LOW, EMPTY, NEAR, EXHAUSTED]


async def test_a_rebuilt_cell_knows_how_much_there_was(valkey_url, sqlite_url):
    async with settled_world(paid(), valkey_url, sqlite_url) as core:
        await put_in(core, 20_000, "t")
        await core.use(7 * MB, "a")
        await core.client.flushall()
        await core.use(MB, "b")
        assert await kinds(core) == [LOW]


async def test_money_of_which_that_is_not_known_is_told_to_be_used_up_only(valkey_url, sqlite_url):
    async with settled_world(paid(), valkey_url, sqlite_url) as core:
        await put_in(core, 20_000, "t")
        name = "{c0}h:" + ENDPOINT
        image: Any = await core.client.get(name)
        *before, full = unpack(image)
        assert full == 20_000
        await core.client.set(name, pack(before))
        await core.use(9 * MB, "a")
        assert await kinds(core) == []
        await core.use(MB, "b")
        assert [(kind, payload.get("granted")) for kind, _, payload in await events(core)] == [(EMPTY, 0)]
        await put_in(core, 20_000, "more")
        await core.use(9 * MB, "c")
        assert await kinds(core) == [EMPTY, LOW]


async def test_the_fifth_of_the_largest_amounts_is_exact(valkey_url, sqlite_url):
    async with settled_world(limited(MOST), valkey_url, sqlite_url) as core:
        fifth = MOST // 5
        await put_in(core, MOST, "t")
        await adjust(core, MONEY, fifth + 3 - MOST)
        await owe(core, MOST - fifth - 2)
        await core.use(1000, "a")  # 2 micros of the money, and 1 of the limit
        assert (await money(core, ENDPOINT), await kinds(core)) == ([fifth + 1], [])
        await core.use(1000, "b")
        assert await kinds(core) == [LOW, NEAR]
        await owe(core, fifth - 1)
        await core.use(1000, "c")
        assert [(kind, payload.get("credit_limit_micros")) for kind, _, payload in await events(core)][2:] == [
            (EXHAUSTED, MOST)
        ]


# --- credit ---------------------------------------------------------------------------------------------------------


async def test_a_credit_limit_is_near_once_and_exhausted_once(valkey_url, sqlite_url):
    async with settled_world(limited(10_000), valkey_url, sqlite_url) as core:
        await put_in(core, 10**9, "t")
        seen = []
        for name in "abcdefghij":
            await core.use(MB, name)
            await core.use(MB, name)  # again
            seen.append(await kinds(core))
        assert seen == [[]] * 7 + [[NEAR]] * 2 + [[NEAR, EXHAUSTED]]
        assert (await core.use(MB, "k")).reason is Reason.CREDIT_LIMIT
        about = {"holder_id": RESELLER, "endpoint_id": ENDPOINT}
        assert await events(core) == [
            (NEAR, RESELLER, {**about, "threshold_percent": 80}),
            (EXHAUSTED, RESELLER, {**about, "credit_limit_micros": 10_000}),
        ]


async def test_a_credit_limit_is_the_matter_of_its_account_and_of_those_above(valkey_url, sqlite_url):
    async with settled_world(limited(10_000), valkey_url, sqlite_url) as core:
        await put_in(core, 20_000, "t")
        await core.use(10 * MB, "a")
        assert await kinds(core) == [LOW, EMPTY, NEAR, EXHAUSTED]
        assert [kind for kind, *_ in await events(core, RESELLER_CALLER)] == [LOW, EMPTY, NEAR, EXHAUSTED]
        assert await kinds(core, account_id=RESELLER) == [NEAR, EXHAUSTED]
        for wanted in ({}, {"endpoint_id": ENDPOINT}, {"resource_id": RESELLER}, {"account_id": RESELLER}):
            found = await events(core, ENTERPRISE_CALLER, **wanted)
            assert {kind for kind, *_ in found} <= {LOW, EMPTY}
        (near,) = await HappeningsStore(core.ledger.database).list("acc_o/", Wanted(type=NEAR), PageRequest(10))
        assert (near.account_id, near.owner_path, near.resource_type) == (RESELLER, "acc_o/acc_r/", "account")


async def test_credit_that_was_refunded_or_paid_is_crossed_again(valkey_url, sqlite_url):
    async with settled_world(limited(10_000), valkey_url, sqlite_url) as core:
        await put_in(core, 10**9, "t")
        used = await core.use(9 * MB, "a")
        await refund(core, used.usage_record_id, 2 * MB)
        assert await kinds(core) == [NEAR]
        await core.use(3 * MB, "b")
        assert await kinds(core) == [NEAR, NEAR, EXHAUSTED]
        await adjust(core, RESELLER_MONEY, -10_000, credit_used=True)
        await core.use(8 * MB, "c")
        assert await kinds(core) == [NEAR, NEAR, EXHAUSTED, NEAR]


async def test_only_use_says_that_a_limit_is_near_or_exhausted(valkey_url, sqlite_url):
    async with settled_world(limited(10_000), valkey_url, sqlite_url) as core:
        await put_in(core, 10**9, "t")
        await owe(core, 10_000)
        await adjust(core, RESELLER_MONEY, -5_000, credit_used=True)
        await core.use(MB, "a")
        enterprise, reseller, operator = core.terms.accounts
        core.terms.change(chain=(enterprise, replace(reseller, credit_limit_micros=6_000, limit_version=2), operator))
        assert (await core.use(MB, "b")).reason is Reason.CREDIT_LIMIT
        assert await kinds(core) == []
        core.terms.change(chain=(enterprise, replace(reseller, credit_limit_micros=20_000, limit_version=3), operator))
        await core.use(10 * MB, "c")
        assert await kinds(core) == [NEAR]


async def looked_at(core: World) -> int:
    """The limit that a look at the account's balance says."""
    owner = await core.balances.owner(OPERATOR_CALLER, "", RESELLER)
    return (await core.balances.of(owner))[-1].credit_limit


@pytest.mark.parametrize("look", [False, True])
async def test_a_limit_that_changes_holds_from_the_next_charge_on_whoever_looks_before(look, valkey_url, sqlite_url):
    async with settled_world(limited(10_000), valkey_url, sqlite_url) as core:
        await put_in(core, 10**9, "t")
        await core.use(9 * MB, "a")
        enterprise, reseller, operator = core.terms.accounts
        for version, (limit, reason) in enumerate([(5_000, Reason.CREDIT_LIMIT), (20_000, Reason.NONE)], 2):
            changed = replace(reseller, credit_limit_micros=limit, limit_version=version)
            core.terms.change(chain=(enterprise, changed, operator))
            assert not look or await looked_at(core) == limit
            assert (await core.use(MB, f"at-{limit}")).reason is reason


async def test_a_limit_that_was_lost_on_the_way_is_told_again(valkey_url, sqlite_url, monkeypatch):
    async with settled_world(limited(10_000), valkey_url, sqlite_url) as core:
        await put_in(core, 10**9, "t")
        await core.use(9 * MB, "a")
        enterprise, reseller, operator = core.terms.accounts
        changed = replace(reseller, credit_limit_micros=5_000, limit_version=2)
        core.terms.change(chain=(enterprise, changed, operator))
        with monkeypatch.context() as patched:
            patched.setattr("services.rating.usecases.cells.QUEUE_OPS_MAX", 0)
            with pytest.raises(ResourceExhaustedError, match="QUEUE_FULL"):
                await core.use(MB, "lost")
        assert (await core.use(MB, "b")).reason is Reason.CREDIT_LIMIT
        assert await looked_at(core) == 5_000


async def test_money_of_a_prepaid_reseller_is_told_to_the_reseller(valkey_url, sqlite_url):
    terms = paid()
    wholesale = plan("pln_prewholesale", prepaid=True, tariff_id="tar_wholesale")
    terms.catalog.plans[wholesale.key] = wholesale
    enterprise, reseller, operator = terms.accounts
    terms.change(chain=(enterprise, replace(reseller, base=given("r", wholesale.key)), operator))
    async with settled_world(terms, valkey_url, sqlite_url) as core:
        await put_in(core, 10**9, "t")
        await put_in(core, 10_000, "r", RESELLER)
        await core.use(10 * MB, "a")
        assert await kinds(core, resource_id=RESELLER_MONEY, account_id=RESELLER) == [LOW, EMPTY]
        assert await events(core, ENTERPRISE_CALLER) == []


# --- many cells -----------------------------------------------------------------------------------------------------


async def told(core: Many) -> list[tuple[str, str]]:
    await core.fold()
    found = await HappeningsStore(core.ledger.database).list("acc_o/", Wanted(), PageRequest(1000))
    return [(each.type, each.resource_id) for each in reversed(found)]


@pytest.mark.parametrize("limit", [None, 100 * PRICE])
async def test_nothing_is_said_of_slices(limit, valkey_url, sqlite_url, tmp_path):
    ledger_url = f"sqlite+aiosqlite:///{tmp_path / 'ledger.sqlite'}"
    async with many(ManyTerms(12, limit), valkey_url, sqlite_url, ledger_url, 3, renewing=False) as core:
        if limit is None:
            await core.balances.top_up(OPERATOR_CALLER, "", RESELLER, Money("EUR", 100 * PRICE), "t")
        answers = [await core.use(core.endpoint_in(n % 3), 5 * MB, f"e{n}") for n in range(30)]
        assert sum(answer.outcome is Outcome.CHARGED for answer in answers) == 20
        assert await told(core) == []


async def test_the_limit_of_an_enterprise_is_in_one_cell_and_told(valkey_url, sqlite_url, tmp_path):
    ledger_url = f"sqlite+aiosqlite:///{tmp_path / 'ledger.sqlite'}"
    async with many(ManyTerms(12, 10**9), valkey_url, sqlite_url, ledger_url, 3, renewing=False) as core:
        known, catalog = core.terms.known["ep_e1"], core.terms.catalog
        enterprise = replace(known.chain.accounts[0], credit_limit_micros=20_000)
        chain = ChainTerms((enterprise, *known.chain.accounts[1:]), catalog, set(catalog.plans))
        core.terms.known["ep_e1"] = KnownEndpoint(known.terms, chain, {})
        await core.use("ep_e1", 10 * MB, "a")
        assert await told(core) == [(NEAR, "acc_e1"), (EXHAUSTED, "acc_e1")]
