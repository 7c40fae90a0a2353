"""Makes payments: asks the provider, credits what is confirmed, and begins the payments of auto-refill rules.

Several processes may do it at once. Whoever moves a payment or a rule names the version that it was decided on, and
before somebody asks a provider he claims the payment; so one of them does each thing. The provider is asked with the
payment's id as key, the credit and the transfer bear it as request id: a crash between any two steps repeats the
step, and a repeat changes nothing.
"""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from services.common.clock import Clock
from services.common.errors import FailedPreconditionError, InvalidArgumentError, MeterlineError, NotFoundError
from services.common.identity import AccountKind, Principal, Role, path_text
from services.common.ids import new_id
from services.common.money import Money
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
from services.rating.usecases.balances import Balances
from services.rating.usecases.corrections import Corrections
from services.rating.usecases.wallets import WalletStore, new_payment

LOOK_SECONDS = 0.5
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
OWNER_NOT_FOUND, CURRENCY_MISMATCH = "OWNER_NOT_FOUND", "CURRENCY_MISMATCH"

log = structlog.get_logger(part="payments")


@dataclass(slots=True)
class Cashier:
    """Makes payments and begins refills.

    Attributes:
        store: methods, rules and payments.
        provider: collects money.
        balances: credits it, and tells what is left.
        corrections: moves money from an enterprise's wallet.
        clock: tells the time.
        working: payments that somebody waits for, or waited for.
    """

    store: WalletStore
    provider: PaymentProvider
    balances: Balances
    corrections: Corrections
    clock: Clock
    working: set["asyncio.Task[None]"] = field(default_factory=set)

    async def run(self) -> None:
        """Look after payments and rules until cancelled. A provider that is slow with one payment holds up no other."""
        at_work: dict[str, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as group:
            while True:
                await _all([self._begin_refills()])
                await _all([self._take_up(group, at_work)])
                await asyncio.sleep(LOOK_SECONDS)

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
                    at_work[payment.id] = group.create_task(_all([self.advance(payment)]))

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
            return await self._transferred(payment, amount)
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

    async def _transferred(self, payment: Payment, amount: Money) -> Outcome:
        """Money of the enterprise's wallet goes to the endpoint, all at once."""
        giver, taker = ("", payment.account_id), (payment.endpoint_id, "")
        try:
            moved = await self.corrections.transfer(
                PAYER, giver, taker, amount, reason=f"auto-refill {payment.rule_id}", request_id=payment.id
            )
        except (FailedPreconditionError, NotFoundError) as error:
            return Declined(error.reason[:64])
        return Confirmed(moved.id("trf"))

    async def _credit(self, payment: Payment) -> None:
        amount = Money(payment.currency, payment.amount_micros)
        if payment.method_id:
            owner = (payment.endpoint_id, "" if payment.endpoint_id else payment.account_id)
            try:
                await self.balances.top_up(PAYER, *owner, amount, payment.id)
            except MeterlineError as error:
                await self._settled(uncredited(payment, error.message, self.clock.now_ms()))
                return
        await self._settled(credited(payment, self.clock.now_ms()))

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
                await self.store.tell(_happening(kind, payment, self.clock.now_ms()), connection)
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
            owner = await self.balances.owner(PAYER, rule.endpoint_id, "" if rule.endpoint_id else rule.account_id)
        except NotFoundError:
            await self._stop(rule, OWNER_NOT_FOUND)
            return
        if owner.account_id != rule.account_id:  # an enterprise does not pay for what is another's by now
            await self._stop(rule, OWNER_NOT_FOUND)
            return
        if owner.currency != rule.currency:
            await self._stop(rule, CURRENCY_MISMATCH)
            return
        if not is_due(rule, (await self.balances.of(owner))[-1].remaining, now_ms):
            return
        method_id = rule.method_id if rule.source is Source.PAYMENT_METHOD else ""
        first = new_payment(owner, method_id, Money(rule.currency, rule.amount_micros), now_ms)
        payment = replace(first, rule_id=rule.id, open_rule_id=rule.id)
        async with self.store.transaction() as connection:
            if not await self.store.change(begun(rule, payment.id, now_ms), connection):
                return  # another process was first
            if not await self.store.add(payment, connection):
                raise FailedPreconditionError("CONCURRENT_CHANGE", "A payment of the rule is open already.")
            await self.store.tell(_happening(LOW, payment, now_ms), connection)

    async def _stop(self, rule: Rule, reason: str) -> None:
        async with self.store.transaction() as connection:
            await self.store.change(stopped(rule, reason, self.clock.now_ms()), connection)


def _happening(kind: str, payment: Payment, now_ms: int) -> Happening:
    return Happening(
        id=new_id("evt"),
        created_ms=now_ms,
        type=kind,
        account_id=payment.account_id,
        owner_path=path_text(payment.owner_path),
        resource_type="payment",
        resource_id=payment.id,
        payload={
            "holder_id": payment.endpoint_id or payment.account_id,
            "auto_refill_rule_id": payment.rule_id,
            "amount_micros": payment.amount_micros,
            "currency": payment.currency,
            **({"endpoint_id": payment.endpoint_id} if payment.endpoint_id else {}),
            **({"reason": payment.decline_code} if payment.decline_code else {}),
        },
    )


async def _all(works: Any) -> None:
    """Do several things at once; one that fails holds up no other."""
    for failure in await asyncio.gather(*works, return_exceptions=True):
        if isinstance(failure, MeterlineError):
            log.info("not done now", reason=failure.reason)
        elif isinstance(failure, BaseException):
            log.error("payment failed", exc_info=failure)
