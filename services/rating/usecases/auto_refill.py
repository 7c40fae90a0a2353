"""Auto-refill rules: what a caller may make of them."""

from collections.abc import Collection
from dataclasses import dataclass, replace

from services.common.errors import AbortedError, AlreadyExistsError, invalid
from services.common.etags import require_etag
from services.common.identity import WRITERS, Principal
from services.common.ids import new_id
from services.common.money import Money
from services.rating.domain.balances import balance_id
from services.rating.domain.refills import COOL_OFF_MAX_MS, COOL_OFF_MIN_MS, Rule, Source, reset
from services.rating.usecases.balances import Owner, require_currency, require_seller
from services.rating.usecases.refills import Refills
from services.rating.usecases.wallets import RULE, Wallets, Write


@dataclass(frozen=True, slots=True)
class Changes:
    """New values of a rule, and which of its fields they are for."""

    rule: Rule
    fields: Collection[str]
    etag: str = ""


class AutoRefill:
    """Keeps auto-refill rules."""

    def __init__(self, wallets: Wallets, refills: Refills) -> None:
        self._wallets = wallets
        self._refills = refills

    async def add(self, write: Write, wanted: Rule, owner: Owner) -> Rule:
        """Make a rule.

        Raises:
            AlreadyExistsError: OWNER_HAS_RULE.
            FailedPreconditionError: CURRENCY_MISMATCH, METHOD_OF_ANOTHER_ACCOUNT, PROVIDER_CHANGED.
        """
        made = replace(
            wanted,
            id=new_id("arr"),
            account_id=owner.account_id,
            owner_path=owner.path,
            balance_id=wanted.balance_id or balance_id(owner.id, ""),
            created_ms=write.now_ms,
            updated_ms=write.now_ms,
            version=1,
        )
        await self._check(write, made, owner)
        if not await self._wallets.store.add(made, write.connection):
            raise AlreadyExistsError(
                "OWNER_HAS_RULE", f"{made.balance_id} has an auto-refill rule already; change that one."
            )
        write.record(RULE, made.id, made.owner_path, None, made)
        return made

    async def change(self, write: Write, changes: Changes, owner: Owner) -> Rule:
        """Change a rule; what stopped it may be mended, so it tries again.

        Raises:
            AbortedError: ETAG_MISMATCH, CONCURRENT_CHANGE.
        """
        store = self._wallets.store
        before = await self._wallets.get(write.caller, Rule, RULE, changes.rule.id, write.connection)
        require_etag(before.version, changes.etag)
        new = {name: getattr(changes.rule, name) for name in changes.fields}
        after = reset(replace(before, **new), write.now_ms)
        await self._check(write, after, owner)
        if not await store.change(after, write.connection):
            raise AbortedError("CONCURRENT_CHANGE", "It is being changed at the moment; try again.")
        write.record(RULE, after.id, after.owner_path, before, after)
        return after

    async def remove(self, write: Write, name: str) -> None:
        """Delete a rule; a payment that it began goes on."""
        write.caller.require_role(*WRITERS)
        rule = await self._wallets.get(write.caller, Rule, RULE, name, write.connection)
        await self._wallets.store.remove(rule, write.connection)
        write.record(RULE, name, rule.owner_path, rule, None)

    async def _check(self, write: Write, rule: Rule, owner: Owner) -> None:
        if rule.balance_id == balance_id(owner.id, ""):
            _check_money(rule, owner)
        else:
            await self._check_bundle(write.caller, rule, owner)
        if rule.amount_micros <= 0:
            raise invalid("auto_refill_rule.amount", "must be more than 0")
        if not COOL_OFF_MIN_MS <= rule.cool_off_ms <= COOL_OFF_MAX_MS:
            raise invalid("auto_refill_rule.cool_off", "must be 1 second to 31 days")
        if rule.monthly_amount_max_micros and rule.monthly_amount_max_micros < rule.amount_micros:
            raise invalid("auto_refill_rule.monthly_amount_max", "must be at least the amount of one refill")
        if rule.source is Source.PAYMENT_METHOD:
            if not rule.method_id:
                raise invalid("auto_refill_rule.payment_method_id", "is required for this source", "FIELD_REQUIRED")
            await self._wallets.method_for(write.caller, rule.method_id, owner, write.connection)
            self._wallets.require_collectable(rule.amount)
        elif not rule.endpoint_id and not rule.refill_quantity:
            raise invalid("auto_refill_rule.source", "of an account's wallet must be a payment method")
        elif rule.method_id:
            raise invalid("auto_refill_rule.payment_method_id", "belongs to the source PAYMENT_METHOD only")

    async def _check_bundle(self, caller: Principal, rule: Rule, owner: Owner) -> None:
        """Check what a rule says of a bundle; who sells it to its owner states what a refill is and costs."""
        require_seller(caller, owner)
        if rule.threshold_micros:
            raise invalid("auto_refill_rule.threshold", "is for money; state threshold_quantity for a bundle")
        if rule.threshold_quantity <= 0:
            raise invalid("auto_refill_rule.threshold_quantity", "must be more than 0")
        if rule.refill_quantity <= 0:
            raise invalid("auto_refill_rule.product.quantity", "must be more than 0")
        if rule.refill_maximum and rule.refill_maximum < rule.threshold_quantity:
            raise invalid("auto_refill_rule.product.maximum", "must be at least the threshold")
        await self._refills.bundle(owner, rule.balance_id)
        if rule.source is Source.WALLET:
            payer = await self._wallets.balances.owner(caller, "", owner.account_id)
            require_currency(payer, Money(rule.currency, 0))


def _check_money(rule: Rule, owner: Owner) -> None:
    """Check what a rule says of money."""
    if rule.threshold_micros <= 0:
        raise invalid("auto_refill_rule.threshold", "must be more than 0")
    if rule.threshold_quantity or rule.refill_quantity:
        raise invalid("auto_refill_rule.product", "is for a bundle: name it in balance_id")
    require_currency(owner, Money(rule.currency, 0))
