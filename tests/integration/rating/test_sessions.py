"""Sessions: two clocks, repeats and disorder, use above the grant, late use, several services, the final unit."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from services.common.clock import HOUR_MS, MINUTE_MS
from services.common.errors import AbortedError, AlreadyExistsError, FailedPreconditionError
from services.common.money import Money
from services.rating.domain.decisions import SessionAction, SessionState
from services.rating.domain.reasons import Outcome, Reason
from services.rating.domain.tariffs import rate
from services.rating.domain.terms import RateTerms, TariffVersion
from services.rating.usecases import sessions
from services.rating.usecases.sessions import Session, SessionCall, Sessions, Units, session_id
from tests.integration.rating.test_charging import TARIFFS, example, session_call
from tests.integration.rating.test_refunds import paid
from tests.integration.rating.world import NOW_MS, OPERATOR_CALLER, StillTerms, World, world
from tests.unit.rating.terms import (
    ALL,
    ENDPOINT,
    ENTERPRISE,
    EU,
    GB,
    MB,
    RESELLER,
    ZA,
    catalog,
    chain,
    endpoint,
    given,
    plan,
    tariff,
)

CREATE, UPDATE, RELEASE = SessionAction.CREATE, SessionAction.UPDATE, SessionAction.RELEASE
NAME = session_id(ENDPOINT, "s")


async def call(core: World, action: SessionAction, sequence: int, used: int = 0, requested: int = 0) -> Session:
    return await core.sessions.call(OPERATOR_CALLER, session_call("s", action, sequence, used, requested))


async def reserved(core: World) -> list[int]:
    return [bucket.reserved for bucket in (await core.cell.engine.holders([ENDPOINT]))[ENDPOINT].buckets]


async def left(core: World) -> int:
    return sum(quantity for _, quantity in await core.remaining())


async def test_a_grant_lapses_before_the_session_does_and_an_update_reserves_again(valkey_url, sqlite_url):
    async with world(example(), valkey_url, sqlite_url) as core:
        opened = await call(core, CREATE, 0, 0, 300 * MB)
        assert (opened.valid_until_ms, opened.ends_ms) == (NOW_MS + 30 * MINUTE_MS, NOW_MS + 24 * HOUR_MS)
        core.clock.advance(30 * MINUTE_MS)
        await core.use(MB, "somebody-looks")
        assert await reserved(core) == [0, 0]
        assert (await core.sessions.get(OPERATOR_CALLER, NAME)).state is SessionState.OPEN
        updated = await call(core, UPDATE, 1, 100 * MB, 300 * MB)
        assert (updated.grants[0].granted, updated.grants[0].amounts[0], updated.late) == (300 * MB, 0, False)
        assert sum(await reserved(core)) == 300 * MB
        assert updated.ends_ms == NOW_MS + 30 * MINUTE_MS + 24 * HOUR_MS
        released = await call(core, RELEASE, 2, 300 * MB)
        assert (released.state, released.late) == (SessionState.RELEASED, False)
        assert (await left(core), await reserved(core)) == (599 * MB, [0, 0])


async def test_a_session_without_calls_expires_and_its_late_use_is_charged_once(valkey_url, sqlite_url):
    async with world(example(), valkey_url, sqlite_url) as core:
        await call(core, CREATE, 0, 0, 300 * MB)
        core.clock.advance(31 * MINUTE_MS)
        await core.use(MB, "the-grant-lapses")
        await core.fold()
        core.clock.advance(24 * HOUR_MS)
        await core.use(MB, "the-session-ends", usage_time_ms=core.clock.now_ms())
        assert (await core.sessions.get(OPERATOR_CALLER, NAME)).state is SessionState.EXPIRED
        with pytest.raises(FailedPreconditionError, match="SESSION_CLOSED"):
            await call(core, UPDATE, 1, 0, MB)
        late = await call(core, UPDATE, 1, 200 * MB, 300 * MB)
        assert (late.state, late.late, late.sequence) == (SessionState.EXPIRED, True, 1)
        assert (late.grants[0].granted, late.grants[0].final) == (0, True)
        assert await left(core) == 798 * MB
        again = await call(core, UPDATE, 1, 200 * MB, 300 * MB)
        assert again == replace(late, replayed=True)
        assert (await call(core, RELEASE, 2, 10 * MB)).late
        assert (await left(core), await reserved(core)) == (788 * MB, [0, 0])
        assert (await core.sessions.get(OPERATOR_CALLER, NAME)).late


async def test_use_that_comes_after_the_release_is_charged_and_the_sequence_goes_on(valkey_url, sqlite_url):
    async with world(example(), valkey_url, sqlite_url) as core:
        await call(core, CREATE, 0, 0, 300 * MB)
        released = await call(core, RELEASE, 1, 100 * MB)
        late = await call(core, RELEASE, 2, 50 * MB)
        assert (released.late, late.late, late.state) == (False, True, SessionState.RELEASED)
        assert (await call(core, UPDATE, 3, 25 * MB)).late
        assert await left(core) == 825 * MB
        await core.client.flushall()  # a rebuilt cell knows the closed session too
        assert (await call(core, UPDATE, 3, 25 * MB)).replayed
        assert (await call(core, UPDATE, 4, 5 * MB)).late
        assert await left(core) == 820 * MB
        await core.fold()
        assert (await core.ledger.all_balances())["bal_a.b1"][1] == 320 * MB


async def test_repeats_and_disorder_are_answered_and_charge_nothing(valkey_url, sqlite_url):
    async with world(example(), valkey_url, sqlite_url) as core:
        first = await call(core, CREATE, 0, 0, 100 * MB)
        assert await call(core, CREATE, 0, 0, 100 * MB) == replace(first, replayed=True)
        with pytest.raises(AlreadyExistsError, match="SESSION_REF_REUSED"):
            await call(core, CREATE, 0, 0, 200 * MB)
        await call(core, UPDATE, 1, 10 * MB, 100 * MB)
        second = await call(core, UPDATE, 2, 20 * MB, 100 * MB)
        for sequence, used, said in (
            (1, 10 * MB, r"1 was answered, and 2 after it.*event_id ses_\w+\.1\.\*.*Send 3 next"),
            (4, 10 * MB, "The last sequence number answered is 2; send 3 next"),
        ):
            with pytest.raises(AbortedError, match=said) as refused:
                await call(core, UPDATE, sequence, used, 100 * MB)
            assert (refused.value.reason, refused.value.metadata) == (
                "SESSION_OUT_OF_SEQUENCE",
                {"last_sequence_number": "2"},
            )
        with pytest.raises(AbortedError, match="SESSION_CALL_CHANGED"):
            await call(core, UPDATE, 2, 21 * MB, 100 * MB)
        assert await call(core, UPDATE, 2, 20 * MB, 100 * MB) == replace(second, replayed=True)
        assert await left(core) == 970 * MB
        with pytest.raises(AlreadyExistsError, match="SESSION_REF_REUSED"):
            await call(core, CREATE, 0, 0, 100 * MB)


async def test_the_last_units_are_granted_as_final_and_then_none(valkey_url, sqlite_url):
    async with world(example(), valkey_url, sqlite_url) as core:
        whole = (await call(core, CREATE, 0, 0, 900 * MB)).grants[0]
        assert (whole.granted, whole.final, whole.reason) == (900 * MB, False, Reason.NONE)
        last = (await call(core, UPDATE, 1, 900 * MB, 900 * MB)).grants[0]
        assert (last.granted, last.final, last.reason, last.limiting_step) == (100 * MB, True, Reason.NO_VALID_ADDON, 0)
        none = (await call(core, UPDATE, 2, 100 * MB, 900 * MB)).grants[0]
        assert (none.granted, none.final, none.uncovered) == (0, True, 0)


@pytest.mark.parametrize("step", [0, 1, 2])
async def test_use_above_the_grant_is_charged_as_far_as_each_step_can_and_the_rest_said(step, valkey_url, sqlite_url):
    """Of each step money or credit for 5 MB; 4 MB are granted, 8 MB used."""
    paygo, post = plan("pln_paygo", prepaid=True, tariff_id="tar_retail"), plan("pln_post", tariff_id="tar_retail")
    prepaid = plan("pln_pre", prepaid=True, tariff_id="tar_wholesale")
    terms = StillTerms(
        [endpoint(given("base", (paygo if step == 0 else post).key))],
        chain(given("e", (paygo if step == 1 else post).key), given("r", (prepaid if step == 2 else post).key)),
        catalog([paygo, post, prepaid], TARIFFS),
    )
    owner = [ENDPOINT, ENTERPRISE, RESELLER][step]
    price = 1_000 if step == 2 else 2_000
    async with world(terms, valkey_url, sqlite_url) as core:
        endpoint_id, account_id = (owner, "") if step == 0 else ("", owner)
        await core.balances.top_up(OPERATOR_CALLER, endpoint_id, account_id, Money("EUR", 5 * price), "t")
        opened = await call(core, CREATE, 0, 0, 4 * MB)
        assert opened.grants[0].granted == 4 * MB
        over = (await call(core, UPDATE, 1, 8 * MB, 4 * MB)).grants[0]
        assert (over.uncovered, over.amounts[step]) == (3 * MB, 5 * price)
        assert [amount for place, amount in enumerate(over.amounts) if place != step] == [16_000, 16_000]
        assert (over.granted, over.reason, over.final) == (0, Reason.ENDPOINT_BLOCKED, True)
        holder = (await core.cell.engine.holders([owner]))[owner]
        assert (holder.money, holder.money_reserved) == (0, 0)


def services_call(action: SessionAction, sequence: int, units: Sequence[Units]) -> SessionCall:
    digest = f"{action}{units}".encode()[-40:][:8].ljust(8)
    return SessionCall(NAME, "s", action, sequence, ENDPOINT, EU, 3, units, 0, digest)


async def test_of_several_services_one_may_be_granted_and_another_refused(valkey_url, sqlite_url):
    async with world(example(), valkey_url, sqlite_url) as core:  # the add-ons are for data only
        opened = await core.sessions.call(
            OPERATOR_CALLER, services_call(CREATE, 0, [Units(2, 0, 10), Units(1, 0, 400 * MB)])
        )
        assert [(grant.service, grant.granted, grant.reason, grant.final) for grant in opened.grants] == [
            (2, 0, Reason.NO_VALID_ADDON, True),
            (1, 400 * MB, Reason.NONE, False),
        ]
        updated = await core.sessions.call(
            OPERATOR_CALLER, services_call(UPDATE, 1, [Units(1, 300 * MB, 700 * MB), Units(2, 0, 1)])
        )
        assert [(grant.service, grant.granted) for grant in updated.grants] == [(1, 700 * MB), (2, 0)]
        only_one = await core.sessions.call(OPERATOR_CALLER, services_call(UPDATE, 2, [Units(2, 0, 2)]))
        assert [(grant.service, grant.granted) for grant in only_one.grants] == [(2, 0)]
        assert sum(await reserved(core)) == 700 * MB  # what was not spoken of stays reserved
        await core.sessions.call(OPERATOR_CALLER, services_call(RELEASE, 3, [Units(1, 700 * MB, 0)]))
        assert (await left(core), await reserved(core)) == (0, [0, 0])


async def test_a_session_is_found_though_nobody_noticed_yet_that_the_store_lost_its_state(valkey_url, sqlite_url):
    async with world(paid(), valkey_url, sqlite_url) as core:
        await core.balances.top_up(OPERATOR_CALLER, ENDPOINT, "", Money("EUR", GB), "t")
        await call(core, CREATE, 0, 0, MB)
        await core.client.flushall()
        assert (await call(core, RELEASE, 1, MB)).state is SessionState.RELEASED
        assert (await core.use(MB, "x")).outcome is Outcome.CHARGED


def free_anywhere() -> StillTerms:
    """Nothing costs anything, in either country."""
    free = plan("pln_anywhere", tariff_id="tar_free")
    accounts = chain(given("e", free.key), given("r", free.key))
    return StillTerms([endpoint(given("base", free.key))], accounts, catalog([free], [tariff("tar_free", 0)]))


async def in_turn(core: World, sequence: int, network: str = "", *, at: Sessions | None = None) -> str:
    """A megabyte that a process reports, of a session that has moved to a network or is where it was; that network."""
    moved = replace(session_call("s", UPDATE, sequence, MB, MB), endpoint_id="", network_id=network, access_type=0)
    await (at or core.sessions).call(OPERATOR_CALLER, moved)
    session = await core.cell.engine.session(NAME)
    assert session is not None
    return session.network_id


@pytest.mark.parametrize("seen_again", [False, True])
async def test_what_a_call_does_not_say_is_as_the_call_before_left_it_whichever_process_had_it(
    seen_again, valkey_url, sqlite_url
):
    async with world(free_anywhere(), valkey_url, sqlite_url) as core:
        other = Sessions(core.kit)
        await call(core, CREATE, 0, 0, MB)
        assert await in_turn(core, 1) == EU
        assert await in_turn(core, 2, ZA) == ZA
        assert await in_turn(core, 3) == ZA
        assert await in_turn(core, 4, EU, at=other) == EU
        assert await in_turn(core, 5, at=other if seen_again else core.sessions) == EU
        assert await in_turn(core, 6) == EU


async def test_a_reference_that_begins_a_new_session_keeps_nothing_of_the_one_before(valkey_url, sqlite_url):
    async with world(free_anywhere(), valkey_url, sqlite_url) as core:
        other = Sessions(core.kit)
        await call(core, CREATE, 0, 0, MB)
        assert await in_turn(core, 1, ZA) == ZA
        core.clock.advance(24 * HOUR_MS)
        assert (
            await core.client.delete(*await core.client.keys(f"*{NAME}")) == 1
        )  # Valkey forgets it a day after its end
        await other.call(OPERATOR_CALLER, session_call("s", CREATE, 0, 0, MB))
        assert await in_turn(core, 1, at=other) == EU
        assert await in_turn(core, 2) == EU


async def test_of_many_sessions_those_that_were_called_last_are_remembered(monkeypatch, valkey_url, sqlite_url):
    monkeypatch.setattr(sessions, "KNOWN_MAX", 2)
    async with world(example(), valkey_url, sqlite_url) as core:
        for ref in "abc":
            await core.sessions.call(OPERATOR_CALLER, session_call(ref, CREATE, 0, 0, MB))
        for ref in "abc":
            await core.sessions.call(OPERATOR_CALLER, session_call(ref, UPDATE, 1, MB, MB))
        assert sorted(last.session_ref for last, _ in core.sessions._known.values()) == ["b", "c"]
        await core.sessions.call(OPERATOR_CALLER, session_call("c", RELEASE, 2, MB, 0))
        assert [last.session_ref for last, _ in core.sessions._known.values()] == ["b"]
        assert await left(core) == 996 * MB


def dear_abroad() -> StillTerms:
    """A GB costs 1.00 in one country and 100.00 in the other."""
    base, free = plan("pln_base", tariff_id="tar_two"), plan("pln_free", tariff_id="tar_free")
    rates = tuple(
        RateTerms(id=f"r{price}", networks=frozenset({network}), services=ALL, rate=rate(price * 10**6, GB, 1, 0))
        for network, price in ((EU, 1), (ZA, 100))
    )
    two = TariffVersion(id="tar_two", version=1, currency="EUR", effective_ms=0, rates=rates)
    accounts = chain(given("e", free.key), given("r", free.key))
    have = catalog([base, free], [two, tariff("tar_free", 0)])
    return StillTerms([endpoint(given("base", base.key))], accounts, have)


async def test_what_was_used_before_the_network_changed_is_priced_where_it_was_used(valkey_url, sqlite_url):
    async with world(dear_abroad(), valkey_url, sqlite_url) as core:
        await call(core, CREATE, 0, 0, GB)
        moved = replace(session_call("s", UPDATE, 1, GB, GB), network_id=ZA)
        assert (await core.sessions.call(OPERATOR_CALLER, moved)).grants[0].amounts[0] == 10**6
        stayed = replace(session_call("s", RELEASE, 2, GB, 0), network_id="", access_type=0)
        assert (await core.sessions.call(OPERATOR_CALLER, stayed)).grants[0].amounts[0] == 100 * 10**6
        used = [each.network_id for content in await core.contents() for each in content.used]
        assert used == [EU, ZA]
