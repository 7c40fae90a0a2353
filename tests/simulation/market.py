"""A small market: one enterprise below one reseller, some endpoints, terms that change while they are used."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from random import Random

from services.common.clock import HOUR_MS, MINUTE_MS, SECOND_MS
from services.common.errors import not_found
from services.rating.domain.balances import RenewOn
from services.rating.domain.terms import AccountTerms, Assignment, Benefit, CatalogTerms, EndpointTerms
from services.rating.ports import ChainTerms, KnownEndpoint
from tests.unit.rating.terms import (
    ENTERPRISE,
    GB,
    MB,
    RESELLER,
    addon,
    catalog,
    chain,
    endpoint,
    given,
    members_of,
    plan,
    tariff,
)

PREPAID = plan("pln_prepaid", prepaid=True, tariff_id="tar_retail")
PREPAID_VOLUME = plan("pln_volume", prepaid=True)
MONTHLY = plan(
    "pln_monthly", tariff_id="tar_retail", benefits=(Benefit("m", frozenset({1}), 80 * MB, (), recurring=True),)
)
ROLLING = plan(
    "pln_rolling",
    prorated=True,
    benefits=(Benefit("r", frozenset({1}), 90 * MB, (), recurring=True, roll_over_cycles=2),),
)
POSTPAID = plan("pln_postpaid", tariff_id="tar_wholesale")
SMALL = addon("pln_small", 60 * MB)
LARGE = addon("pln_large", 300 * MB)
SHORT = addon("pln_short", 100 * MB, on_usage=True, validity_ms=2 * MINUTE_MS)
BUNDLE = plan(
    "pln_bundle",
    prepaid=True,
    refillable=True,
    validity_ms=HOUR_MS,
    benefits=(Benefit("b", frozenset({1}), 100 * MB, (), recurring=False),),
)
AGAIN = addon("pln_again", 50 * MB, renew_on=RenewOn.EXPIRY, subscriptions_max=4, validity_ms=20 * SECOND_MS)
AGAIN_SOONER = addon(
    "pln_sooner",
    30 * MB,
    renew_on=RenewOn.EXPIRY_OR_EXHAUSTION,
    subscriptions_max=6,
    validity_ms=30 * SECOND_MS,
    on_usage=True,
)
TEAM = plan(
    "pln_team",
    tariff_id="tar_retail",
    benefits=(Benefit("t", frozenset({1}), 90 * MB, (), recurring=True),),
    pooled=True,
    grows=True,
)
CLUB = replace(TEAM, key=("pln_club", 1), tariff_id="", grows=False)
POOL = addon("pln_pool", 200 * MB, pooled=True)
BASES = [PREPAID, PREPAID_VOLUME, MONTHLY, ROLLING, BUNDLE, POSTPAID, TEAM, CLUB]
TARIFFS = [tariff("tar_retail", 2 * GB), tariff("tar_wholesale", GB)]  # 2,000 and 1,000 micros for a MB
ADDONS = [SMALL, LARGE, SHORT, AGAIN, AGAIN_SOONER]
PLANS = [*BASES, *ADDONS, POOL]
ENDPOINTS = ("ep_1", "ep_2", "ep_3")


class Market:
    """The terms as they are."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._assignments = 0
        self.catalog: CatalogTerms = catalog(PLANS, TARIFFS)
        self.endpoints = {name: self._endpoint(name) for name in ENDPOINTS}
        payer = self._assign(random.choice([PREPAID, POSTPAID, MONTHLY]).key)
        shared = [self._shared() for _ in range(random.randrange(3))]
        limit = random.choice([None, 100_000, 400_000])
        self.accounts = tuple(chain(payer, self._assign(POSTPAID.key), *shared, limit=limit))
        self._count_members()

    def _assign(self, key: tuple[str, int], priority: int = 0) -> Assignment:
        self._assignments += 1
        return given(f"{self._assignments}", key, priority)

    def _addon(self) -> Assignment:
        return self._assign(self._random.choice(ADDONS).key, self._random.randrange(3))

    def _shared(self) -> Assignment:
        """An add-on of the enterprise's own step, or one that its endpoints share."""
        return self._assign(self._random.choice([*ADDONS, POOL, POOL]).key, self._random.randrange(3))

    def _endpoint(self, name: str) -> EndpointTerms:
        base = self._assign(self._random.choice(BASES).key)
        addons = [self._addon() for _ in range(self._random.randrange(3))]
        return replace(endpoint(base, *addons), id=name)

    def change(self) -> str:
        """Change something; say what."""
        random = self._random
        name = random.choice([*ENDPOINTS, ENTERPRISE, RESELLER])
        if name == RESELLER:
            limit = random.choice([None, 100_000, 300_000, 1_000_000])
            self._account(name, credit_limit_micros=limit)
            return f"limit of {name} is {limit}"
        if name in self.endpoints and random.random() < 0.1:
            self.endpoints[name] = replace(self._endpoint(name), version=self.endpoints[name].version + 1)
            self._count_members()
            return f"plans of {name} are others"
        old = self.endpoints.get(name) or next(each for each in self.accounts if each.id == name)
        added = self._shared() if name == ENTERPRISE else self._addon()
        addons = old.addons[1:] if old.addons and random.random() < 0.4 else (*old.addons, added)
        if name == ENTERPRISE:
            self._account(name, addons=addons)
        else:
            self.endpoints[name] = replace(self.endpoints[name], addons=addons, version=old.version + 1)
        return f"add-ons of {name} are {[each.id for each in addons]}"

    def _count_members(self) -> None:
        members = members_of(self.endpoints.values(), self.catalog)
        if members != self.accounts[0].members:
            self._account(ENTERPRISE, members=members)

    def _account(self, name: str, **fields: object) -> None:
        def changed(old: AccountTerms) -> AccountTerms:
            new: AccountTerms = replace(old, version=old.version + 1, limit_version=old.limit_version + 1, **fields)  # type: ignore[arg-type]
            return new

        self.accounts = tuple(changed(each) if each.id == name else each for each in self.accounts)


class MarketView:
    """The terms as a process knows them: late, until it asks anew. Satisfies the port."""

    def __init__(self, market: Market, random: Random) -> None:
        self._market = market
        self._random = random
        self._stale = False
        self.known: dict[str, KnownEndpoint] = {}
        self.refresh()

    def refresh(self) -> None:
        """See the market as it is now."""
        market = self._market
        terms = ChainTerms(market.accounts, market.catalog, set(market.catalog.plans))
        self.known = {name: KnownEndpoint(each, terms, {}) for name, each in market.endpoints.items()}
        self._stale = False

    @property
    def networks(self) -> Mapping[str, str]:
        return self._market.catalog.networks

    async def countries(self) -> Mapping[str, str]:
        return self.networks

    def require_current(self) -> None: ...

    async def load(self, endpoint_ids: Iterable[str]) -> set[str]:
        if self._stale:
            await asyncio.sleep(self._random.uniform(0.001, 0.05))
            self.refresh()
        return set(endpoint_ids) - self.known.keys()

    async def account(self, account_id: str) -> tuple[AccountTerms, CatalogTerms]:
        await asyncio.sleep(self._random.uniform(0.001, 0.05))
        for account in self._market.accounts:
            if account.id == account_id:
                return account, self._market.catalog
        raise not_found("account", account_id)

    def forget(self, endpoint_id: str = "") -> None:  # noqa: ARG002 - it forgets all
        self._stale = True
        self.known = {}

    async def wait_for(self, cursors: Sequence[int], seconds: float) -> None: ...
