"""Refunds, adjustments, transfers and price enquiries of the contract."""

from meterline.rating.v1 import balances_pb2, rating_pb2, refunds_pb2
from services.rating.convert.balances import timestamp
from services.rating.convert.books import explanation_to_proto
from services.rating.domain.balances import balance_id
from services.rating.domain.events import UsageEvent
from services.rating.domain.operations import CREDIT_USED, MONEY, AdjustOp, TransferOp
from services.rating.domain.reasons import Mode
from services.rating.usecases.corrections import Corrected
from services.rating.usecases.enquiring import Preview
from services.rating.usecases.refunds import Refund, RefundedStep, RefundPage, RefundSelection


def adjustment_to_proto(made: Corrected) -> balances_pb2.BalanceAdjustment:
    """Write an adjustment."""
    op = made.done.op
    assert isinstance(op, AdjustOp)  # noqa: S101 - a request id stands for one kind of request
    of_credit = op.balance == CREDIT_USED
    return balances_pb2.BalanceAdjustment(
        id=made.id("adj"),
        balance_id=balance_id(op.holder_id, MONEY if of_credit else op.balance),
        target=balances_pb2.ADJUSTMENT_TARGET_CREDIT_USED if of_credit else balances_pb2.ADJUSTMENT_TARGET_REMAINING,
        change=op.change,
        after=made.done.answer[0] + op.elsewhere,
        reason=op.request.reason,
        create_time=timestamp(made.decided_ms),
        replayed=made.replayed,
    )


def transfer_to_proto(made: Corrected) -> balances_pb2.BalanceTransfer:
    """Write a transfer."""
    op = made.done.op
    assert isinstance(op, TransferOp)  # noqa: S101 - a request id stands for one kind of request
    from_remaining, to_remaining = made.done.answer
    return balances_pb2.BalanceTransfer(
        id=made.id("trf"),
        from_balance_id=balance_id(op.from_id, MONEY),
        to_balance_id=balance_id(op.to_id, MONEY),
        amount_micros=op.amount,
        from_remaining=from_remaining,
        to_remaining=to_remaining,
        reason=op.request.reason,
        create_time=timestamp(made.decided_ms),
        replayed=made.replayed,
    )


def _step_to_proto(step: RefundedStep) -> refunds_pb2.RefundedStep:
    return refunds_pb2.RefundedStep(
        step=step.step,
        payer_id=step.payer_id,
        payee_id=step.payee_id,
        quantity=step.quantity,
        amount_micros=step.amount,
        currency=step.currency,
        balances=[
            refunds_pb2.RefundedBalance(
                balance_id=balance_id("", each.bucket),
                is_money=each.is_money,
                restored_quantity=each.restored,
                lapsed_quantity=each.lapsed,
            )
            for each in step.balances
        ],
    )


def refund_to_proto(refund: Refund) -> refunds_pb2.Refund:
    """Write a refund."""
    return refunds_pb2.Refund(
        id=refund.id,
        usage_record_id=refund.usage_record_id,
        endpoint_id=refund.endpoint_id,
        quantity=refund.quantity,
        steps=[_step_to_proto(step) for step in refund.steps],
        reason=refund.reason,
        create_time=timestamp(refund.decided_ms),
        replayed=refund.replayed,
    )


def refunds_to_proto(page: RefundPage) -> refunds_pb2.ListRefundsResponse:
    """Write a page of refunds."""
    return refunds_pb2.ListRefundsResponse(
        refunds=[refund_to_proto(refund) for refund in page.refunds],
        next_page_token=page.next_page_token,
        complete_until=timestamp(page.complete_until_ms),
    )


def refund_selection_from_proto(request: refunds_pb2.ListRefundsRequest) -> RefundSelection:
    """Read which refunds are asked for."""
    return RefundSelection(request.usage_record_id, request.endpoint_id)


def use_from_proto(request: rating_pb2.PreviewRatingRequest, now_ms: int) -> UsageEvent:
    """Read a use that is asked about."""
    return UsageEvent(
        "preview",
        request.endpoint_id,
        request.service,
        request.network_id,
        request.access_type,
        request.usage_time_ms or now_ms,
        request.quantity,
        Mode.OFFLINE,
        b"",
        request.cost_micros,
        request.session_ref,
    )


def preview_to_proto(preview: Preview) -> rating_pb2.PreviewRatingResponse:
    """Write what a use would cost; what was not charged has no ids."""
    steps = [explanation_to_proto(step) for step in preview.steps]
    for step in steps:
        step.charge.ClearField("id")
        step.charge.ClearField("usage_record_id")
    return rating_pb2.PreviewRatingResponse(
        steps=steps,
        reason=preview.reason,  # type: ignore[arg-type]
        throttled=preview.throttled,
    )
