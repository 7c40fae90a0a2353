"""Refills: volume added to a bundle, which extends the validity of all that is in it (model, e-13)."""

from services.common.errors import FailedPreconditionError, UnavailableError, invalid, not_found
from services.common.identity import WRITERS, Principal
from services.rating.domain.decisions import Failure, RefillOp, Status
from services.rating.domain.records import body_digest
from services.rating.usecases.balances import (
    REFILL,
    TRIES_MAX,
    Balance,
    Balances,
    Owner,
    actor_for,
    gift_digest,
    require_seller,
    reused,
)
from services.rating.usecases.kit import Kit


class Refills:
    """Refills balances."""

    def __init__(self, kit: Kit, balances: Balances) -> None:
        self._kit = kit
        self._balances = balances

    async def refill(
        self, caller: Principal, name: str, quantity: int, validity_ms: int, maximum: int, request_id: str
    ) -> Balance:
        """Add to a balance, once for a request id.

        Args:
            caller: who asks.
            name: id of the balance.
            quantity: in its unit, more than 0.
            validity_ms: how long all of it is valid from now at least; 0 is without end.
            maximum: the most that it may hold; what goes over it is lost; 0 is without bound.
            request_id: the caller's.

        Raises:
            NotFoundError: no such balance for the caller.
            PermissionDeniedError: NOT_THE_SELLER, see `require_seller`.
            FailedPreconditionError: NOT_REFILLABLE, BALANCE_OVERFLOW.
            AlreadyExistsError: REQUEST_ID_REUSED.
            UnavailableError: BOOKS_BEHIND: a repeat could not be told.
        """
        caller.require_role(*WRITERS)
        if quantity <= 0:
            raise invalid("quantity", "must be more than 0")
        balance = await self._balances.get(caller, name)
        owner = await self._balances.owner(
            caller, balance.endpoint_id, "" if balance.endpoint_id else balance.account_id
        )
        require_seller(caller, owner)
        await self._require_refillable(balance)
        digest = gift_digest(caller, REFILL, owner.id, request_id)
        body = body_digest(f"{name} {quantity} {validity_ms} {maximum}".encode())
        if await self._balances.earlier_answer(digest, body, request_id) is None:
            by = actor_for(caller, owner.path, owner.account_id)
            bucket = name.removeprefix("bal_")
            await self._decide(
                owner, RefillOp(digest, body, owner.id, bucket, quantity, validity_ms, maximum, request_id, by)
            )
        return await self._balances.get(caller, name)

    async def bundle(self, owner: Owner, name: str) -> Balance:
        """A balance of an owner, as it is now, that can be refilled.

        Raises:
            NotFoundError: BALANCE_NOT_FOUND.
            FailedPreconditionError: NOT_REFILLABLE.
        """
        balance = next((each for each in await self._balances.of(owner) if each.id == name), None)
        if balance is None:
            raise not_found("balance", name)
        await self._require_refillable(balance)
        return balance

    async def _require_refillable(self, balance: Balance) -> None:
        """Only what came with a prepaid bundle, and not anew in each cycle, is refilled."""
        if balance.endpoint_id:
            known = self._kit.terms.known.get(balance.endpoint_id)
            if known is None:
                raise not_found("balance", balance.id)
            base, catalog = known.terms.base, known.chain.catalog
        else:
            account, catalog = await self._kit.terms.account(balance.account_id)
            base = account.base
        plan = catalog.plans.get(base.plan) if base is not None and base.id == balance.assignment_id else None
        if plan is None or not plan.refillable:
            raise _not_refillable()

    async def _decide(self, owner: Owner, op: RefillOp) -> None:
        for _ in range(TRIES_MAX):
            answered = await owner.cell.submit([owner.configure, op], {owner.id: owner.configure.version})
            outcome = answered.outcomes[-1]
            if outcome[0] in {Status.DONE, Status.REPEATED}:
                return
            if outcome[0] == Status.REUSED:
                raise reused(op.request_id)
            if outcome[0] == Status.FAILED and outcome[1] == Failure.OVERFLOW:
                raise FailedPreconditionError("BALANCE_OVERFLOW", "A balance holds at most 2^53 - 1 units.")
            if outcome[0] == Status.FAILED:
                raise _not_refillable()
        raise UnavailableError("TERMS_CHANGING", "The owner's plans are changing; try again.")


def _not_refillable() -> FailedPreconditionError:
    return FailedPreconditionError(
        "NOT_REFILLABLE",
        "Only a balance of a prepaid bundle that does not come anew in each cycle can be refilled. Assign an add-on.",
    )
