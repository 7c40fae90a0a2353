"""What accounts owe: the sum of all that was charged against credit, less what was given back and paid."""

from collections.abc import Iterator

from services.rating.domain.decisions import SegmentContent, Status
from services.rating.domain.operations import CREDIT_USED, AdjustOp, RefundOp
from services.rating.domain.programs import NO_HOLDER, StepMode
from services.rating.usecases.folding import ProgramSteps


def owed_changes(content: SegmentContent, programs: ProgramSteps) -> Iterator[tuple[str, int]]:
    """Holders, and by how much a segment raises what each owes, micros."""
    for used in content.used:
        if used.outcome[0] != Status.CHARGED:
            continue
        steps, _ = programs[used.program_id]
        for step, (_, _, _, amount, *_) in zip(steps, used.outcome[2], strict=True):
            if step.mode is StepMode.POSTPAID and step.holder != NO_HOLDER:
                yield step.holder or used.endpoint_id, amount
    for done in content.operations:
        if isinstance(done.op, RefundOp):
            for charged, (_, amount, *_) in zip(done.op.steps, done.answer[1], strict=True):
                if charged.mode == StepMode.POSTPAID and charged.holder != NO_HOLDER:
                    yield charged.holder, -amount
        elif isinstance(done.op, AdjustOp) and done.op.balance == CREDIT_USED:
            yield done.op.holder_id, done.op.change
