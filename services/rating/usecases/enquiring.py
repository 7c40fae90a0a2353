"""Price enquiry: what a use would cost at every level, decided by the Function as it stands, changing nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.common.errors import UnavailableError, invalid, not_found
from services.common.identity import CHARGERS, Principal
from services.rating.domain.decisions import ChargeOp, Op, Outcome, Purpose, Status, is_throttled
from services.rating.domain.events import UsageEvent, check
from services.rating.domain.programs import Program
from services.rating.domain.reasons import Mode, Reason
from services.rating.domain.reasons import Outcome as Became
from services.rating.domain.records import Position
from services.rating.ports import KnownEndpoint
from services.rating.usecases.books import Explanation, Record, charge_of, explanation
from services.rating.usecases.cells import Cell
from services.rating.usecases.charging import STALE_TRIES_MAX, program_for, visible_steps
from services.rating.usecases.kit import Kit
from services.rating.usecases.seeing import require_endpoint

NOWHERE = Position(0, 0, 0)


@dataclass(frozen=True, slots=True)
class Preview:
    """What a use would cost.

    Attributes:
        steps: its charges as they would be, of the steps that the caller sees.
        reason: why a step would refuse it for want of a rate or plan.
        throttled: whether it would be slowed down.
    """

    steps: Sequence[Explanation]
    reason: Reason
    throttled: bool


class Enquiries:
    """Answers what uses would cost."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    async def preview(self, caller: Principal, use: UsageEvent) -> Preview:
        """Say what a use would cost if no state, block, balance or limit stood against it.

        Raises:
            NotFoundError: no such endpoint or network for the caller.
            InvalidArgumentError: the use itself is wrong.
        """
        caller.require_role(*CHARGERS)
        self._kit.terms.require_current()
        wrong = check(use, self._kit.clock.now_ms())
        if wrong:
            raise invalid("use", wrong.detail, wrong.reason.name)
        for _ in range(STALE_TRIES_MAX):
            known = await require_endpoint(self._kit.terms, caller, use.endpoint_id)
            if use.network_id not in self._kit.terms.networks:
                raise not_found("network", use.network_id)
            program = program_for(known, use.service, use.network_id, use.access_type, use.usage_ms)
            cell = self._kit.cells.of(known.terms.enterprise_id)
            outcome = await self._ask(cell, known, program, use)
            if outcome[0] != Status.STALE:
                visible = max(visible_steps(caller, known.chain), 1)
                return _preview(known, program, use, outcome, visible)
            cell.holders.forget_chain(use.endpoint_id, known.chain.accounts)
            self._kit.terms.forget(use.endpoint_id)
        raise UnavailableError("TERMS_CHANGING", "The plans of this endpoint are changing; try again.")

    async def _ask(self, cell: Cell, known: KnownEndpoint, program: Program, use: UsageEvent) -> Outcome:
        expected: dict[str, int] = {}
        ops: list[Op] = [*cell.holders.prepare(known, program, expected, self._kit.clock.now_ms())]
        cell.holders.untold(ops)
        about = (use.quantity, use.usage_ms, Mode.OFFLINE, b"", use.cost, use.session_ref)
        ops.append(ChargeOp(bytes(16), bytes(8), use.endpoint_id, program, *about))
        return (await cell.preview(ops, expected, Purpose.ENQUIRY)).outcomes[-1]


def _preview(known: KnownEndpoint, program: Program, use: UsageEvent, outcome: Outcome, visible: int) -> Preview:
    record = Record(
        position=NOWHERE,
        path=known.chain.path,
        event_id="",
        endpoint_id=use.endpoint_id,
        service=use.service,
        network_id=use.network_id,
        access_type=use.access_type,
        usage_ms=use.usage_ms,
        quantity=use.quantity,
        mode=Mode.OFFLINE,
        outcome=Became.CHARGED,
        reason=Reason.NONE,
        refused_step=0,
        program_id="",
        steps=outcome[2],
        decided_ms=0,
    )
    explained, reason = [], Reason.NONE
    for number, step in enumerate(program.steps[:visible]):
        charge = charge_of(record, number, step)
        explained.append(explanation(charge, step, program.clocks))
        if charge.uncovered and not reason:
            reason = Reason.USAGE_LIMIT if step.pricing else step.no_rate
    return Preview(explained, reason, is_throttled(outcome))
