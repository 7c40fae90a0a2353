"""Makes payments: asks the provider, credits what is confirmed, and begins the payments of auto-refill rules.

Several processes may do it at once. Whoever moves a payment or a rule names the version that it was decided on, and
before somebody asks a provider he claims the payment; so one of them does each thing. The provider is asked with the
payment's id as key, what is credited and taken bears it as request id: a crash between any two steps repeats the
step, and a repeat changes nothing. Where a step is refused, what it is about may be gone since it was done: only the
books can tell, and they are asked.
"""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from services.common.clock import Clock
from services.common.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    MeterlineError,
    NotFoundError,
    not_found,
)
from services.common.identity import AccountKind, Principal, Role, path_text
from services.common.ids import new_id
from services.common.money import Money
from services.rating.domain.balances import balance_id
from services.rating.domain.happenings import Happening
from services.rating.domain.payments import (
    NOT_AT_PROVIDER,
    Confirmed,
    Declined,
    Outcome,
    Payment,
    PaymentMethod,
    PaymentState,
    UnknownOutcomeError,
    answered,
    claimed,
    credited,
    due_now,
    may_ask_again,
    redirected,
    unanswered,
    uncredited,
)
from services.rating.domain.refills import (
    RefillState,
    Rule,
    Source,
    begun,
    declined,
    is_due,
    refilled,
    state_of,
    stopped,
)
from services.rating.ports import PaymentProvider
from services.rating.usecases.balances import REFILL, TOP_UP, Balance, Balances, Owner, gift_digest, require_currency
from services.rating.usecases.corrections import Corrected, Corrections, correction_digest
from services.rating.usecases.refills import Refills
from services.rating.usecases.wallets import WalletStore, new_payment

LOOK_SECONDS = 0.5
LOOK_PART = 9
"""Looking at a great many rules takes a tenth of the time at most: that many times as long as a look, nobody looks."""
LOOK_SECONDS_MAX = 20.0
"""But no longer than this: a look is slow, too, while a store is away, and payments wait for the next one."""
POLL_SECONDS = 0.05
AT_ONCE = 20
"""Payments and rules that one process works on at a time."""
RULES_A_PAGE = 500
ASK_SECONDS = 40.0
"""How long a provider may take: less than a claim lasts."""
SETTLE_SECONDS = 10.0
PAYER = Principal("payments", "", AccountKind.OPERATOR, (), Role.ADMIN, service="rating")
"""Who credits payments. Never changes: the ids of credits are made of it."""
LOW, CHARGED, FAILED = "wallet.low", "wallet.charged", "wallet.failed"
OWNER_NOT_FOUND = "OWNER_NOT_FOUND"
WITHDRAWN = "WITHDRAWN"
"""Decline code of a payment from a wallet that was refused before, if why was not put down."""
OF_BALANCE = frozenset({"BALANCE_NOT_FOUND", "NOT_REFILLABLE", "CURRENCY_MISMATCH"})
"""Why a rule stops, besides that its owner is not there."""

log = structlog.get_logger(part="payments")


@dataclass(slots=True)
class Cashier:
    """Makes payments and begins refills.

    Attributes:
        store: methods, rules and payments.
        provider: collects money.
        balances: credits it, and tells what is left.
        refills: adds what it buys to a bundle.
        corrections: takes money from an enterprise's wallet.
        clock: tells the time.
        working: payments that somebody waits for, or waited for.
    """

    store: WalletStore
    provider: PaymentProvider
    balances: Balances
    refills: Refills
    corrections: Corrections
    clock: Clock
    working: set["asyncio.Task[None]"] = field(default_factory=set)

    async def run(self) -> None:
        """Look after payments and rules until cancelled. A provider that is slow with one payment holds up no other."""
        at_work: dict[str, asyncio.Task[None]] = {}
        clock = asyncio.get_running_loop().time
        async with asyncio.TaskGroup() as group:
            while True:
                began = clock()
                await _all([self._begin_refills()])
                await _all([self._take_up(group, at_work)])
                await asyncio.sleep(min(max(LOOK_SECONDS, LOOK_PART * (clock() - began)), LOOK_SECONDS_MAX))

    async def look(self) -> None:
        """Do what is due now, to its end."""
        await self._begin_refills()
        payments = await self.store.due_payments(self.clock.now_ms(), AT_ONCE)
        await _all(self.advance(payment) for payment in payments)

    async def _take_up(self, group: asyncio.TaskGroup, at_work: dict[str, "asyncio.Task[None]"]) -> None:
        for name in [name for name, task in at_work.items() if task.done()]:
            del at_work[name]
        if free := AT_ONCE - len(at_work):
            for payment in await self.store.due_payments(self.clock.now_ms(), free):
                if payment.id not in at_work:
                    at_work[payment.id] = group.create_task(self._work_on(payment))

    async def _work_on(self, payment: Payment) -> None:
        await _all([self.advance(payment)])

    async def settle(self, payment_id: str) -> Payment:
        """Move a payment on now; return it when it is settled or stands still, at the latest after ten seconds.

        What takes longer goes on in the background.
        """
        clock = asyncio.get_running_loop().time
        end = clock() + SETTLE_SECONDS
        work = asyncio.create_task(self.advance(await self._get(payment_id)))
        self.working.add(work)
        work.add_done_callback(self.working.discard)
        while True:
            await asyncio.wait([work], timeout=end - clock())
            payment = await self._get(payment_id)
            if not payment.next_ms or payment.detail or clock() >= end:
                return payment
            await asyncio.sleep(POLL_SECONDS)  # another process has it in hand

    async def _get(self, payment_id: str) -> Payment:
        payment = await self.store.get(Payment, payment_id)
        if payment is None:
            raise NotFoundError("PAYMENT_NOT_FOUND", f"There is no payment {payment_id!r}.")
        return payment

    async def hasten(self, payment: Payment) -> None:
        """Make an open payment due now, whatever was found out before; not while somebody is at it."""
        if payment.next_ms > self.clock.now_ms() and payment.detail:
            async with self.store.transaction() as connection:
                await self.store.change(due_now(payment, self.clock.now_ms()), connection)

    # --- one payment ---------------------------------------------------------------------------------------------

    async def advance(self, payment: Payment) -> None:
        """Take a due payment as far as it goes now."""
        now_ms = self.clock.now_ms()
        if not payment.next_ms or payment.next_ms > now_ms:
            return
        mine = claimed(payment, now_ms)
        if not await self._moved(mine):
            return  # somebody else has it
        if mine.state is not PaymentState.CONFIRMED:
            mine = await self._ask(mine)
        if mine.state is PaymentState.CONFIRMED:
            await self._credit(mine)

    async def _ask(self, payment: Payment) -> Payment:
        try:
            outcome = await self._outcome(payment)
        except UnknownOutcomeError as unknown:
            return await self._settled(unanswered(payment, str(unknown), self.clock.now_ms()))
        except MeterlineError as error:
            return await self._settled(unanswered(payment, error.message, self.clock.now_ms()))
        return await self._settled(answered(payment, outcome, self.clock.now_ms()))

    async def _outcome(self, payment: Payment) -> Outcome:
        amount = Money(payment.currency, payment.amount_micros)
        if not payment.method_id:
            return await self._from_wallet(payment, amount)
        method = await self.store.get(PaymentMethod, payment.method_id)
        if method is None:
            raise UnknownOutcomeError("its payment method is gone")
        if method.provider != self.provider.name:
            raise UnknownOutcomeError(f"its payment method is kept by {method.provider}, which is not set up")
        if may_ask_again(payment, self.clock.now_ms()):
            try:
                async with asyncio.timeout(ASK_SECONDS):
                    return await self.provider.charge(payment.id, method, amount)
            except TimeoutError as error:
                raise UnknownOutcomeError(f"no answer in {ASK_SECONDS:.0f} s") from error
            except InvalidArgumentError as error:
                return Declined(error.reason[:64])
        return await self.provider.find(payment.id, method, amount) or Declined(NOT_AT_PROVIDER)

    async def _from_wallet(self, payment: Payment, amount: Money) -> Outcome:
        """Take money of the enterprise's wallet, all at once: it goes to the endpoint, or is the price of a refill."""
        take, scope, prefix = self._take, "adjust", "adj"
        if payment.is_transfer:
            take, scope, prefix = self._transfer, "transfer", "trf"
        try:
            taken = await take(payment, amount)
        except (FailedPreconditionError, NotFoundError, AlreadyExistsError) as error:
            withdrawn_before = isinstance(error, AlreadyExistsError)
            if await self._withdrawn(payment, scope):
                return Declined(WITHDRAWN if withdrawn_before else error.reason[:64])
            return Confirmed(payment.id)
        return Confirmed(taken.id(prefix))

    async def _withdrawn(self, payment: Payment, scope: str) -> bool:
        """See to it that a refused payment takes nothing of the wallet later; false if it has taken it."""
        try:
            wallet = await self.balances.owner(PAYER, "", payment.account_id)
        except NotFoundError:
            return not await self.balances.happened(correction_digest(PAYER, scope, payment.id))
        reason = f"auto-refill {payment.rule_id} was refused"
        return await self.corrections.withdraw(PAYER, scope, wallet, payment.id, reason)

    async def _transfer(self, payment: Payment, amount: Money) -> Corrected:
        giver, taker = ("", payment.account_id), (payment.endpoint_id, "")
        return await self.corrections.transfer(
            PAYER, giver, taker, amount, reason=f"auto-refill {payment.rule_id}", request_id=payment.id
        )

    async def _take(self, payment: Payment, amount: Money) -> Corrected:
        require_currency(await self.balances.owner(PAYER, "", payment.account_id), amount)
        return await self.corrections.adjust(
            PAYER,
            balance_id(payment.account_id, ""),
            -amount.micros,
            credit_used=False,
            reason=f"price of auto-refill {payment.rule_id} of {payment.balance_id}",
            request_id=payment.id,
        )

    async def _credit(self, payment: Payment) -> None:
        """Add what was paid for, or the money to the account's wallet where that is not possible any more."""
        try:
            if not payment.is_transfer and not await self._added(payment):
                payment = redirected(payment, self.clock.now_ms())
                if not await self._moved(payment):  # put down first: it must never go to both
                    return  # another process has it in hand
                await self._add_money(payment)
        except MeterlineError as error:
            await self._settled(uncredited(payment, error.message, self.clock.now_ms()))
            return
        await self._settled(credited(payment, self.clock.now_ms()))

    async def _added(self, payment: Payment) -> bool:
        """Whether what was paid for is there; not if its balance is gone, or cannot take it any more."""
        is_refill = payment.refill_quantity > 0
        try:
            await (self._add_volume if is_refill else self._add_money)(payment)
        except (FailedPreconditionError, NotFoundError):
            kind, owner_id = REFILL if is_refill else TOP_UP, payment.endpoint_id or payment.account_id
            if await self.balances.happened(gift_digest(PAYER, kind, owner_id, payment.id)):
                return True
            if payment.endpoint_id or is_refill:
                return False
            raise
        return True

    async def _add_volume(self, payment: Payment) -> None:
        terms = (payment.refill_quantity, payment.refill_validity_ms, payment.refill_maximum)
        await self.refills.refill(PAYER, payment.balance_id, *terms, payment.id)

    async def _add_money(self, payment: Payment) -> None:
        of_account = "" if payment.endpoint_id else payment.account_id
        amount = Money(payment.currency, payment.amount_micros)
        await self.balances.top_up(PAYER, payment.endpoint_id, of_account, amount, payment.id)

    async def _moved(self, payment: Payment) -> bool:
        async with self.store.transaction() as connection:
            return await self.store.change(payment, connection)

    async def _settled(self, payment: Payment) -> Payment:
        """Put a payment's new state down, with what it makes of its rule and what people hear of it."""
        async with self.store.transaction() as connection:
            if not await self.store.change(payment, connection):
                return replace(payment, next_ms=0, state=PaymentState.UNKNOWN)  # another process had it meanwhile
            if payment.state in {PaymentState.CREDITED, PaymentState.DECLINED}:
                await self._tell_rule(payment, connection)
                kind = CHARGED if payment.state is PaymentState.CREDITED else FAILED
                await self.store.tell(_happening(kind, payment, self.clock.now_ms(), payment.decline_code), connection)
        return payment

    async def _tell_rule(self, payment: Payment, connection: Any) -> None:
        rule = await self.store.get(Rule, payment.rule_id, connection) if payment.rule_id else None
        if rule is None:
            return
        now_ms = self.clock.now_ms()
        if payment.state is PaymentState.CREDITED:
            changed = refilled(rule, now_ms)
        else:
            changed = declined(rule, payment.amount_micros, now_ms)
        if not await self.store.change(changed, connection):
            raise FailedPreconditionError("CONCURRENT_CHANGE", "The rule was changed meanwhile; it is tried again.")

    # --- rules ---------------------------------------------------------------------------------------------------

    async def _begin_refills(self) -> None:
        """Begin what is due of all rules: those that may not act now hold up no others."""
        after = ""
        while True:
            now_ms = self.clock.now_ms()
            page = await self.store.low_rules(now_ms, after, RULES_A_PAGE)
            ready = [rule for rule in page if state_of(rule, now_ms) is RefillState.WATCHING]
            for first in range(0, len(ready), AT_ONCE):
                await _all(self._refill(rule) for rule in ready[first : first + AT_ONCE])
            if len(page) < RULES_A_PAGE:
                return
            after = page[-1].id

    async def _refill(self, rule: Rule) -> None:
        """Begin the payment of a rule whose balance is low indeed: the books lag behind."""
        now_ms = self.clock.now_ms()
        try:
            owner, balance = await self._watched(rule)
        except (NotFoundError, FailedPreconditionError) as error:
            await self._stop(rule, error.reason if error.reason in OF_BALANCE else OWNER_NOT_FOUND)
            return
        if not owner.is_active:
            return  # nothing is paid for while the account is suspended
        if not is_due(rule, balance.remaining, now_ms):
            return
        method_id = rule.method_id if rule.source is Source.PAYMENT_METHOD else ""
        payment = replace(
            new_payment(owner, method_id, rule.amount, now_ms),
            rule_id=rule.id,
            open_rule_id=rule.id,
            balance_id=rule.balance_id if rule.refill_quantity else "",
            refill_quantity=rule.refill_quantity,
            refill_validity_ms=rule.refill_validity_ms,
            refill_maximum=rule.refill_maximum,
        )
        async with self.store.transaction() as connection:
            if not await self.store.change(begun(rule, payment.id, now_ms), connection):
                return  # another process was first
            if not await self.store.add(payment, connection):
                raise FailedPreconditionError("CONCURRENT_CHANGE", "A payment of the rule is open already.")
            await self.store.tell(_happening(LOW, payment, now_ms), connection)

    async def _watched(self, rule: Rule) -> tuple[Owner, Balance]:
        """Who holds the balance of a rule, and what is there now; raises what `_refill` stops a rule for."""
        owner = await self.balances.owner(PAYER, rule.endpoint_id, "" if rule.endpoint_id else rule.account_id)
        if owner.is_gone or owner.account_id != rule.account_id:  # nobody pays for what is gone, or another's by now
            raise not_found("owner", owner.id)
        if rule.refill_quantity:
            return owner, await self.refills.bundle(owner, rule.balance_id)
        require_currency(owner, rule.amount)
        return owner, (await self.balances.of(owner))[-1]

    async def _stop(self, rule: Rule, reason: str) -> None:
        now_ms = self.clock.now_ms()
        async with self.store.transaction() as connection:
            if await self.store.change(stopped(rule, reason, now_ms), connection):
                await self.store.tell(_happening(FAILED, rule, now_ms, reason), connection)


def _happening(kind: str, about: Payment | Rule, now_ms: int, reason: str = "") -> Happening:
    resource_type, rule_id = (
        ("payment", about.rule_id) if isinstance(about, Payment) else ("auto_refill_rule", about.id)
    )
    return Happening(
        id=new_id("evt"),
        created_ms=now_ms,
        type=kind,
        account_id=about.account_id,
        owner_path=path_text(about.owner_path),
        resource_type=resource_type,
        resource_id=about.id,
        payload={
            "holder_id": about.endpoint_id or about.account_id,
            "auto_refill_rule_id": rule_id,
            "amount_micros": about.amount_micros,
            "currency": about.currency,
            **({"endpoint_id": about.endpoint_id} if about.endpoint_id else {}),
            **({"balance_id": about.balance_id, "quantity": about.refill_quantity} if about.refill_quantity else {}),
            **({"reason": reason} if reason else {}),
        },
    )


async def _all(works: Any) -> None:
    """Do several things at once; one that fails holds up no other."""
    for failure in await asyncio.gather(*works, return_exceptions=True):
        if isinstance(failure, MeterlineError):
            log.info("not done now", reason=failure.reason)
        elif isinstance(failure, BaseException):
            log.error("payment failed", exc_info=failure)
