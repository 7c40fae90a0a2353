"""Corrections of balances: adjustments by hand and transfers; and how every correction is decided and answered."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.common.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    MeterlineError,
    UnavailableError,
    invalid,
)
from services.common.identity import WRITERS, Principal
from services.common.money import Money
from services.rating.domain.decisions import Actor, ConfigureOp, Failure, Op, Outcome, Status
from services.rating.domain.escrow import Kind
from services.rating.domain.operations import (
    CREDIT_USED,
    MONEY,
    REASON_MAX,
    AdjustOp,
    DoneOperation,
    OperationOp,
    Request,
    TransferOp,
)
from services.rating.domain.records import body_digest, id_digest
from services.rating.usecases.balances import Balances, Owner, actor_for, require_seller
from services.rating.usecases.cells import Answered, Cell
from services.rating.usecases.charging import books_behind
from services.rating.usecases.holders import NO_LIMIT
from services.rating.usecases.kit import Kit

TRIES_MAX = 5


@dataclass(frozen=True, slots=True)
class Corrected:
    """A correction with its answer.

    Attributes:
        sequence: the segment in which it stands; 0 if it was a dry run.
        done: what was asked and what became of it.
        decided_ms: when, milliseconds since 1970; 0 if it was a dry run.
        replayed: whether an earlier call did it.
    """

    cell: int
    sequence: int
    done: DoneOperation
    decided_ms: int
    replayed: bool

    def id(self, prefix: str) -> str:
        """Its id: where in the journal it stands; empty for a dry run."""
        return f"{prefix}_{self.cell}.{self.sequence}.{self.done.operation}" if self.sequence else ""


def request(caller: Principal, scope: str, request_id: str, reason: str, owner: Owner | Actor, body: str) -> Request:
    """Who asks for a correction; `scope` is what the request id is unique in, besides the caller's account."""
    if not reason.strip() or len(reason) > REASON_MAX:
        raise invalid("reason", f"must say why, in 1 to {REASON_MAX} characters")
    by = owner if isinstance(owner, Actor) else actor_for(caller, owner.path, owner.account_id)
    digest = correction_digest(caller, scope, request_id)
    return Request(digest, body_digest(f"{body} {reason}".encode()), request_id, reason, by)


def correction_digest(caller: Principal, scope: str, request_id: str) -> bytes:
    """What a correction is remembered by."""
    return id_digest(caller.account_id, f"{scope} {request_id}")


class Corrections:
    """Adjusts balances and transfers money, and decides refunds for `Refunds`."""

    def __init__(self, kit: Kit, balances: Balances) -> None:
        self._kit = kit
        self._balances = balances

    async def decide(
        self, cell: Cell, op: OperationOp, configures: Sequence[ConfigureOp], *, dry_run: bool, what: str
    ) -> Corrected:
        """Do a correction once for its request id, or say what it would do.

        Raises:
            AlreadyExistsError: REQUEST_ID_REUSED.
            FailedPreconditionError: REFUND_EXCEEDS_CHARGE, BALANCE_TOO_SMALL, CREDIT_LIMIT_EXCEEDED, BALANCE_ENDED,
                BALANCE_OVERFLOW.
            UnavailableError: BOOKS_BEHIND: a repeat could not be told.
        """
        number = cell.engine.cell
        behind = await books_behind(self._kit, self._kit.clock.now_ms())
        earlier = await self._kit.ledger.answered_at(op.request.id_digest)
        if earlier is not None:
            body, sequence, operation = earlier
            if body != op.request.body_digest:
                raise _reused(op.request.request_id)
            return await self._answered(number, sequence, operation, replayed=True)
        if behind is not None:
            raise behind
        ops: list[Op] = [*configures, op]
        for _ in range(TRIES_MAX):
            answered = await _submit(cell, ops, dry_run=dry_run)
            outcome = answered.outcomes[-1]
            status = outcome[0]
            if status == Status.DONE and dry_run:
                return Corrected(number, 0, DoneOperation(0, op, outcome[1:]), 0, replayed=False)
            if status == Status.DONE:
                return await self._answered(number, answered.sequence, answered.first + len(ops) - 1, replayed=False)
            if status == Status.REPEATED:
                return await self._answered(number, outcome[1], outcome[2] - 1, replayed=True)
            if status == Status.REUSED:
                raise _reused(op.request.request_id)
            if status == Status.FAILED:
                raise _failure(outcome, what)
        raise UnavailableError("TERMS_CHANGING", "The owner's plans are changing; try again.")

    async def _answered(self, cell: int, sequence: int, operation: int, *, replayed: bool) -> Corrected:
        """Read an answer out of the journal: the first one, and every repeat of it."""
        segment = (await self._kit.journal.get(cell, [sequence]))[sequence]
        found = self._kit.journal.content(segment).operations
        done = next(each for each in found if each.operation == operation)
        return Corrected(cell, sequence, done, segment.decided_ms, replayed)

    async def adjust(
        self,
        caller: Principal,
        name: str,
        change: int,
        *,
        credit_used: bool,
        reason: str,
        request_id: str,
        dry_run: bool = False,
    ) -> Corrected:
        """Change a balance by hand, or (credit_used) what an account owes.

        Args:
            caller: who asks.
            name: id of the balance.
            change: units, or micros of money; more than 0 adds to the balance, or to what is owed.
            credit_used: change what the owner of this money balance owes; a payment of it is less than 0.
            reason: why, in the caller's words.
            request_id: a repeat gets the same answer.
            dry_run: say what would happen, and change nothing.

        Raises:
            NotFoundError: no such balance for the caller.
            PermissionDeniedError: NOT_THE_SELLER, see `require_seller`.
        """
        caller.require_role(*WRITERS)
        if change == 0:
            raise invalid("change", "must not be 0")
        owner, bucket = await self._balances.owner_of(caller, name)
        if credit_used and (bucket or owner.endpoint_id):
            raise invalid("balance_id", "must be the money balance of an account to change what that owes")
        require_seller(caller, owner)
        balance = CREDIT_USED if credit_used else bucket
        asked = request(caller, "adjust", request_id, reason, owner, f"{owner.id} {balance} {change}")
        if credit_used and change > 0:
            await self._require_limit(owner, asked)
        what = "what is owed" if credit_used else "the balance"
        configure = await self._balances.holder_with(owner, name)
        op = AdjustOp(asked, configure.holder_id, balance, change, await self._elsewhere(owner, balance))
        adjusted = await self.decide(owner.cell, op, [configure], dry_run=dry_run, what=what)
        self._kit.escrow.replenished(owner.id)
        return adjusted

    async def _require_limit(self, owner: Owner, asked: Request) -> None:
        if owner.credit_limit == NO_LIMIT and not await self._balances.happened(asked.id_digest):
            raise FailedPreconditionError(
                "NO_CREDIT_LIMIT", f"What {owner.id} owes is not counted: it has no credit limit. Set one first."
            )

    async def withdraw(self, caller: Principal, scope: str, owner: Owner, request_id: str, reason: str) -> bool:
        """See to it that a correction that was refused will never be made; false if it was made.

        Only what was done is remembered, and a call that nobody waits for any more may still be on its way. So
        something else is done under its id: the owner's money changes by 0.
        """
        by = actor_for(caller, owner.path, owner.account_id)
        asked = Request(correction_digest(caller, scope, request_id), body_digest(b"withdrawn"), request_id, reason, by)
        nothing = AdjustOp(asked, owner.id, MONEY, 0, 0)
        try:
            await self.decide(owner.cell, nothing, [owner.configure], dry_run=False, what="the balance")
        except AlreadyExistsError:
            return False
        return True

    async def _elsewhere(self, owner: Owner, balance: str) -> int:
        """What an account above enterprises has, or owes, outside of the cell of its top-ups."""
        if self._kit.cells.count == 1 or owner.endpoint_id or balance not in {MONEY, CREDIT_USED}:
            return 0
        others = [cell for cell in self._kit.cells if cell is not owner.cell]
        found = [(await cell.read(lambda engine: engine.holders([owner.id]))).get(owner.id) for cell in others]
        holders = [holder for holder in found if holder is not None]
        if balance == CREDIT_USED:
            return sum(holder.credit_used for holder in holders)
        return sum(holder.money for holder in holders) + await self._kit.escrow.free(owner.id, Kind.MONEY)

    async def transfer(
        self,
        caller: Principal,
        giver: tuple[str, str],
        taker: tuple[str, str],
        amount: Money,
        *,
        reason: str,
        request_id: str,
        dry_run: bool = False,
    ) -> Corrected:
        """Move money between the wallet of an enterprise and its endpoints, or between its endpoints, all at once.

        Args:
            caller: who asks.
            giver: endpoint id and account id of whom it is taken from; one of the two is empty.
            taker: the same of who gets it.
            amount: more than 0.
            reason: why, in the caller's words.
            request_id: a repeat gets the same answer.
            dry_run: say what would happen, and change nothing.

        Raises:
            NotFoundError: no such endpoint or account for the caller.
            FailedPreconditionError: CURRENCY_MISMATCH, NOT_ONE_ENTERPRISE, BALANCE_TOO_SMALL, BALANCE_OVERFLOW,
                ENDPOINT_GONE.
        """
        caller.require_role(*WRITERS)
        if amount.micros <= 0:
            raise invalid("amount", "must be more than 0")
        source, target = await self._balances.owner(caller, *giver), await self._balances.owner(caller, *taker)
        if source.id == target.id:
            raise invalid("to", "is the owner that it is taken from")
        if source.account_id != target.account_id or not (source.endpoint_id or target.endpoint_id):
            raise FailedPreconditionError(
                "NOT_ONE_ENTERPRISE",
                "Money moves between an enterprise and its endpoints, or between its endpoints, only. "
                "Use a top-up for another account.",
            )
        for owner in (source, target):
            if owner.currency != amount.currency:
                raise FailedPreconditionError(
                    "CURRENCY_MISMATCH", f"The balance of {owner.id} is in {owner.currency or 'no currency'}."
                )
        body = f"{source.id} {target.id} {amount}"
        asked = request(caller, "transfer", request_id, reason, source, body)
        await self._balances.require_there(target, asked.id_digest)
        op = TransferOp(asked, source.id, target.id, amount.micros)
        configures = [source.configure, target.configure]
        return await self.decide(source.cell, op, configures, dry_run=dry_run, what="the money balance")


async def _submit(cell: Cell, ops: Sequence[Op], *, dry_run: bool) -> Answered:
    if dry_run:
        return await cell.preview(ops, {})
    answered = await cell.submit(ops, {})
    if answered.outcomes[-1][0] == Status.FAILED:  # it may have failed for want of what the balance store lost
        return await cell.submit_surely(ops, {})
    return answered


def _reused(request_id: str) -> AlreadyExistsError:
    return AlreadyExistsError(
        "REQUEST_ID_REUSED", f"The request id {request_id!r} was used for another request. Take a new one."
    )


def _failure(outcome: Outcome, what: str) -> MeterlineError:
    failure, number = Failure(outcome[1]), outcome[2]
    metadata = {"available": str(number)}
    if failure is Failure.REFUND_EXCEEDED:
        left = f"at most {number} units can still go back" if number else "all of it went back already"
        return FailedPreconditionError("REFUND_EXCEEDS_CHARGE", f"Of this charge {left}.", metadata=metadata)
    if failure is Failure.NOT_ENOUGH:
        return FailedPreconditionError(
            "BALANCE_TOO_SMALL", f"Of {what} at most {number} can be taken: it is never below what is reserved, or 0.",
            metadata=metadata,
        )  # fmt: skip
    if failure is Failure.LIMIT_EXCEEDED:
        return FailedPreconditionError(
            "CREDIT_LIMIT_EXCEEDED", f"At most {number} micros more can be owed within the credit limit.",
            metadata=metadata,
        )  # fmt: skip
    if failure is Failure.BUCKET_ENDED:
        return FailedPreconditionError("BALANCE_ENDED", "The balance expired or was removed; it does not come back.")
    return FailedPreconditionError("BALANCE_OVERFLOW", "A balance holds at most 2^53 - 1.")
