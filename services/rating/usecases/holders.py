"""Holders as their configuration says: which a decision touches, in which version, and how they come to be so."""

from collections.abc import Iterable, Iterator, Sequence

from services.common.clock import DAY_MS, Clock
from services.common.identity import path_text
from services.rating.domain.balances import POOL, owner_of_holder, pool_id
from services.rating.domain.buckets import bucket_specs, pool_specs, told_until
from services.rating.domain.cells import cell_of
from services.rating.domain.compiling import former_plans, own_plans, pooled_addons
from services.rating.domain.decisions import ConfigureOp, Op
from services.rating.domain.programs import Program, Step, holders_of
from services.rating.domain.terms import AccountTerms, Assignment, CatalogTerms, EndpointTerms, PlanTerms
from services.rating.ports import ChainTerms, KnownEndpoint

HOLDERS_MAX = 2_000_000
READY_MAX = 4096
NO_LIMIT = -1
UNKNOWN = (-1, -1, 0)


class Holders:
    """Remembers which holders were given their present configuration by this process.

    A holder that was not is configured in front of the operations that need it. A view that is late does no harm:
    the Function takes only a newer version, and calls operations with an older one STALE.

    Args:
        clock: tells the time.
        cell: the cell that they are in.
        cells: how many cells the installation has.
    """

    def __init__(self, clock: Clock, cell: int = 0, cells: int = 1) -> None:
        self._clock = clock
        self._cell = cell
        self._cells = cells
        self._configured: dict[str, tuple[int, int, int]] = {}
        """The version, that of the limit, and until when what it was told of its cycles is enough."""
        self._ready: dict[tuple[int, int, int], tuple[Program, ChainTerms, dict[str, int]]] = {}
        """The versions that a program of a chain expects of its accounts, if all are configured; the key says when."""

    def forget_all(self) -> None:
        """Configure every holder anew at its next use."""
        self._configured.clear()
        self._ready.clear()

    def forget(self, holder_ids: Iterable[str]) -> None:
        """Configure these anew at their next use."""
        for holder_id in holder_ids:
            self._configured.pop(holder_id, None)
        self._ready.clear()

    def untold(self, ops: Iterable[Op]) -> None:
        """Configure anew what operations say that change nothing, or may have been lost on the way."""
        self.forget([op.holder_id for op in ops if isinstance(op, ConfigureOp)])

    def forget_chain(self, endpoint_id: str, accounts: Iterable[AccountTerms] = ()) -> None:
        """Configure all anew that a charge of an endpoint touches: some of it is not as this process told it.

        That it was told is noted when it is about to be: what never arrived is found out by operations that are STALE.
        """
        of_accounts = [name for account in accounts for name in (account.id, pool_id(account.id))]
        self.forget([endpoint_id, *of_accounts])

    def prepare(
        self, known: KnownEndpoint, program: Program, expected: dict[str, int], now_ms: int
    ) -> list[ConfigureOp]:
        """Note the versions that a program expects; return what must be configured before."""
        endpoint, ops = known.terms, list[ConfigureOp]()
        expected[endpoint.id] = endpoint.version
        version, _, until_ms = self._configured.get(endpoint.id, UNKNOWN)
        if version != endpoint.version or until_ms <= now_ms:
            ops.append(self._noted(self.of_endpoint(endpoint, known.chain.accounts[0], known.chain.catalog)))
        key = (id(program), id(known.chain), now_ms // DAY_MS)
        ready = self._ready.get(key)
        if ready is not None:
            expected.update(ready[2])
            return ops
        already = len(ops)
        for holder_id in program.holders:
            if holder_id not in expected:
                ops += self._prepare_account(holder_id, known.chain, expected, now_ms)
        if len(ops) == already:
            if len(self._ready) >= READY_MAX:
                self._ready.clear()
            versions = {holder_id: expected[holder_id] for holder_id in program.holders}
            self._ready[key] = (program, known.chain, versions)  # which stay what their ids say
        return ops

    def _prepare_account(
        self, holder_id: str, chain: ChainTerms, expected: dict[str, int], now_ms: int
    ) -> Iterator[ConfigureOp]:
        account = _owner(holder_id, chain)
        expected[holder_id] = account.version
        limit_version = 0 if holder_id.startswith(POOL) or self._is_shared(account, chain) else account.limit_version
        *versions, until_ms = self._configured.get(holder_id, UNKNOWN)
        if versions != [account.version, limit_version] or until_ms <= now_ms:
            yield self._noted(self._of_holder(holder_id, chain))

    def of_steps(self, known: KnownEndpoint, steps: Sequence[Step]) -> Iterator[ConfigureOp]:
        """The configurations of all holders that charging at some steps touched."""
        yield self.of_endpoint(known.terms, known.chain.accounts[0], known.chain.catalog)
        for holder_id in holders_of(steps):
            if known.chain.account(owner_of_holder(holder_id)):
                yield self._of_holder(holder_id, known.chain)

    def _of_holder(self, holder_id: str, chain: ChainTerms) -> ConfigureOp:
        account = _owner(holder_id, chain)
        if holder_id.startswith(POOL):
            return self.of_pool(account, chain.catalog)
        return self.of_account(account, chain.catalog, shared=self._is_shared(account, chain))

    def _is_shared(self, account: AccountTerms, chain: ChainTerms) -> bool:
        """Whether cells share an account: those above enterprises."""
        return self._cells > 1 and account is not chain.accounts[0]

    def of_endpoint(self, endpoint: EndpointTerms, enterprise: AccountTerms, catalog: CatalogTerms) -> ConfigureOp:
        """The configuration of an endpoint's holder; cycles are those of its enterprise."""
        specs = bucket_specs(_held_plans(endpoint, catalog), enterprise, self._clock.now_ms())
        return ConfigureOp(endpoint.id, endpoint.version, 0, NO_LIMIT, specs, path_text(enterprise.path))

    def of_account(self, account: AccountTerms, catalog: CatalogTerms, *, shared: bool = False) -> ConfigureOp:
        """The configuration of an account's holder.

        Where cells share the account, its limit here is what is leased to the cell (version 0 says so), and its buckets
        are in the cell of its top-ups only: they are never there twice.
        """
        at_home = not shared or cell_of(account.id, self._cells) == self._cell
        specs = bucket_specs(_held_plans(account, catalog), account, self._clock.now_ms()) if at_home else []
        limit = NO_LIMIT if account.credit_limit_micros is None else account.credit_limit_micros
        limit_version, limit = (0, 0) if shared else (account.limit_version, limit)
        return ConfigureOp(account.id, account.version, limit_version, limit, specs, path_text(account.path))

    def of_pool(self, account: AccountTerms, catalog: CatalogTerms) -> ConfigureOp:
        """The configuration of the holder that the endpoints of an account share."""
        now_ms = self._clock.now_ms()
        specs = bucket_specs(pooled_addons(account, catalog), account, now_ms, pool=True)
        specs += pool_specs(account, catalog.plans, now_ms)
        return ConfigureOp(pool_id(account.id), account.version, 0, NO_LIMIT, specs, path_text(account.path))

    def _noted(self, op: ConfigureOp) -> ConfigureOp:
        """Note what is about to be told. Only that: who told nobody of a limit would charge by the one before."""
        if len(self._configured) >= HOLDERS_MAX:
            self.forget_all()
        until_ms = told_until(op.buckets, self._clock.now_ms())
        self._configured[op.holder_id] = (op.version, op.limit_version, until_ms)
        return op


def _owner(holder_id: str, chain: ChainTerms) -> AccountTerms:
    """The account of a chain that a holder is of."""
    return next(each for each in chain.accounts if each.id == owner_of_holder(holder_id))


def _held_plans(payer: EndpointTerms | AccountTerms, catalog: CatalogTerms) -> Iterator[tuple[Assignment, PlanTerms]]:
    """Plans of which a payer has buckets: its own, and those before them, for use that is told late."""
    yield from own_plans(payer, catalog)
    yield from former_plans(payer, catalog)
