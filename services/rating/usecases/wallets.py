"""Payment methods and payments: what a caller may do with them."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeVar

from services.common.errors import FailedPreconditionError, PermissionDeniedError, invalid, not_found
from services.common.identity import READERS, WRITERS, Principal, path_text
from services.common.ids import new_id
from services.common.money import Money
from services.common.pages import Page, PageRequest, page_of
from services.rating.domain.happenings import Happening
from services.rating.domain.payments import Payment, PaymentMethod
from services.rating.domain.refills import Rule
from services.rating.ports import PaymentProvider
from services.rating.usecases.balances import Balance, Balances, Owner, require_currency

K = TypeVar("K", PaymentMethod, Rule, Payment)
METHOD, RULE, PAYMENT = "payment_method", "auto_refill_rule", "payment"


class Write(Protocol):
    """A write in progress: its transaction, who makes it and when, and what the audit trail says of it."""

    connection: Any
    caller: Principal
    now_ms: int

    def record(
        self,
        resource_type: str,
        resource_id: str,
        owner_path: tuple[str, ...],
        before: object | None,
        after: object | None,
    ) -> None:
        """Put a change of an object into the audit trail."""


class WalletStore(Protocol):
    """Where methods, rules and payments are kept. A connection is an open transaction."""

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """A transaction that writes."""
        ...

    async def get(self, kind: type[K], name: str, connection: Any = None) -> K | None:
        """One by its id. In a transaction it stays as it is until the transaction ends."""
        ...

    async def list(self, kind: type[K], under: str, equal: Mapping[str, Any], page: PageRequest) -> Sequence[K]:
        """Up to `page.size + 1` of those whose owner's path begins with `under`, oldest first."""
        ...

    async def add(self, thing: PaymentMethod | Rule | Payment, connection: Any) -> bool:
        """Add a new one; false if what must be unique is there already."""
        ...

    async def change(self, thing: PaymentMethod | Rule | Payment, connection: Any) -> bool:
        """Put the next version of one in its place; false if it has changed meanwhile."""
        ...

    async def remove(self, thing: PaymentMethod | Rule, connection: Any) -> None:
        """Remove one."""

    async def method_is_used(self, name: str, connection: Any) -> bool:
        """Whether a rule names a method, or a payment with it is open."""
        ...

    async def due_payments(self, now_ms: int, count: int) -> Sequence[Payment]:
        """Open payments that are to be looked after by now."""
        ...

    async def low_rules(self, now_ms: int, after: str, count: int) -> Sequence[Rule]:
        """Rules after an id that may begin a payment, of balances that are low in the books, in the order of ids."""
        ...

    async def tell(self, happening: Happening, connection: Any) -> None:
        """Put down an event."""


class Wallets:
    """Keeps payment methods and takes payments for callers."""

    def __init__(self, store: WalletStore, balances: Balances, provider: PaymentProvider) -> None:
        self.store = store
        self.balances = balances
        self._provider = provider

    # --- reading -------------------------------------------------------------------------------------------------

    async def wallet(self, caller: Principal, account_id: str) -> Balance:
        """The money of an account, live."""
        return (await self.balances.of_owner(caller, "", account_id))[-1]

    async def get(self, caller: Principal, kind: type[K], what: str, name: str, connection: Any = None) -> K:
        """A method, rule or payment that the caller sees."""
        caller.require_role(*READERS)
        found = await self.store.get(kind, name, connection)
        if found is None:
            raise not_found(what, name)
        caller.require_sees(found.owner_path, what, name)
        return found

    async def list(self, caller: Principal, kind: type[K], equal: Mapping[str, Any], page: PageRequest) -> Page[K]:
        """Those of the caller's account and the accounts below it, oldest first."""
        caller.require_role(*READERS)
        stated = {name: value for name, value in equal.items() if value}
        return page_of(await self.store.list(kind, path_text(caller.account_path), stated, page), page, "id")

    # --- payment methods -----------------------------------------------------------------------------------------

    async def add_method(self, write: Write, wanted: PaymentMethod, owner: Owner) -> PaymentMethod:
        """Keep a payment method of an account."""
        made = PaymentMethod(
            id=new_id("pym"),
            account_id=owner.account_id,
            owner_path=owner.path,
            provider=self._provider.name,
            token=wanted.token,
            customer=wanted.customer,
            display_name=wanted.display_name,
            created_ms=write.now_ms,
            updated_ms=write.now_ms,
            version=1,
        )
        self._provider.check(made)
        await self.store.add(made, write.connection)
        write.record(METHOD, made.id, made.owner_path, None, made)
        return made

    async def remove_method(self, write: Write, name: str) -> None:
        """Forget a payment method that nothing needs any more."""
        write.caller.require_role(*WRITERS)
        method = await self.get(write.caller, PaymentMethod, METHOD, name, write.connection)
        if await self.store.method_is_used(name, write.connection):
            raise FailedPreconditionError(
                "METHOD_IN_USE", "A rule names it, or a payment with it is open. Change or delete the rule first."
            )
        await self.store.remove(method, write.connection)
        write.record(METHOD, name, method.owner_path, method, None)

    async def method_for(self, caller: Principal, name: str, owner: Owner, connection: Any = None) -> PaymentMethod:
        """The payment method of the account that pays for an owner; in a transaction nobody forgets it meanwhile.

        Raises:
            FailedPreconditionError: METHOD_OF_ANOTHER_ACCOUNT, PROVIDER_CHANGED.
        """
        method = await self.get(caller, PaymentMethod, METHOD, name, connection)
        if method.account_id != owner.account_id:
            raise FailedPreconditionError(
                "METHOD_OF_ANOTHER_ACCOUNT", f"Name a payment method of {owner.account_id}, which pays."
            )
        if method.provider != self._provider.name:
            raise FailedPreconditionError(
                "PROVIDER_CHANGED", f"It is kept by {method.provider}; payments go through {self._provider.name} now."
            )
        return method

    # --- payments ------------------------------------------------------------------------------------------------

    async def owner(self, caller: Principal, endpoint_id: str, account_id: str) -> Owner:
        """Whose money grows, for a caller that may write, and spend what the payer has.

        Raises:
            PermissionDeniedError: NOT_THE_PAYER, for the endpoint of a sub-account: its enterprise pays.
        """
        caller.require_role(*WRITERS)
        owner = await self.balances.owner(caller, endpoint_id, account_id)
        if not caller.sees(owner.path):
            raise PermissionDeniedError(
                "NOT_THE_PAYER", "The enterprise of the endpoint pays for it: ask for this in its context."
            )
        return owner

    def require_payable(self, owner: Owner, amount: Money) -> None:
        """Refuse an amount that cannot be collected for an owner."""
        if amount.micros <= 0:
            raise invalid("amount", "must be more than 0")
        require_currency(owner, amount)
        self.require_collectable(amount)

    def require_collectable(self, amount: Money) -> None:
        """Refuse an amount that the provider cannot collect."""
        self._provider.require_payable(amount)

    async def add_payment(self, write: Write, owner: Owner, method: PaymentMethod, amount: Money) -> Payment:
        """Begin a payment; it is made once this is committed."""
        made = new_payment(owner, method.id, amount, write.now_ms)
        await self.store.add(made, write.connection)
        write.record(PAYMENT, made.id, made.owner_path, None, made)
        return made


def new_payment(owner: Owner, method_id: str, amount: Money, now_ms: int) -> Payment:
    """A payment that is to be made at once; without a method, from the wallet of the account."""
    return Payment(
        id=new_id("pay"),
        account_id=owner.account_id,
        owner_path=owner.path,
        endpoint_id=owner.endpoint_id,
        method_id=method_id,
        amount_micros=amount.micros,
        currency=amount.currency,
        next_ms=now_ms,
        created_ms=now_ms,
        updated_ms=now_ms,
    )
