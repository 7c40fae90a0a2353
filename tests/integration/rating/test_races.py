"""Many clients of two processes at once for what is enough for some of them, at each place of the path."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest

from services.common.money import Money
from services.rating.domain.decisions import SessionAction
from services.rating.domain.events import Answer
from services.rating.domain.reasons import Outcome
from services.rating.domain.terms import AccountTerms, Benefit
from tests.integration.rating.test_charging import PREPAID, TARIFFS, session_call
from tests.integration.rating.world import OPERATOR_CALLER, StillTerms, world
from tests.unit.rating.terms import (
    ENDPOINT,
    ENTERPRISE,
    MB,
    OPERATOR,
    RESELLER,
    account,
    addon,
    catalog,
    endpoint,
    given,
    plan,
)

K, CLIENTS = 20, 60
"""How many pass, of how many that ask."""
POST, WHOLESALE = plan("pln_post", tariff_id="tar_retail"), plan("pln_wholesale", tariff_id="tar_wholesale")
POST_BENEFIT = plan("pln_benefit", prepaid=True, benefits=(Benefit("b1", frozenset({1}), K * MB, (), recurring=False),))
PAYGO = plan("pln_paygo", prepaid=True, tariff_id="tar_retail")
PREPAID_WHOLESALE = plan("pln_prewhole", prepaid=True, tariff_id="tar_wholesale")
K_UNITS = addon("pln_k", K * MB)
K_FIRST_USED = addon("pln_later", K * MB, on_usage=True, validity_ms=3_600_000)
PLANS = [PREPAID, POST, WHOLESALE, POST_BENEFIT, PAYGO, PREPAID_WHOLESALE, K_UNITS, K_FIRST_USED]
RETAIL_MICROS, WHOLESALE_MICROS = 2_000, 1_000
"""What a megabyte costs."""


def market(
    own: str = "post", enterprise: tuple[AccountTerms, ...] = (), reseller: tuple[AccountTerms, ...] = ()
) -> StillTerms:
    base, *addons = {
        "post": [given("base", POST.key)],
        "bucket": [given("base", PREPAID.key), given("k", K_UNITS.key)],
        "first use": [given("base", PREPAID.key), given("k", K_FIRST_USED.key)],
        "money": [given("base", PAYGO.key)],
    }[own]
    names = ((OPERATOR, RESELLER, ENTERPRISE), (OPERATOR, RESELLER))
    accounts = [
        *(enterprise or (account(ENTERPRISE, names[0], given("e", POST.key)),)),
        *(reseller or (account(RESELLER, names[1], given("r", WHOLESALE.key)),)),
        account(OPERATOR, (OPERATOR,)),
    ]
    return StillTerms([endpoint(base, *addons)], accounts, catalog(PLANS, TARIFFS))


def of_enterprise(*plans: str, limit: int | None = None) -> StillTerms:
    keys = [given(f"e{number}", (name, 1)) for number, name in enumerate(plans)]
    return market(enterprise=(account(ENTERPRISE, (OPERATOR, RESELLER, ENTERPRISE), *keys, limit=limit),))


def of_reseller(*plans: str, limit: int | None = None) -> StillTerms:
    keys = [given(f"r{number}", (name, 1)) for number, name in enumerate(plans)]
    return market(reseller=(account(RESELLER, (OPERATOR, RESELLER), *keys, limit=limit),))


PLACES: dict[str, tuple[Callable[[], StillTerms], tuple[str, str, int] | None]] = {
    "endpoint's bucket": (lambda: market("bucket"), None),
    "endpoint's bucket on first use": (lambda: market("first use"), None),
    "endpoint's money": (lambda: market("money"), (ENDPOINT, "", K * RETAIL_MICROS)),
    "enterprise's bucket": (lambda: of_enterprise("pln_benefit"), None),
    "enterprise's add-on": (lambda: of_enterprise("pln_prepaid", "pln_k"), None),
    "enterprise's credit": (lambda: of_enterprise("pln_post", limit=K * RETAIL_MICROS), None),
    "enterprise's money": (lambda: of_enterprise("pln_paygo"), ("", ENTERPRISE, K * RETAIL_MICROS)),
    "reseller's bucket": (lambda: of_reseller("pln_benefit"), None),
    "reseller's credit": (lambda: of_reseller("pln_wholesale", limit=K * WHOLESALE_MICROS), None),
    "reseller's money": (lambda: of_reseller("pln_prewhole"), ("", RESELLER, K * WHOLESALE_MICROS)),
}
"""Terms under which the place has enough for K, and the top-up that it takes."""


@pytest.mark.parametrize("asking", ["events", "sessions"])
@pytest.mark.parametrize("place", PLACES)
async def test_exactly_as_many_pass_as_there_is_for(place, asking, valkey_url, sqlite_url):
    make, top_up = PLACES[place]
    terms = make()
    async with AsyncExitStack() as stack:
        processes = [await stack.enter_async_context(world(terms, valkey_url, sqlite_url)) for _ in range(2)]
        one = processes[0]
        if top_up:
            await one.balances.top_up(OPERATOR_CALLER, *top_up[:2], Money("EUR", top_up[2]), "t")

        async def ask(number: int) -> bool:
            core = processes[number % 2]
            if asking == "events":
                answer: Answer = await core.use(MB, f"e{number}")
                return answer.outcome is Outcome.CHARGED
            made = session_call(f"s{number}", SessionAction.CREATE, 0, 0, MB)
            granted = (await core.sessions.call(OPERATOR_CALLER, made)).grants[0].granted
            assert granted in {0, MB}
            return granted == MB

        passed = await asyncio.gather(*(ask(number) for number in range(CLIENTS)))
        assert sum(passed) == K
        holders = await one.cell.engine.holders([ENDPOINT, ENTERPRISE, RESELLER])
        assert all(holder.money >= holder.money_reserved >= 0 for holder in holders.values())
        assert all(b.remaining >= b.reserved >= 0 for holder in holders.values() for b in holder.buckets)
