"""The sandbox of payments: its tokens do what they say, a key charges once, and nothing is forgotten."""

import asyncio
import time

import pytest
import pytest_asyncio
import sqlalchemy as sa

from services.common.clock import FixedClock, SystemClock
from services.common.errors import InvalidArgumentError
from services.common.money import Money
from services.rating.__main__ import MIGRATIONS
from services.rating.domain.payments import Confirmed, Declined, PaymentMethod, UnknownOutcomeError
from services.rating.payments.sandbox import BEHAVIOURS, SandboxProvider
from services.rating.storage.tables import sandbox_charges
from services.runtime.database import Database

TEN_EUR = Money("EUR", 10_000_000)


def method(token: str, method_id: str = "pmt_1") -> PaymentMethod:
    return PaymentMethod(id=method_id, account_id="acc_1", provider="sandbox", token=token)


@pytest_asyncio.fixture
async def ledger(database_url):
    database = Database(database_url)
    await database.migrate(MIGRATIONS / "ledger")
    yield database
    await database.close()


@pytest.fixture
def sandbox(ledger):
    return SandboxProvider(ledger, SystemClock())


async def charged(ledger: Database) -> int:
    async with ledger.reading() as connection:
        return (await connection.execute(sa.select(sa.func.count()).select_from(sandbox_charges))).scalar_one()


async def test_a_charge_is_confirmed_or_declined_as_its_token_says(sandbox):
    assert isinstance(await sandbox.charge("k1", method("tok_ok"), TEN_EUR), Confirmed)
    declined = await sandbox.charge("k2", method("tok_declined"), TEN_EUR)
    assert isinstance(declined, Declined)
    assert declined.code == "card_declined"
    poor = await sandbox.charge("k3", method("tok_insufficient_funds"), TEN_EUR)
    assert isinstance(poor, Declined)
    assert poor.code == "insufficient_funds"


async def test_a_repeat_gets_the_first_answer_also_after_a_restart(sandbox, ledger, database_url):
    first = await sandbox.charge("k1", method("tok_ok"), TEN_EUR)
    assert await sandbox.charge("k1", method("tok_ok"), TEN_EUR) == first
    await ledger.close()
    reopened = Database(database_url)
    again = SandboxProvider(reopened, SystemClock())
    assert await again.charge("k1", method("tok_ok"), TEN_EUR) == first
    assert await again.find("k1", method("tok_ok"), TEN_EUR) == first
    assert await charged(reopened) == 1
    await reopened.close()


async def test_one_key_asked_twenty_times_at_once_by_two_processes_charges_once(sandbox, ledger, database_url):
    other = Database(database_url)
    asked = [p.charge("k1", method("tok_ok"), TEN_EUR) for p in (sandbox, SandboxProvider(other, SystemClock())) * 10]
    assert len(set(await asyncio.gather(*asked))) == 1
    assert await charged(ledger) == 1
    await other.close()


@pytest.mark.parametrize(
    ("token", "outcome"), [("tok_timeout_then_confirmed", Confirmed), ("tok_timeout_then_declined", Declined)]
)
async def test_a_charge_that_timed_out_is_found_and_its_repeat_is_answered(sandbox, ledger, token, outcome):
    with pytest.raises(UnknownOutcomeError, match="timed out"):
        await sandbox.charge("k1", method(token), TEN_EUR)
    found = await sandbox.find("k1", method(token), TEN_EUR)
    assert isinstance(found, outcome)
    assert await sandbox.charge("k1", method(token), TEN_EUR) == found
    assert await charged(ledger) == 1


async def test_a_lost_charge_was_never_there(sandbox, ledger):
    for _ in range(2):
        with pytest.raises(UnknownOutcomeError):
            await sandbox.charge("k1", method("tok_timeout_then_lost"), TEN_EUR)
    assert await sandbox.find("k1", method("tok_timeout_then_lost"), TEN_EUR) is None
    assert await charged(ledger) == 0


async def test_a_delayed_charge_is_in_progress_until_its_answer(ledger):
    clock = FixedClock(1_000_000)
    sandbox = SandboxProvider(ledger, clock)
    asked = asyncio.create_task(sandbox.charge("k1", method("tok_delay_250ms"), TEN_EUR))
    began = time.monotonic()
    while await charged(ledger) == 0:
        await asyncio.sleep(0.005)
    with pytest.raises(UnknownOutcomeError, match="in progress"):
        await sandbox.find("k1", method("tok_delay_250ms"), TEN_EUR)
    confirmed = await asked
    assert time.monotonic() - began + 0.02 >= 0.25
    clock.advance(250)
    assert await sandbox.find("k1", method("tok_delay_250ms"), TEN_EUR) == confirmed


async def test_a_process_that_ends_while_it_waits_leaves_a_charge_that_is_answered_later(ledger):
    clock = FixedClock(1_000_000)
    asked = asyncio.create_task(SandboxProvider(ledger, clock).charge("k1", method("tok_delay_5s"), TEN_EUR))
    while await charged(ledger) == 0:
        await asyncio.sleep(0.005)
    asked.cancel()
    clock.advance(5000)
    assert isinstance(await SandboxProvider(ledger, clock).charge("k1", method("tok_delay_5s"), TEN_EUR), Confirmed)
    assert await charged(ledger) == 1


async def test_the_third_charge_of_a_method_is_the_first_to_be_confirmed(sandbox):
    token = "tok_declined_twice_then_ok"
    outcomes = [await sandbox.charge(f"k{n}", method(token), TEN_EUR) for n in range(4)]
    assert [type(outcome) for outcome in outcomes] == [Declined, Declined, Confirmed, Confirmed]
    assert await sandbox.charge("k0", method(token), TEN_EUR) == outcomes[0]
    assert isinstance(await sandbox.charge("other", method(token, "pmt_2"), TEN_EUR), Declined)


async def test_charges_of_a_method_are_counted_right_when_they_come_at_once(sandbox):
    asked = [sandbox.charge(f"k{n}", method("tok_declined_twice_then_ok"), TEN_EUR) for n in range(8)]
    outcomes = await asyncio.gather(*asked)
    assert sum(isinstance(outcome, Declined) for outcome in outcomes) == 2


async def test_a_key_that_comes_back_with_another_amount_is_not_answered(sandbox, ledger):
    await sandbox.charge("k1", method("tok_ok"), TEN_EUR)
    for ask in (sandbox.charge, sandbox.find):
        with pytest.raises(UnknownOutcomeError, match="another charge"):
            await ask("k1", method("tok_ok"), Money("EUR", 20_000_000))
    assert await charged(ledger) == 1


async def test_a_token_of_another_provider_is_nothing_that_the_sandbox_can_tell_of(sandbox):
    for ask in (sandbox.charge, sandbox.find):
        with pytest.raises(UnknownOutcomeError, match="another provider"):
            await ask("k1", method("pm_card_visa"), TEN_EUR)


async def test_a_database_that_is_away_leaves_the_outcome_unknown(tmp_path):
    away = Database(f"postgresql+asyncpg://nobody@/nothing?host={tmp_path}")
    for ask in (SandboxProvider(away, SystemClock()).charge, SandboxProvider(away, SystemClock()).find):
        with pytest.raises(UnknownOutcomeError, match="DATABASE_UNAVAILABLE"):
            await ask("k1", method("tok_ok"), TEN_EUR)
    await away.close()


@pytest.mark.parametrize("token", [*BEHAVIOURS, "tok_delay_5s", "tok_delay_250ms", "tok_delay_300s"])
async def test_its_own_tokens_are_accepted(sqlite_url, token):
    SandboxProvider(Database(sqlite_url), SystemClock()).check(method(token))


@pytest.mark.parametrize("token", ["", "tok_unknown", "tok_delay_s", "tok_delay_301s", "tok_delay_5s ", "pm_card_visa"])
async def test_other_tokens_are_refused_with_those_that_it_knows(sqlite_url, token):
    with pytest.raises(InvalidArgumentError, match="tok_ok"):
        SandboxProvider(Database(sqlite_url), SystemClock()).check(method(token))
