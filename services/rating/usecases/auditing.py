"""What the audit trail says of corrections."""

from typing import Any

from services.rating.domain.balances import balance_id
from services.rating.domain.operations import CREDIT_USED, MONEY, AdjustOp, DoneOperation, RefundOp, TransferOp

PREFIXES = {RefundOp: "rfd", AdjustOp: "adj", TransferOp: "trf"}
"""What the id of a correction begins with."""
REFUND_METHOD = "meterline.rating.v1.RefundService/CreateRefund"
ADJUST_METHOD = "meterline.rating.v1.BalanceService/AdjustBalance"
TRANSFER_METHOD = "meterline.rating.v1.BalanceService/TransferBalance"


def audited(done: DoneOperation) -> dict[str, Any]:
    """Method, resource, and what it was before and after."""
    op, answer = done.op, done.answer
    if isinstance(op, RefundOp):
        steps = [
            {"step": step, "quantity": units, "amount_micros": amount}
            for step, (units, amount, *_) in enumerate(answer[1])
        ]
        after = {"quantity": answer[0], "steps": steps, "reason": op.request.reason}
        return _entry(REFUND_METHOD, "usage_record", op.usage_record_id, {}, after)
    if isinstance(op, AdjustOp):
        name = "credit_used_micros" if op.balance == CREDIT_USED else "remaining"
        bucket = MONEY if op.balance == CREDIT_USED else op.balance
        left = answer[0] + op.elsewhere
        after = {name: left, "change": op.change, "reason": op.request.reason}
        return _entry(ADJUST_METHOD, "balance", balance_id(op.holder_id, bucket), {name: left - op.change}, after)
    giver, taker = balance_id(op.from_id, MONEY), balance_id(op.to_id, MONEY)
    before = {giver: answer[0] + op.amount, taker: answer[1] - op.amount}
    after = {giver: answer[0], taker: answer[1], "amount_micros": op.amount, "reason": op.request.reason}
    return _entry(TRANSFER_METHOD, "balance", giver, before, after)


def _entry(method: str, kind: str, name: str, before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    return {"method": method, "resource_type": kind, "resource_id": name, "before": before, "after": after}
