"""Balances: read live, topped up with money."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from services.common.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    MeterlineError,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
    invalid,
    not_found,
)
from services.common.identity import BALANCE_READERS, WRITERS, AccountKind, Principal, path_text
from services.common.money import Money
from services.rating.domain.balances import (
    MONEY_BUCKET,
    Bucket,
    Holder,
    Role,
    RollOverOrder,
    balance_id,
    owner_of_holder,
)
from services.rating.domain.decisions import Actor, ConfigureOp, Outcome, Status, TopUpOp
from services.rating.domain.escrow import Kind
from services.rating.domain.limits import PlanCounter, plan_counters
from services.rating.domain.periods import Clock
from services.rating.domain.reasons import BalanceState, Unit
from services.rating.domain.records import body_digest, id_digest
from services.rating.domain.terms import AccountTerms, CatalogTerms, EndpointTerms
from services.rating.usecases.cells import Cell
from services.rating.usecases.charging import books_behind
from services.rating.usecases.holders import NO_LIMIT
from services.rating.usecases.kit import Kit
from services.rating.usecases.seeing import require_endpoint

TRIES_MAX = 3
FOLD_LOOKS_MAX, FOLD_LOOK_SECONDS = 100, 0.05
TOP_UP, REFILL = "topup", "refill"
"""What a request that adds to a balance is for; part of what it is remembered by."""


@dataclass(frozen=True, slots=True)
class Balance:
    """A bucket of volume or money as it stands. Times are milliseconds since 1970, 0 is none."""

    id: str
    endpoint_id: str
    account_id: str
    pool_id: str
    assignment_id: str
    benefit_id: str
    unit: Unit
    currency: str
    remaining: int
    reserved: int
    granted: int
    state: BalanceState
    priority: int
    activated_ms: int
    expires_ms: int
    credit_used: int
    credit_limit: int
    occurrence: int = 1
    plan_id: str = ""


UTC_MONTHS = Clock(1, "UTC")


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds balances: an endpoint, or an account.

    Attributes:
        id: `ep_...` or `acc_...`.
        endpoint_id: the endpoint, or empty.
        account_id: the account, or the endpoint's enterprise.
        currency: of its money.
        path: path of the account.
        configure: makes its holder what its plans say.
        cell: where it lives, or is topped up.
        credit_limit: most that it may owe, micros; -1 means no limit.
        pool: does the same for what an account's endpoints share; None for an endpoint.
        currencies: of money that came with an assignment or is shared by a base plan, by the id of that.
        counters: of its plans.
        cycle: its billing cycles.
        is_active: whether the account is ACTIVE.
        is_gone: whether the endpoint is deleted or the account TERMINATED: nothing is to be paid for it any more.
    """

    id: str
    endpoint_id: str
    account_id: str
    currency: str
    path: tuple[str, ...]
    configure: ConfigureOp
    cell: Cell
    credit_limit: int
    pool: ConfigureOp | None = None
    currencies: Mapping[str, str] = field(default_factory=dict)
    counters: Sequence[PlanCounter] = ()
    cycle: Clock = UTC_MONTHS
    is_active: bool = True
    is_gone: bool = False


class Balances:
    """Reads and tops up balances."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    async def of_owner(self, caller: Principal, endpoint_id: str, account_id: str) -> Sequence[Balance]:
        """List the balances of an endpoint or an account in the order of consumption, money last.

        Of an account those of its own step come first, then what its endpoints share.
        """
        caller.require_role(*BALANCE_READERS)
        owner = await self.owner(caller, endpoint_id, account_id)
        return await self.of(owner)

    async def get(self, caller: Principal, name: str) -> Balance:
        """Return a balance."""
        caller.require_role(*BALANCE_READERS)
        for owner_id in await self.owners_of(name):
            try:
                owner = await self.owner(caller, *_of(owner_id))
            except MeterlineError:
                continue
            for balance in await self.of(owner):
                if balance.id == name:
                    return balance
        raise not_found("balance", name)

    async def owners_of(self, name: str) -> Sequence[str]:
        """Who may hold a balance, by its id.

        The books say whose a bucket is. They hold it a little after the list, which is live, first shows it.

        Raises:
            UnavailableError: BOOKS_BEHIND: they do not hold all yet, so whether it is there is not known.
        """
        tail, _, bucket = name.removeprefix("bal_").partition(".")
        if bucket == MONEY_BUCKET:
            return [f"ep_{tail}", f"acc_{tail}"]
        holder = await self._kit.ledger.holder_of(name)
        if holder is None:
            await self._caught_up()
            holder = await self._kit.ledger.holder_of(name)
        return [owner_of_holder(holder)] if holder else []

    async def owner_of(self, caller: Principal, name: str) -> tuple[Owner, str]:
        """Who holds a balance, and the name of its bucket; empty for money."""
        bucket = name.removeprefix("bal_")
        if bucket.endswith(f".{MONEY_BUCKET}"):
            bucket = ""
        for owner_id in await self.owners_of(name):
            with suppress(NotFoundError, InvalidArgumentError):  # of no form that an owner's id has
                return await self.owner(caller, *_of(owner_id)), bucket
        raise not_found("balance", name)

    async def holder_with(self, owner: Owner, name: str) -> ConfigureOp:
        """The holder of an owner that a balance is in: its own, or the one that its endpoints share."""
        if owner.pool is not None and await self._kit.ledger.holder_of(name) == owner.pool.holder_id:
            return owner.pool
        return owner.configure

    async def top_up(
        self,
        caller: Principal,
        endpoint_id: str,
        account_id: str,
        amount: Money,
        request_id: str,
        *,
        dry_run: bool = False,
    ) -> Balance:
        """Add money, once for a request id. A dry run returns the balance as it would be, and changes nothing.

        What remains is what was there right after it; a repeat says the same, whatever was used since.

        Raises:
            PermissionDeniedError: NOT_THE_SELLER, see `require_seller`.
            FailedPreconditionError: CURRENCY_MISMATCH, BALANCE_OVERFLOW, ENDPOINT_GONE.
            AlreadyExistsError: REQUEST_ID_REUSED.
            UnavailableError: BOOKS_BEHIND: a repeat could not be told.
        """
        caller.require_role(*WRITERS)
        if amount.micros <= 0:
            raise invalid("amount", "must be more than 0")
        owner = await self.owner(caller, endpoint_id, account_id)
        require_seller(caller, owner)
        require_currency(owner, amount)
        digest = gift_digest(caller, TOP_UP, owner.id, request_id)
        await self.require_there(owner, digest)
        body = body_digest(f"{owner.id} {amount}".encode())
        left = await self.earlier_answer(digest, body, request_id)
        if left is None:
            by = actor_for(caller, owner.path, owner.account_id)
            op = TopUpOp(digest, body, owner.id, amount.micros, request_id, by)
            if dry_run:
                return await self._would_be(owner, op)
            left = await self._decide(owner, op)
        return self._answer(owner, (await self.of(owner))[-1], left)

    async def earlier_answer(self, digest: bytes, body: bytes, request_id: str) -> int | None:
        """What was left after a request that the books have: nothing else tells one older than the memory of ids.

        Raises:
            AlreadyExistsError: REQUEST_ID_REUSED.
            UnavailableError: BOOKS_BEHIND: a repeat could not be told.
        """
        behind = await books_behind(self._kit, self._kit.clock.now_ms())
        earlier = await self._kit.ledger.answered_request(digest)
        if earlier is not None and earlier[0] != body:
            raise reused(request_id)
        if earlier is None and behind is not None:
            raise behind
        return earlier[1] if earlier is not None else None

    async def require_there(self, owner: Owner, digest: bytes) -> None:
        """Raise FAILED_PRECONDITION ENDPOINT_GONE where new money would go to an endpoint that is gone."""
        if owner.endpoint_id and owner.is_gone and not await self.happened(digest):
            raise FailedPreconditionError(
                "ENDPOINT_GONE",
                f"{owner.id} is deleted, or its account is terminated: it gets no money any more. What it has can be "
                "transferred to its enterprise.",
            )

    async def happened(self, digest: bytes) -> bool:
        """Whether a request was decided before now, whatever became since of those whom it concerned.

        Raises:
            UnavailableError: BOOKS_BEHIND: it is not known.
        """
        await self._caught_up()
        return await self._kit.ledger.answered_request(digest) is not None

    async def _caught_up(self) -> None:
        """Wait until the books hold all that was decided by now, which takes them half a second.

        Raises:
            UnavailableError: BOOKS_BEHIND: they do not after five seconds.
        """
        kit, decided = self._kit, dict[int, int]()
        for cell in kit.cells:
            _, sequence = await cell.engine.position() or (0, 0)
            decided[cell.engine.cell] = max(sequence, await kit.journal.last_sequence(cell.engine.cell))
        for _ in range(FOLD_LOOKS_MAX):
            folded = [(await kit.ledger.cursor(number)).sequence >= sequence for number, sequence in decided.items()]
            if all(folded):
                return
            await asyncio.sleep(FOLD_LOOK_SECONDS)
        raise UnavailableError(
            "BOOKS_BEHIND", "The books do not hold all that was decided; see that the fold runs.", retry_after_ms=10_000
        )

    async def _would_be(self, owner: Owner, op: TopUpOp) -> Balance:
        outcome = (await owner.cell.preview([owner.configure, op], {})).outcomes[-1]
        _require_taken(outcome[0], op.request_id)
        holder = (await owner.cell.engine.holders([owner.id])).get(owner.id) or _nothing(owner.id)
        if self._is_spread(owner):
            holder = await self._summed(owner, holder)
        now = _of_money(owner, holder)
        if outcome[0] == Status.DONE:
            return replace(now, remaining=now.remaining + op.micros, state=BalanceState.ACTIVE)
        return self._answer(owner, now, await self._left_after(owner.cell, outcome))

    async def _left_after(self, cell: Cell, outcome: Outcome) -> int:
        """What was left after a top-up; of a repeat, out of the journal."""
        if outcome[0] == Status.DONE:
            return int(outcome[1])
        _, sequence, position = outcome
        segment = (await self._kit.journal.get(cell.engine.cell, [sequence]))[sequence]
        requests = self._kit.journal.content(segment).requests
        return next(each.answer for each in requests if each.operation == position - 1)

    def _answer(self, owner: Owner, now: Balance, left: int) -> Balance:
        """A balance with what was left right after a top-up.

        Of an account that is in several cells only the part in one of them is known: it is told as it stands now.
        """
        if self._is_spread(owner):
            return now
        return replace(now, remaining=left, reserved=min(now.reserved, left), state=BalanceState.ACTIVE)

    def _is_spread(self, owner: Owner) -> bool:
        """Whether the owner's money may be in several cells."""
        return self._kit.cells.count > 1 and not owner.endpoint_id

    async def _decide(self, owner: Owner, op: TopUpOp) -> int:
        """Top up; return what is left after it."""
        for _ in range(TRIES_MAX):
            answered = await owner.cell.submit([owner.configure, op], {owner.id: owner.configure.version})
            outcome = answered.outcomes[-1]
            if outcome[0] in {Status.DONE, Status.REPEATED}:
                self._kit.escrow.replenished(owner.id)
                return await self._left_after(owner.cell, outcome)
            _require_taken(outcome[0], op.request_id)
        raise UnavailableError("TERMS_CHANGING", "The owner's plans are changing; try again.")

    async def owner(self, caller: Principal, endpoint_id: str, account_id: str) -> Owner:
        """Find the holder that one of the two names, if the caller sees it."""
        if bool(endpoint_id) == bool(account_id):
            raise invalid("endpoint_id", "or account_id must be given, one of the two")
        if endpoint_id:
            known = await require_endpoint(self._kit.terms, caller, endpoint_id)
            endpoint, enterprise = known.terms, known.chain.accounts[0]
            plan = known.chain.catalog.plans.get(endpoint.base.plan) if endpoint.base else None
            currency = (plan.currency if plan else "") or enterprise.currency
            cell = self._kit.cells.of(enterprise.id)
            configure = cell.holders.of_endpoint(endpoint, enterprise, known.chain.catalog)
            money = _currencies(endpoint, known.chain.catalog)
            return Owner(
                endpoint_id,
                endpoint_id,
                enterprise.id,
                currency,
                enterprise.path,
                configure,
                cell,
                NO_LIMIT,
                None,
                money,
                plan_counters(plan),
                enterprise.cycle,
                enterprise.active and endpoint.owner_active,
                endpoint.deleted or enterprise.terminated,
            )
        account, catalog = await self._kit.terms.account(account_id)
        caller.require_sees(account.path, "account", account_id)
        cell = self._kit.cells.of(account_id)
        configure = cell.holders.of_account(account, catalog, shared=self._kit.cells.count > 1)
        limit = NO_LIMIT if account.credit_limit_micros is None else account.credit_limit_micros
        pool, money = cell.holders.of_pool(account, catalog), _currencies(account, catalog)
        return Owner(
            account_id,
            "",
            account_id,
            account.currency,
            account.path,
            configure,
            cell,
            limit,
            pool,
            money,
            plan_counters(catalog.plans.get(account.base.plan) if account.base else None),
            account.cycle,
            account.active,
            account.terminated,
        )

    async def of(self, owner: Owner) -> list[Balance]:
        """The balances of a holder, and of its pool, as they stand now."""
        holder = await self.holder(owner.cell, owner.configure)
        balances = self._of_buckets(owner, holder, "")
        if owner.pool is not None:
            pool = await self.holder(owner.cell, owner.pool)
            balances += self._of_buckets(owner, pool, owner.pool.holder_id)
        if self._is_spread(owner):
            holder = await self._summed(owner, holder)
        return [*balances, _of_money(owner, holder)]

    async def holder(self, cell: Cell, configure: ConfigureOp) -> Holder:
        """A holder as its plans say; what has ended unseen is seen to, so that the ledger says what is shown."""
        name, now_ms = configure.holder_id, self._kit.clock.now_ms()
        holder = (await cell.read(lambda engine: engine.holders([name]))).get(name)
        if (
            holder is None
            or holder.version < configure.version
            or holder.limit_version < configure.limit_version
            or any(bucket.ends_unseen(now_ms) for bucket in holder.buckets)
        ):
            await cell.submit([replace(configure, look=True)], {})
            holder = (await cell.engine.holders([name])).get(name)
        return holder or _nothing(name)

    def _of_buckets(self, owner: Owner, holder: Holder, pool_id: str) -> list[Balance]:
        now_ms = self._kit.clock.now_ms()
        order = sorted((bucket for bucket in holder.buckets if not bucket.is_memory), key=_consumption_order)
        return [_of_bucket(owner, bucket, now_ms, pool_id) for bucket in order]

    async def elsewhere(self, owner: Owner) -> list[Holder]:
        """What other cells hold of an account; of one that is in one cell only, nothing."""
        others = [cell for cell in self._kit.cells if cell is not owner.cell and self._is_spread(owner)]
        found = await asyncio.gather(*(cell.read(lambda engine: engine.holders([owner.id])) for cell in others))
        return [there[owner.id] for there in found if owner.id in there]

    async def _summed(self, owner: Owner, holder: Holder) -> Holder:
        """The holder with what other cells hold of an account above enterprises, and what is in no cell."""
        slices = [holder, *await self.elsewhere(owner)]
        free = await self._kit.escrow.free(owner.id, Kind.MONEY)
        return replace(
            holder,
            money=free + sum(one.money for one in slices),
            money_reserved=sum(one.money_reserved for one in slices),
            credit_used=sum(one.credit_used for one in slices),
            credit_reserved=sum(one.credit_reserved for one in slices),
            credit_limit=owner.credit_limit,
        )


def gift_digest(caller: Principal, kind: str, owner_id: str, request_id: str) -> bytes:
    """What a TOP_UP or a REFILL is remembered by."""
    return id_digest(owner_id, f"{kind} {caller.account_id} {request_id}")


def actor_for(caller: Principal, path: Sequence[str], owner_id: str) -> Actor:
    """The caller, as the audit trail names it beside the owner of what changes."""
    return Actor(caller.actor, caller.account_id, path_text(path), owner_id)


def require_seller(caller: Principal, owner: Owner) -> None:
    """Refuse a change of balances by another than who sells to their owner, or an account above.

    The enterprise sells to its endpoints, and pays for those of its sub-accounts too; to an account its parent does.
    """
    own_wallet = not owner.endpoint_id and owner.id == caller.account_id
    if not caller.service and (own_wallet or caller.account_kind is AccountKind.SUB_ACCOUNT):
        raise PermissionDeniedError(
            "NOT_THE_SELLER",
            "Only the account that sells to the balance's owner, or one above it, may do this: ask in its context.",
        )


def require_currency(owner: Owner, amount: Money) -> None:
    """Refuse an amount in another currency than the owner's money."""
    if owner.currency != amount.currency:
        raise FailedPreconditionError(
            "CURRENCY_MISMATCH", f"The balance is in {owner.currency or 'no currency: give it a prepaid plan'}."
        )


def _of(owner_id: str) -> tuple[str, str]:
    """The endpoint, or the account."""
    return (owner_id, "") if owner_id.startswith("ep_") else ("", owner_id)


def _currencies(payer: EndpointTerms | AccountTerms, catalog: CatalogTerms) -> dict[str, str]:
    given = [(each.id, each.plan) for each in payer.assignments]
    if isinstance(payer, AccountTerms):
        given += [(members.plan[0], members.plan) for members in payer.members]
    plans = ((name, catalog.plans.get(plan)) for name, plan in given)
    return {name: plan.currency for name, plan in plans if plan is not None}


_PLACE_OF_REST = {
    RollOverOrder.OLDEST_FIRST: 1, RollOverOrder.NEWEST_FIRST: 2, None: 3, RollOverOrder.PRESENT_FIRST: 4
}  # fmt: skip


def _consumption_order(bucket: Bucket) -> tuple[int, int, int, bool, int, int, str]:
    """As the Function draws."""
    pending = bucket.state is BalanceState.PENDING
    rank = {Role.ADDON: 2 if pending else 1, Role.POOL: 3, Role.BASE: 4}[bucket.role]
    never = bucket.expires_ms == 0
    end = -bucket.expires_ms if bucket.rest is RollOverOrder.NEWEST_FIRST else bucket.expires_ms
    return (rank, bucket.priority, _PLACE_OF_REST[bucket.rest], never, end, bucket.activated_ms, bucket.id)


def _of_bucket(owner: Owner, bucket: Bucket, now_ms: int, pool_id: str) -> Balance:
    source = bucket.assignment_id or bucket.pooled_plan_id
    return Balance(
        id=balance_id(owner.id, bucket.id),
        endpoint_id=owner.endpoint_id,
        account_id=owner.account_id,
        pool_id=pool_id,
        assignment_id=bucket.assignment_id,
        benefit_id=bucket.benefit_id,
        unit=bucket.unit,
        currency=owner.currencies.get(source, "") if bucket.unit is Unit.MONEY else "",
        remaining=bucket.remaining,
        reserved=bucket.reserved,
        granted=bucket.granted,
        state=bucket.state_at(now_ms),
        priority=0 if bucket.pooled_plan_id else bucket.priority,
        activated_ms=0 if bucket.state is BalanceState.PENDING else bucket.activated_ms,
        expires_ms=bucket.expires_ms,
        credit_used=0,
        credit_limit=0,
        occurrence=bucket.occurrence,
        plan_id=bucket.pooled_plan_id,
    )


def _of_money(owner: Owner, holder: Holder) -> Balance:
    return Balance(
        id=balance_id(owner.id, ""),
        endpoint_id=owner.endpoint_id,
        account_id=owner.account_id,
        pool_id="",
        assignment_id="",
        benefit_id="",
        unit=Unit.MONEY,
        currency=owner.currency,
        remaining=holder.money,
        reserved=holder.money_reserved,
        granted=0,
        state=BalanceState.ACTIVE if holder.money else BalanceState.DEPLETED,
        priority=0,
        activated_ms=0,
        expires_ms=0,
        credit_used=holder.credit_used,
        credit_limit=holder.credit_limit,
    )


def _nothing(name: str) -> Holder:
    """A holder that nothing was ever given: a configuration without content leaves none."""
    return Holder(name, 0, (), 0, 0, 0, 0, NO_LIMIT, "")


def _require_taken(status: Status, request_id: str) -> None:
    """Raise what stands against a top-up."""
    if status == Status.REUSED:
        raise reused(request_id)
    if status == Status.FAILED:
        raise FailedPreconditionError("BALANCE_OVERFLOW", "A balance holds at most 2^53 - 1 micros.")


def reused(request_id: str) -> AlreadyExistsError:
    """The error for a request id that stands for something else."""
    return AlreadyExistsError(
        "REQUEST_ID_REUSED", f"The request id {request_id!r} was used for something else. Take a new one."
    )
