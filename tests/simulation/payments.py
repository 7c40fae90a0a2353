"""Payments in the simulation: the tables of wallets, a provider that collects money, rules, and what must hold of them."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from services.common.clock import HOUR_MS, SECOND_MS
from services.common.errors import UnavailableError
from services.common.money import Money
from services.common.pages import PageRequest
from services.rating.domain.balances import balance_id, bucket_id
from services.rating.domain.decisions import SegmentContent
from services.rating.domain.happenings import Happening
from services.rating.domain.operations import AdjustOp
from services.rating.domain.payments import (
    Confirmed,
    Declined,
    Outcome,
    Payment,
    PaymentMethod,
    PaymentState,
    UnknownOutcomeError,
)
from services.rating.domain.refills import Rule, Source, month_of
from services.rating.usecases.paying import CHARGED, FAILED, LOW
from tests.simulation.loop import ACTOR, Actor
from tests.simulation.market import BUNDLE, ENDPOINTS, PREPAID, Market
from tests.simulation.network import LostError, Network, RefusedError, Server
from tests.simulation.stores import LedgerStore, SimulatedStore
from tests.unit.rating.terms import ENTERPRISE, MB, OPERATOR, RESELLER

PATH = (OPERATOR, RESELLER, ENTERPRISE)
LOCK_SECONDS = 0.05
PROVIDER_TIMEOUT_S = 2.0
Thing = PaymentMethod | Rule | Payment
Key = tuple[type, str]


# --- tables ----------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Transaction:
    """A transaction of a process: its changes, seen by nobody until it is committed."""

    actor: Actor | None
    ended: bool = False
    changed: dict[Key, Thing] = field(default_factory=dict)
    told: list[Happening] = field(default_factory=list)
    answers: dict[int, Any] = field(default_factory=dict)
    """What each of its statements was answered: one that arrives twice happens once."""
    statements: int = 0

    @property
    def is_over(self) -> bool:
        """Whether nobody will end it any more, or it has ended."""
        return self.ended or (self.actor is not None and self.actor.dead)


class WalletTables:
    """Methods, rules and payments. One transaction writes at a time, as in SQLite."""

    def __init__(self, ledger: LedgerStore) -> None:
        self.ledger = ledger
        self.rows: dict[Key, Thing] = {}
        self.told: list[Happening] = []
        self._writer: Transaction | None = None

    def begin(self, transaction: Transaction) -> bool:
        """Whether it is the one that writes."""
        if not self.is_written:
            self._writer = transaction
        return self._writer is transaction

    @property
    def is_written(self) -> bool:
        """Whether a transaction is under way."""
        return self._writer is not None and not self._writer.is_over

    def state(self, transaction: Transaction, number: int, statement: Any) -> Any:
        """Do a statement of a transaction, once."""
        if self._writer is not transaction:
            raise UnavailableError("DATABASE_UNAVAILABLE", "The transaction is gone; try again.")
        if number not in transaction.answers:
            transaction.answers[number] = statement()
        return transaction.answers[number]

    def commit(self, transaction: Transaction) -> None:
        """Let everybody see what a transaction changed."""
        self.rows.update(transaction.changed)
        self.told += transaction.told
        transaction.ended = True

    def one(self, kind: type, name: str, transaction: Transaction | None) -> Any:
        """A row, as a transaction sees it."""
        changed = transaction.changed if transaction is not None else {}
        return changed.get((kind, name)) or self.rows.get((kind, name))

    def all(self, kind: type) -> list[Any]:
        """The rows of a table in the order of their ids."""
        return [self.rows[key] for key in sorted(self.rows, key=str) if key[0] is kind]

    def add(self, thing: Thing, transaction: Transaction) -> bool:
        """Add a row, unless what must be unique is there."""
        there = {**self.rows, **transaction.changed}
        if (type(thing), thing.id) in there:
            return False
        rule = thing.open_rule_id if isinstance(thing, Payment) else None
        if rule and any(isinstance(other, Payment) and other.open_rule_id == rule for other in there.values()):
            return False
        transaction.changed[type(thing), thing.id] = thing
        return True

    def change(self, thing: Thing, transaction: Transaction) -> bool:
        """Put the next version of a row in its place, unless it has changed meanwhile."""
        there = self.one(type(thing), thing.id, transaction)
        if there is None or there.version != thing.version - 1:
            return False
        transaction.changed[type(thing), thing.id] = thing
        return True

    def due(self, now_ms: int, count: int) -> list[Payment]:
        """Open payments that are to be looked after."""
        due: list[Payment] = [each for each in self.all(Payment) if 0 < each.next_ms <= now_ms]
        return sorted(due, key=lambda each: each.next_ms)[:count]

    def low(self, now_ms: int, after: str, count: int) -> list[Rule]:
        """Rules of balances that are low in the books."""
        books = self.ledger.sheet.balances
        return [
            rule
            for rule in self.all(Rule)
            if rule.id > after
            and rule.enabled
            and not rule.in_flight
            and not rule.stop_reason
            and rule.not_before_ms <= now_ms
            and books.get(rule.balance_id, ("", 0))[1] < rule.threshold
        ][:count]


class SimulatedWallets(SimulatedStore):
    """The tables as a process has them: the port `WalletStore`."""

    def __init__(self, network: Network, tables: WalletTables) -> None:
        super().__init__(network, tables.ledger)
        self._tables = tables

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        opened = Transaction(ACTOR.get(None))
        try:
            while not await self._ask("begin", lambda: self._tables.begin(opened)):
                await asyncio.sleep(LOCK_SECONDS)
            yield opened
            await self._do(opened, "commit", lambda: self._tables.commit(opened))
        finally:
            opened.ended = True  # the connection closes; what is not committed by then is not

    async def _do(self, transaction: Transaction, name: str, statement: Any) -> Any:
        transaction.statements += 1
        number = transaction.statements
        return await self._ask(name, lambda: self._tables.state(transaction, number, statement))

    async def get(self, kind: type, name: str, connection: Any = None) -> Any:
        if connection is None:
            return await self._ask(f"get {name}", lambda: self._tables.one(kind, name, None))
        return await self._do(connection, f"get {name}", lambda: self._tables.one(kind, name, connection))

    async def list(self, kind: type, under: str, equal: Mapping[str, Any], page: PageRequest) -> Sequence[Any]:
        raise NotImplementedError  # nobody lists here

    async def add(self, thing: Thing, connection: Any) -> bool:
        added: bool = await self._do(connection, f"add {thing.id}", lambda: self._tables.add(thing, connection))
        return added

    async def change(self, thing: Thing, connection: Any) -> bool:
        name = f"change {thing.id} to version {thing.version}"
        changed: bool = await self._do(connection, name, lambda: self._tables.change(thing, connection))
        return changed

    async def remove(self, thing: PaymentMethod | Rule, connection: Any) -> None:
        raise NotImplementedError  # nobody removes here

    async def method_is_used(self, name: str, connection: Any) -> bool:
        raise NotImplementedError  # nobody removes here

    async def due_payments(self, now_ms: int, count: int) -> Sequence[Payment]:
        return await self._ask("due payments", lambda: self._tables.due(now_ms, count))

    async def low_rules(self, now_ms: int, after: str, count: int) -> Sequence[Rule]:
        return await self._ask("low rules", lambda: self._tables.low(now_ms, after, count))

    async def tell(self, happening: Happening, connection: Any) -> None:
        await self._do(connection, f"tell {happening.type}", lambda: connection.told.append(happening))


# --- the provider ----------------------------------------------------------------------------------------------------


class Provider(Server):
    """A company that collects money: once for a key."""

    def __init__(self, random: Random) -> None:
        super().__init__("provider")
        self._random = random
        self.charges: dict[str, tuple[int, Outcome]] = {}

    def charge(self, key: str, micros: int) -> Outcome:
        """Collect money, or decline; the same for a key each time."""
        if key not in self.charges:
            declines = self._random.random() < 0.3
            self.charges[key] = (micros, Declined("card_declined") if declines else Confirmed(f"ref_{key}"))
        return self.charges[key][1]

    def find(self, key: str) -> Outcome | None:
        """What became of a charge."""
        return self.charges[key][1] if key in self.charges else None


class SimulatedProvider:
    """The provider as a process has it: the port `PaymentProvider`."""

    name = "simulated"

    def __init__(self, network: Network, provider: Provider) -> None:
        self._network = network
        self._provider = provider

    async def _ask(self, name: str, happen: Any) -> Any:
        try:
            return await self._network.call(self._provider, name, happen, PROVIDER_TIMEOUT_S)
        except (LostError, RefusedError) as error:
            raise UnknownOutcomeError(f"no answer: {error!r}") from error

    async def charge(self, key: str, method: PaymentMethod, amount: Money) -> Outcome:  # noqa: ARG002
        outcome: Outcome = await self._ask(f"charge {key}", lambda: self._provider.charge(key, amount.micros))
        return outcome

    async def find(self, key: str, method: PaymentMethod, amount: Money) -> Outcome | None:  # noqa: ARG002
        outcome: Outcome | None = await self._ask(f"find {key}", lambda: self._provider.find(key))
        return outcome

    def check(self, method: PaymentMethod) -> None: ...

    def require_payable(self, amount: Money) -> None: ...

    async def aclose(self) -> None: ...


# --- rules -----------------------------------------------------------------------------------------------------------


def put_rules(tables: WalletTables, market: Market, random: Random) -> None:
    """Rules of the enterprise's wallet, and of what its endpoints have at the beginning."""
    method = PaymentMethod(id="pym_1", account_id=ENTERPRISE, owner_path=PATH, provider="simulated", token="tok")
    tables.rows[PaymentMethod, method.id] = method
    rules = [_rule("rul_0", balance_id(ENTERPRISE, ""), Source.PAYMENT_METHOD, random)]
    for name in ENDPOINTS:
        base = market.endpoints[name].base
        source = random.choice([Source.WALLET, Source.PAYMENT_METHOD])
        if base is not None and base.plan == PREPAID.key:
            rules.append(_rule(f"rul_{name}", balance_id(name, ""), source, random, endpoint_id=name))
        elif base is not None and base.plan == BUNDLE.key:
            bundle = balance_id(name, bucket_id(base.id, BUNDLE.benefits[0].id))
            volume = {"threshold_micros": 0, "threshold_quantity": 60 * MB, "refill_quantity": 100 * MB}
            bounds = {"refill_validity_ms": HOUR_MS, "refill_maximum": random.choice([0, 130 * MB])}
            rules.append(_rule(f"rul_{name}", bundle, source, random, endpoint_id=name, **volume, **bounds))
    for rule in rules:
        tables.rows[Rule, rule.id] = rule


def _rule(name: str, balance: str, source: Source, random: Random, **fields: Any) -> Rule:
    values: dict[str, Any] = {
        "threshold_micros": random.choice([20_000, 100_000]),
        "amount_micros": random.randrange(1, 15) * 10_000,
        "cool_off_ms": random.choice([1, 5]) * SECOND_MS,
        "monthly_count_max": random.choice([0, 0, 2]),
        "method_id": "pym_1" if source is Source.PAYMENT_METHOD else "",
    }
    about = {"id": name, "account_id": ENTERPRISE, "owner_path": PATH, "balance_id": balance, "currency": "EUR"}
    return Rule(**{**about, **values, **fields}, source=source, version=1)


def disable_rules(tables: WalletTables) -> None:
    """Let no rule begin anything any more."""
    for rule in tables.all(Rule):
        tables.rows[Rule, rule.id] = replace(rule, enabled=False, version=rule.version + 1)


# --- what must hold --------------------------------------------------------------------------------------------------


def check_payments(tables: WalletTables, provider: Provider, contents: Sequence[SegmentContent]) -> Iterator[str]:
    """What is wrong with the payments of a run when all of them are settled."""
    gifts = Counter((each.request_id, each.holder_id) for content in contents for each in content.requests)
    done = (each.op for content in contents for each in content.operations)
    taken = Counter(op.request.request_id for op in done if not (isinstance(op, AdjustOp) and op.change == 0))
    payments: list[Payment] = tables.all(Payment)
    for payment in payments:
        yield from _payment(payment, provider, gifts, taken)
    known = {payment.id for payment in payments}
    if lost := provider.charges.keys() - known:
        yield f"the provider charged {sorted(lost)}, which are no payments"
    told = Counter((each.type, each.resource_id) for each in tables.told)
    for payment in payments:
        end = CHARGED if payment.state is PaymentState.CREDITED else FAILED
        if told[end, payment.id] != 1 or told[LOW, payment.id] != 1:
            yield f"of {payment} people heard {[key for key in told.elements() if key[1] == payment.id]}"
    for rule in tables.all(Rule):
        made = [each for each in payments if each.rule_id == rule.id]
        refills = sum(each.state is PaymentState.CREDITED for each in made)
        if rule.in_flight:
            yield f"{rule} is in flight, though all is settled"
        if len({month_of(each.created_ms) for each in made}) == 1 and rule.month_count != refills:
            yield f"{rule} refilled {refills} times"
        if rule.monthly_count_max and rule.month_count > rule.monthly_count_max:
            yield f"{rule} refilled too often"


def _payment(
    payment: Payment, provider: Provider, gifts: Counter[tuple[str, str]], taken: Counter[str]
) -> Iterator[str]:
    is_paid = payment.state is PaymentState.CREDITED
    if payment.state not in {PaymentState.CREDITED, PaymentState.DECLINED} or payment.open_rule_id:
        yield f"{payment} is not settled"
        return
    if payment.method_id:
        micros, outcome = provider.charges.get(payment.id, (payment.amount_micros, None))
        if isinstance(outcome, Confirmed) != is_paid or micros != payment.amount_micros:
            yield f"{payment}: the provider says {outcome} of {micros}"
    elif taken[payment.id] != is_paid:
        yield f"{payment} was taken from the wallet {taken[payment.id]} times"
    owner = payment.endpoint_id or payment.account_id
    expected = {(payment.id, owner): 1} if is_paid and not payment.is_transfer else {}
    found = {key: count for key, count in gifts.items() if key[0] == payment.id}
    if found != expected:
        yield f"{payment} was credited {found}"
