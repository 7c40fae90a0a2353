"""Refunds, payments and dry runs where an account above enterprises is spread over several cells."""

import pytest

from services.common.errors import MeterlineError
from services.rating.convert.corrections import adjustment_to_proto
from services.rating.domain.decisions import SessionAction
from services.rating.domain.escrow import Kind
from services.rating.domain.reasons import Outcome
from services.rating.storage.books import Books
from services.rating.storage.refunds import Refunds as RefundStore
from services.rating.usecases.corrections import Corrections
from services.rating.usecases.refunds import Refunds
from services.rating.usecases.sessions import SessionCall, Units
from tests.integration.rating.many import PRICE, Many, ManyTerms, many
from tests.integration.rating.world import OPERATOR_CALLER, event
from tests.unit.rating.terms import EU, GB, MB, RESELLER

LIMIT = 100 * PRICE


@pytest.fixture
def ledger_url(tmp_path):
    return f"sqlite+aiosqlite:///{tmp_path / 'ledger.sqlite'}"


async def owed(core: Many) -> int:
    found = [await cell.engine.holders([RESELLER]) for cell in core.cells]
    return sum(there[RESELLER].credit_used for there in found if RESELLER in there)


async def test_what_goes_back_in_a_cell_can_be_spent_in_another(valkey_url, sqlite_url, ledger_url):
    async with many(ManyTerms(64, LIMIT), valkey_url, sqlite_url, ledger_url, renewing=False) as core:
        books = Books(core.ledger.database, core.journal, range(core.cells.count))
        refunds = Refunds(core.kit, Corrections(core.kit, core.balances), books, RefundStore(core.ledger.database))
        here, there = core.endpoint_in(1), core.endpoint_in(2)
        used = await core.use(here, 100 * MB, "all")
        assert used.outcome is Outcome.CHARGED
        assert (await core.use(there, MB, "none-left")).outcome is Outcome.REFUSED
        await refunds.refund(OPERATOR_CALLER, used.usage_record_id, 40 * MB, reason="outage", request_id="r")
        answers = [await core.use(there, MB, f"e{n}") for n in range(50)]
        assert sum(answer.outcome is Outcome.CHARGED for answer in answers) == 40
        assert (await core.standing(Kind.CREDIT)).total == LIMIT
        assert await owed(core) == LIMIT


async def test_a_payment_is_taken_off_whatever_cell_it_is_owed_in(valkey_url, sqlite_url, ledger_url):
    async with many(ManyTerms(64, LIMIT), valkey_url, sqlite_url, ledger_url, renewing=False) as core:
        corrections = Corrections(core.kit, core.balances)
        home = core.cells.of(RESELLER).engine.cell
        cells = [number for number in range(core.cells.count) if number != home][:2]
        for number in cells:
            await core.use(core.endpoint_in(number), 50 * MB, "x")
        assert await owed(core) == LIMIT
        with pytest.raises(MeterlineError, match="BALANCE_TOO_SMALL"):
            await corrections.adjust(
                OPERATOR_CALLER, "bal_r.money", -LIMIT - 1, credit_used=True, reason="paid", request_id="a"
            )
        made = await corrections.adjust(
            OPERATOR_CALLER, "bal_r.money", -30 * PRICE, credit_used=True, reason="paid", request_id="b"
        )
        assert await owed(core) == adjustment_to_proto(made).after == 70 * PRICE
        answers = [await core.use(core.endpoint_in(cells[0]), MB, f"e{n}") for n in range(40)]
        assert sum(answer.outcome is Outcome.CHARGED for answer in answers) == 30
        assert (await core.standing(Kind.CREDIT)).total == LIMIT


async def test_a_dry_run_sees_the_whole_limit_and_spends_none_of_it(valkey_url, sqlite_url, ledger_url):
    async with many(ManyTerms(64, LIMIT), valkey_url, sqlite_url, ledger_url, renewing=False) as core:
        here, there = core.endpoint_in(1), core.endpoint_in(2)
        await core.use(there, MB, "x")
        asked = [event(40 * MB, f"d{n}", endpoint_id=here) for n in range(3)]
        would = await core.charging.charge(OPERATOR_CALLER, asked, dry_run=True)
        assert [answer.outcome for answer in would] == [Outcome.CHARGED, Outcome.CHARGED, Outcome.REFUSED]
        check = SessionCall(
            "ses_check", "check", SessionAction.CREATE, 0, here, EU, 3, [Units(1, 0, GB)], 0, b"", dry_run=True
        )
        (grant,) = (await core.sessions.call(OPERATOR_CALLER, check)).grants
        assert grant.granted == 99 * MB
        assert (await core.standing(Kind.CREDIT)).total == LIMIT
        assert await owed(core) == PRICE
        assert [answer.outcome for answer in await core.charge(*asked)] == [answer.outcome for answer in would]
