"""The commercial terms, cached: asked of the other services in batches, kept current by their change feeds."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import Any, TypeVar

import structlog
from google.protobuf.message import Message

from meterline.accounts.v1 import accounts_pb2, accounts_pb2_grpc
from meterline.catalog.v1 import charging_catalog_pb2, charging_catalog_pb2_grpc
from meterline.endpoints.v1 import charging_context_pb2, charging_context_pb2_grpc
from services.common.errors import DeadlineExceededError, MeterlineError, UnavailableError, not_found
from services.rating.convert.terms import (
    account_terms,
    coverage_terms,
    endpoint_terms,
    merge_catalog,
    network_terms,
)
from services.rating.domain.terms import AccountTerms, CatalogTerms, EndpointTerms, PlanKey
from services.rating.ports import ChainTerms, KnownEndpoint
from services.runtime.channels import Channel

T = TypeVar("T")
BATCH = 1000
PLANS_BATCH = 100
"""Plans that are asked for at once: they come with all versions of their tariffs."""
COVERAGE_BATCH = 500
ENDPOINTS_MAX = 2_000_000
STALE_SECONDS = 10.0
"""How long a feed may be silent before nothing is authorised on what it keeps current."""
RETRY_SECONDS = 0.5
CatalogChange = tuple[str, str]
"""Type and id of what changed in the catalogue."""
FAR_REACHING = frozenset({"network", "service_scope"})
"""Types of which a change may reach everything."""

log = structlog.get_logger(part="terms")


class Feed:
    """Follows one change feed, resuming from its cursor."""

    def __init__(self, name: str, watch: Callable[[int], AsyncIterator[Any]], apply: Callable[[Any], None]) -> None:
        self.name = name
        self.cursor = -1
        self.heard = 0.0
        self._watch = watch
        self.apply = apply

    @property
    def silent_seconds(self) -> float:
        """Since when nothing was heard."""
        return time.monotonic() - self.heard

    async def run(self) -> None:
        """Follow until cancelled; who is silent for long, though it should give signs of life, is asked anew."""
        clock = asyncio.get_running_loop().time
        while True:
            try:
                async with asyncio.timeout(STALE_SECONDS) as silence:
                    async for change in self._watch(self.cursor):
                        self.apply(change)
                        self.cursor = change.cursor
                        self.heard = time.monotonic()
                        silence.reschedule(clock() + STALE_SECONDS)
            except MeterlineError as error:
                log.info("feed broken", feed=self.name, reason=error.reason)
            except TimeoutError:
                log.warning("feed silent", feed=self.name, seconds=STALE_SECONDS)
            await asyncio.sleep(RETRY_SECONDS)


class TermsView:
    """What rating knows of accounts, catalogue and endpoints.

    Args:
        accounts: channel to accounts.
        catalog: channel to catalog.
        endpoints: channel to endpoints.
    """

    def __init__(self, accounts: Channel, catalog: Channel, endpoints: Channel) -> None:
        self._accounts_channel = accounts
        self._catalog_channel = catalog
        self._endpoints_channel = endpoints
        self._accounts = accounts_pb2_grpc.AccountServiceStub(accounts.grpc)
        self._catalog = charging_catalog_pb2_grpc.ChargingCatalogServiceStub(catalog.grpc)
        self._endpoints = charging_context_pb2_grpc.ChargingContextServiceStub(endpoints.grpc)
        self.feeds = (
            Feed("accounts", self._watch_accounts, self._account_changed),
            Feed("catalog", self._watch_catalog, self._catalog_changed),
            Feed("endpoints", self._watch_endpoints, self._endpoint_changed),
        )
        self.known: dict[str, KnownEndpoint] = {}
        self.endpoints: dict[str, EndpointTerms] = {}
        self.chains: dict[str, ChainTerms] = {}
        self._catalog_terms = CatalogTerms()
        self._asked: dict[str, asyncio.Future[bool]] = {}
        self._loader: asyncio.Task[None] | None = None
        self._touched: set[str] = set()
        """Endpoints and accounts that changed since the present load began."""
        self._asking: list[set[CatalogChange]] = []
        """What of the catalogue changed since each of the questions was asked that wait for an answer."""
        self.on_key_change: Callable[[], None] = lambda: None

    # --- reading -------------------------------------------------------------------------------------------------

    @property
    def networks(self) -> dict[str, str]:
        """Country code by network id."""
        return self._catalog_terms.networks

    def require_current(self) -> None:
        """Raise UNAVAILABLE while what is known may be stale."""
        for feed in self.feeds:
            if feed.silent_seconds > STALE_SECONDS:
                raise UnavailableError(
                    "TERMS_STALE",
                    f"Changes of {feed.name} have not been heard of for more than {STALE_SECONDS:.0f} s; try again.",
                    retry_after_ms=1000,
                )

    async def load(self, endpoint_ids: Iterable[str]) -> set[str]:
        """Make endpoints and their chains known; return those that do not exist.

        When it returns, each of the others is in `known` until the caller next waits for something. One load is under
        way at a time; those who come meanwhile are loaded together after it.
        """
        absent: set[str] = set()
        wanted = list(endpoint_ids)
        while missing := [name for name in wanted if name not in self.known and name not in absent]:
            answers = {name: self._ask(name) for name in missing}
            await asyncio.wait(answers.values())
            absent.update(name for name, exists in answers.items() if not exists.result())
        return absent

    def _ask(self, endpoint_id: str) -> asyncio.Future[bool]:
        """Ask for an endpoint with those that are loaded next; the answer says whether it exists."""
        answer = self._asked.get(endpoint_id)
        if answer is None:
            answer = self._asked[endpoint_id] = asyncio.get_running_loop().create_future()
        if self._loader is None or self._loader.done():
            self._loader = asyncio.create_task(self._load_asked())
        return answer

    async def _load_asked(self) -> None:
        while self._asked:
            chunk = {name: self._asked.pop(name) for name in list(islice(self._asked, BATCH))}
            try:
                absent = await self._load_some([name for name in chunk if name not in self.known])
            except Exception as error:  # noqa: BLE001 - each who asked raises it
                for answer in chunk.values():
                    answer.set_exception(error)
                    answer.exception()  # who asked may not wait for it any more
            else:
                for name, answer in chunk.items():
                    answer.set_result(name not in absent)

    async def _load_some(self, endpoint_ids: Sequence[str]) -> set[str]:
        self._touched.clear()
        absent = await self._load_endpoints([name for name in endpoint_ids if name not in self.endpoints])
        present = [self.endpoints[name] for name in endpoint_ids if name in self.endpoints]
        plans: dict[str, set[PlanKey]] = {}
        for endpoint in present:
            plans.setdefault(endpoint.enterprise_id, set()).update(endpoint.plans)
        homeless = await self._load_chains(plans)
        for endpoint in present:
            chain = self.chains.get(endpoint.enterprise_id)
            if endpoint.enterprise_id in homeless:
                absent.add(endpoint.id)
            elif chain is not None and self.endpoints.get(endpoint.id) is endpoint:
                self.known[endpoint.id] = KnownEndpoint(endpoint, chain, chain.programs_of(endpoint))
        return absent

    async def _load_endpoints(self, endpoint_ids: Sequence[str]) -> set[str]:
        """Ask for endpoints; return those that do not exist."""
        if not endpoint_ids:
            return set()
        if len(self.endpoints) > ENDPOINTS_MAX:
            self.endpoints.clear()
            self.known.clear()
        request = charging_context_pb2.BatchGetEndpointContextsRequest(endpoint_ids=endpoint_ids)
        response = await self._endpoints_channel.call(self._endpoints.BatchGetEndpointContexts, request)
        owners = {context.account_id for context in response.contexts}
        active = await self._active_accounts(owners)
        found = [endpoint_terms(context, owner_active=context.account_id in active) for context in response.contexts]
        for endpoint in found:
            if self._touched.isdisjoint((endpoint.id, endpoint.account_id)):
                self.endpoints[endpoint.id] = endpoint
        return set(endpoint_ids) - {endpoint.id for endpoint in found}

    async def _active_accounts(self, account_ids: Iterable[str]) -> set[str]:
        request = accounts_pb2.BatchGetAccountsRequest(account_ids=sorted(account_ids))
        if not request.account_ids:
            return set()
        response = await self._accounts_channel.call(self._accounts.BatchGetAccounts, request)
        return {account.id for account in response.accounts if account.state == accounts_pb2.ACCOUNT_STATE_ACTIVE}

    async def account(self, account_id: str) -> tuple[AccountTerms, CatalogTerms]:
        """Return the terms of an account with its plans, asked anew; NOT_FOUND if there is none."""
        path = (await self._paths([account_id])).get(account_id)
        if path is None:
            raise not_found("account", account_id)
        terms = (await self._account_terms(path))[account_id]
        await self._load_plans(set(terms.plans))
        return terms, self._catalog_terms

    async def _paths(self, account_ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Paths of accounts, from the operator down; those that do not exist are left out."""
        paths = {}
        for chunk in _chunks(account_ids, BATCH):
            request = accounts_pb2.BatchGetAccountsRequest(account_ids=chunk)
            response = await self._accounts_channel.call(self._accounts.BatchGetAccounts, request)
            paths.update({account.id: tuple(account.path) for account in response.accounts})
        return paths

    async def _account_terms(self, account_ids: Sequence[str]) -> dict[str, AccountTerms]:
        terms = {}
        for chunk in _chunks(account_ids, BATCH):
            request = accounts_pb2.BatchGetAccountsRequest(account_ids=chunk)
            accounts = await self._accounts_channel.call(self._accounts.BatchGetAccounts, request)
            given_request = charging_context_pb2.BatchGetAccountAssignmentsRequest(account_ids=chunk)
            given = await self._endpoints_channel.call(self._endpoints.BatchGetAccountAssignments, given_request)
            assignments = {entry.account_id: entry for entry in given.accounts}
            terms.update({a.id: account_terms(a, assignments.get(a.id)) for a in accounts.accounts})
        return terms

    async def _load_chains(self, plans: Mapping[str, set[PlanKey]]) -> set[str]:
        """Load the chains of enterprises, with these plans of their endpoints; return those that do not exist.

        A chain of which something changes on the way is left out: who needs it asks again.
        """
        unknown = [name for name in plans if name not in self.chains]
        with self._asked_catalog() as changed:
            paths = await self._paths(unknown)
            accounts = await self._account_terms(list(dict.fromkeys(name for path in paths.values() for name in path)))
            wanted = {name: set(keys) for name, keys in plans.items()}
            for enterprise_id, path in paths.items():
                wanted[enterprise_id].update(key for name in path for key in accounts[name].plans)
            await self._load_reach(list(paths))
            await self._load_plans(set().union(*wanted.values()))
        if any(kind in FAR_REACHING for kind, _ in changed):
            return set()
        for enterprise_id, path in paths.items():
            if self._touched.isdisjoint(path) and enterprise_id in self._catalog_terms.coverage:
                chain = tuple(accounts[name] for name in reversed(path))
                self.chains[enterprise_id] = ChainTerms(chain, self._catalog_terms, wanted[enterprise_id])
        for enterprise_id, keys in wanted.items():
            if enterprise_id in self.chains:
                self.chains[enterprise_id].known_plans.update(keys)
        return {name for name in unknown if name not in paths}

    async def _load_plans(self, keys: set[PlanKey]) -> None:
        """Make plans known, until something else is waited for."""
        absent: set[PlanKey] = set()
        while missing := sorted(keys - self._catalog_terms.plans.keys() - absent)[:PLANS_BATCH]:
            named = [charging_catalog_pb2.PlanVersionKey(plan_id=name, version=version) for name, version in missing]
            request = charging_catalog_pb2.BatchGetPlanVersionsRequest(keys=named)
            with self._asked_catalog() as changed:
                response = await self._catalog_channel.call(self._catalog.BatchGetPlanVersions, request)
            found = CatalogTerms()
            merge_catalog(response, found)
            if not any(kind in FAR_REACHING or found.plans_with(kind, name) for kind, name in changed):
                merge_catalog(response, self._catalog_terms)
                absent.update(set(missing) - found.plans.keys())

    @contextmanager
    def _asked_catalog(self) -> Iterator[set[CatalogChange]]:
        """Note what of the catalogue changes before an answer is there: it may be older."""
        changed: set[CatalogChange] = set()
        self._asking.append(changed)
        try:
            yield changed
        finally:
            self._asking = [each for each in self._asking if each is not changed]

    async def countries(self) -> Mapping[str, str]:
        """Country code by network id, of all networks."""
        await self._load_networks()
        return self._catalog_terms.networks

    async def _load_networks(self) -> None:
        is_known = bool(self._catalog_terms.networks)
        while not is_known:
            with self._asked_catalog() as changed:
                request = charging_catalog_pb2.BatchGetNetworksRequest()
                response = await self._catalog_channel.call(self._catalog.BatchGetNetworks, request)
            is_known = not any(kind in FAR_REACHING for kind, _ in changed)
            if is_known:
                self._catalog_terms.networks.update(network_terms(response.networks))

    async def _load_reach(self, enterprise_ids: Sequence[str]) -> None:
        await self._load_networks()
        while missing := [name for name in enterprise_ids if name not in self._catalog_terms.coverage][:COVERAGE_BATCH]:
            with self._asked_catalog() as changed:
                request = charging_catalog_pb2.BatchGetCoverageRequest(account_ids=missing)
                covered = await self._catalog_channel.call(self._catalog.BatchGetCoverage, request)
            if not any(kind == "coverage" or kind in FAR_REACHING for kind, _ in changed):
                found = coverage_terms(covered.coverages)
                self._catalog_terms.coverage.update({name: found.get(name, frozenset()) for name in missing})

    # --- following -----------------------------------------------------------------------------------------------

    def forget(self, endpoint_id: str) -> None:
        """Ask for an endpoint and its chain anew at the next use."""
        endpoint = self.endpoints.pop(endpoint_id, None)
        if endpoint is not None:
            self._drop_chains([endpoint.enterprise_id])

    async def wait_for(self, cursors: Sequence[int], seconds: float) -> None:
        """Wait until the feeds of accounts, catalog and endpoints have reached these cursors."""
        deadline = time.monotonic() + seconds
        while any(feed.cursor < cursor for feed, cursor in zip(self.feeds, cursors, strict=True)):
            if time.monotonic() > deadline:
                raise DeadlineExceededError("CHANGES_NOT_SEEN", "The changes have not arrived yet; try again.")
            await asyncio.sleep(0.002)

    async def run(self) -> None:
        """Follow the feeds until cancelled."""
        async with asyncio.TaskGroup() as group:
            for feed in self.feeds:
                group.create_task(feed.run())

    def _watch_accounts(self, cursor: int) -> AsyncIterator[Message]:
        request = accounts_pb2.WatchAccountChangesRequest(from_cursor=cursor)
        return self._accounts_channel.stream(self._accounts.WatchAccountChanges, request)

    def _watch_catalog(self, cursor: int) -> AsyncIterator[Message]:
        request = charging_catalog_pb2.WatchCatalogChangesRequest(from_cursor=cursor)
        return self._catalog_channel.stream(self._catalog.WatchCatalogChanges, request)

    def _watch_endpoints(self, cursor: int) -> AsyncIterator[Message]:
        request = charging_context_pb2.WatchEndpointChangesRequest(from_cursor=cursor)
        return self._endpoints_channel.stream(self._endpoints.WatchEndpointChanges, request)

    def _account_changed(self, change: accounts_pb2.WatchAccountChangesResponse) -> None:
        if change.api_key_id:
            self.on_key_change()
        if not change.HasField("account"):
            return
        account = change.account
        self._drop_chains_with(account.id)
        is_active = account.state == accounts_pb2.ACCOUNT_STATE_ACTIVE
        if account.kind in {accounts_pb2.ACCOUNT_KIND_SUB_ACCOUNT, accounts_pb2.ACCOUNT_KIND_ENTERPRISE}:
            for endpoint in [e for e in self.endpoints.values() if e.account_id == account.id]:
                if endpoint.owner_active != is_active:
                    self.endpoints[endpoint.id] = replace(endpoint, owner_active=is_active)
                    self.known.pop(endpoint.id, None)

    def _catalog_changed(self, change: charging_catalog_pb2.WatchCatalogChangesResponse) -> None:
        kind, name = change.resource_type, change.resource_id
        if not kind or kind in {"plan", "apn_group"}:  # a plan's versions never change, and APNs have no price
            return
        for asked in self._asking:
            asked.add((kind, name))
        catalog = self._catalog_terms
        if kind in FAR_REACHING:
            self._catalog_terms = CatalogTerms()
            self.chains.clear()
            self.known.clear()
            return
        if kind == "coverage":  # of the accounts below it, too
            stale = set[PlanKey]()
            self._drop_chains_with(name)
            elsewhere = catalog.coverage.keys() - self.chains.keys()
        else:
            stale, elsewhere = catalog.plans_with(kind, name), set()
            self._drop_chains([other for other, chain in self.chains.items() if chain.known_plans & stale])
        if stale or elsewhere:  # who works with what is dropped goes on with what he has
            self._catalog_terms = catalog.without(stale, elsewhere)
            for chain in self.chains.values():
                chain.catalog = self._catalog_terms

    def _endpoint_changed(self, change: charging_context_pb2.WatchEndpointChangesResponse) -> None:
        if change.endpoint_id:
            self._touched.add(change.endpoint_id)
            self.endpoints.pop(change.endpoint_id, None)
            self.known.pop(change.endpoint_id, None)
        if change.account_id:
            self._drop_chains_with(change.account_id)

    def _drop_chains_with(self, account_id: str) -> None:
        self._touched.add(account_id)
        self._drop_chains([name for name, chain in self.chains.items() if chain.account(account_id)])

    def _drop_chains(self, enterprise_ids: Sequence[str]) -> None:
        """Forget chains, and their endpoints until somebody asks for one."""
        dropped = {id(self.chains.pop(name)) for name in enterprise_ids if name in self.chains}
        if dropped:
            for name in [name for name, known in self.known.items() if id(known.chain) in dropped]:
                del self.known[name]


def _chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
