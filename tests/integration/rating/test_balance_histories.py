"""Random histories of everything that moves buckets: nothing is overdrawn, and the books always agree."""

import random

import pytest

from services.common.clock import DAY_MS, HOUR_MS
from services.rating.domain.balances import RenewOn
from services.rating.domain.decisions import SessionAction
from services.rating.domain.reasons import MovementKind
from services.rating.domain.terms import Benefit
from services.rating.storage.tables import entries
from services.rating.usecases.refills import Refills
from tests.integration.rating.settling import require_settled, settled_world
from tests.integration.rating.test_balances import assigned, pooled, terms, weekly
from tests.integration.rating.test_charging import session_call
from tests.integration.rating.world import OPERATOR_CALLER, StillTerms, World
from tests.unit.rating.terms import ENDPOINT, MB, addon, plan

DATA = frozenset({1})
BUNDLE = plan(
    "pln_mix",
    prepaid=True,
    refillable=True,
    validity_ms=60 * DAY_MS,
    tariff_id="tar_retail",
    prorated=True,
    benefits=(
        Benefit("b1", DATA, 40 * MB, (), recurring=False),
        Benefit("b2", DATA, 25 * MB, (), recurring=True, roll_over_cycles=2),
    ),
)
CREDIT = addon("pln_credit", 0, benefits=(Benefit("b1", DATA, 50_000, (), recurring=True, money=True),))


def everything() -> StillTerms:
    again, waits = weekly(on=RenewOn.EXPIRY_OR_EXHAUSTION, most=6), addon("pln_waits", 7 * MB, on_usage=True)
    shared = pooled(30 * MB)
    addons = [(assigned("w", again, 1), again), (assigned("c", CREDIT, 2), CREDIT), (assigned("o", waits, 3), waits)]
    return terms(BUNDLE, *addons, accounts=((assigned("pool", shared), shared),), endpoints=2)


async def step(core: World, chance: random.Random, number: int, open_sessions: dict[str, tuple[int, int]]) -> None:
    """One thing that happens."""
    kind = chance.choices(["use", "session", "release", "time", "refill", "look"], [10, 3, 6, 5, 1, 1])[0]
    if kind == "use":
        now = core.clock.now_ms() - chance.choice([0, 0, 0, 3 * DAY_MS])
        fields = {"endpoint_id": chance.choice([ENDPOINT, "ep_2"]), "mode": chance.choice([1, 1, 2])}
        await core.use(chance.randrange(1, 12 * MB), f"e{number}", usage_time_ms=now, **fields)
    elif kind == "session":
        asked = chance.randrange(1, 15 * MB)
        opened = await core.sessions.call(
            OPERATOR_CALLER, session_call(f"s{number}", SessionAction.CREATE, 0, 0, asked)
        )
        open_sessions[f"s{number}"] = (1, opened.grants[0].granted)
    elif kind == "release" and open_sessions:
        ref, (sequence, granted) = open_sessions.popitem()
        used = chance.randrange(granted + 1)
        await core.sessions.call(OPERATOR_CALLER, session_call(ref, SessionAction.RELEASE, sequence, used, 0))
    elif kind == "time":
        if not open_sessions:
            await core.fold()
            core.clock.advance(chance.choice([HOUR_MS, DAY_MS, 5 * DAY_MS, 33 * DAY_MS]))
    elif kind == "refill":
        await core.balances.of_owner(OPERATOR_CALLER, ENDPOINT, "")
        await core.fold()
        refills = Refills(core.kit, core.balances)
        await refills.refill(OPERATOR_CALLER, "bal_base.b1", 10 * MB, 20 * DAY_MS, 45 * MB, f"r{number}")
    elif kind == "look":
        await core.balances.of_owner(OPERATOR_CALLER, ENDPOINT, "")


@pytest.mark.parametrize("seed", range(6))
async def test_balances_are_settled_whatever_happens(seed, valkey_url, sqlite_url):
    chance = random.Random(seed)
    async with settled_world(everything(), valkey_url, sqlite_url) as core:
        open_sessions: dict[str, tuple[int, int]] = {}
        for number in range(120):
            await step(core, chance, number, open_sessions)
            if number % 40 == 39:
                await require_settled(core)
        async with core.ledger.database.reading() as connection:
            found = await connection.execute(entries.select().order_by(entries.c.sequence, entries.c.number))
            left: dict[str, int] = {}
            kinds = set()
            for row in found:
                left[row.balance_id] = left.get(row.balance_id, 0) + row.change
                assert left[row.balance_id] >= 0, row
                kinds.add(MovementKind(row.kind))
        assert {MovementKind.GRANT, MovementKind.DRAW, MovementKind.EXPIRY, MovementKind.REFILL} <= kinds
