"""Usage records, charges and sums of the contract."""

from google.protobuf.timestamp_pb2 import Timestamp

from meterline.rating.v1 import charges_pb2, charging_pb2
from services.common.errors import invalid
from services.rating.convert.balances import timestamp
from services.rating.domain.balances import Drawn, assignment_of, balance_id
from services.rating.domain.reasons import Service, Unit
from services.rating.usecases.books import Charge, Explanation, Found, Record, RefusalSum, Selection, Sum

_DIMENSIONS = {
    charges_pb2.SUMMARY_DIMENSION_ENDPOINT: "endpoint",
    charges_pb2.SUMMARY_DIMENSION_NETWORK: "network",
    charges_pb2.SUMMARY_DIMENSION_COUNTRY: "country",
    charges_pb2.SUMMARY_DIMENSION_DAY: "day",
    charges_pb2.SUMMARY_DIMENSION_LEVEL: "level",
    charges_pb2.SUMMARY_DIMENSION_SERVICE: "service",
}


def _milliseconds(time: Timestamp) -> int:
    return max(time.ToMilliseconds(), 0)


def selection_from_proto(
    request: charges_pb2.ListUsageRecordsRequest | charges_pb2.ListChargesRequest | charges_pb2.SummarizeUsageRequest,
) -> Selection:
    """Read which records are asked for."""
    return Selection(
        endpoint_id=request.endpoint_id,
        account_id=getattr(request, "account_id", ""),
        event_id=getattr(request, "event_id", ""),
        outcome=getattr(request, "outcome", 0),
        start_ms=_milliseconds(request.start_time),
        end_ms=_milliseconds(request.end_time),
    )


def dimensions_from_proto(request: charges_pb2.SummarizeUsageRequest) -> frozenset[str]:
    """Read by what is summed."""
    for index, dimension in enumerate(request.group_by):
        if dimension not in _DIMENSIONS:
            raise invalid(f"group_by[{index}]", "must name a dimension")
    return frozenset(_DIMENSIONS[dimension] for dimension in request.group_by)


def record_to_proto(record: Record) -> charges_pb2.UsageRecord:
    """Write a usage record."""
    return charges_pb2.UsageRecord(
        id=record.id,
        event=charging_pb2.UsageEvent(
            event_id=record.event_id,
            endpoint_id=record.endpoint_id,
            service=record.service,  # type: ignore[arg-type]
            network_id=record.network_id,
            access_type=record.access_type,  # type: ignore[arg-type]
            usage_time_ms=record.usage_ms,
            quantity=record.quantity,
            mode=record.mode,  # type: ignore[arg-type]
        ),
        enterprise_id=record.path[-1],
        outcome=record.outcome,  # type: ignore[arg-type]
        reason=record.reason,  # type: ignore[arg-type]
        refused_step=record.refused_step,
        decide_time=timestamp(record.decided_ms),
    )


def charge_to_proto(charge: Charge) -> charges_pb2.Charge:
    """Write a charge."""
    record = charge.record
    return charges_pb2.Charge(
        id=charge.id,
        usage_record_id=record.id,
        step=charge.step,
        payer_id=charge.payer_id,
        payee_id=charge.payee_id,
        endpoint_id=record.endpoint_id,
        service=record.service,  # type: ignore[arg-type]
        network_id=record.network_id,
        quantity=record.quantity,
        benefit_quantity=charge.benefit,
        rated_quantity=charge.rated,
        uncovered_quantity=charge.uncovered,
        amount_micros=charge.amount,
        currency=charge.currency,
        usage_time=timestamp(record.usage_ms),
    )


def explanation_to_proto(explained: Explanation) -> charges_pb2.ChargeExplanation:
    """Write why a charge is what it is."""
    step, record = explained.step, explained.charge.record
    return charges_pb2.ChargeExplanation(
        charge=charge_to_proto(explained.charge),
        plan_id=step.plan[0],
        plan_version=step.plan[1],
        tariff_id=step.tariff[0],
        tariff_version=step.tariff[1],
        rate_id=step.rate_id,
        rate_zone_id=step.zone_id,
        draws=[
            charges_pb2.ChargeDraw(
                balance_id=balance_id("", bucket),
                assignment_id=assignment_of(bucket),
                quantity=quantity,
                activated=bool(what & Drawn.ACTIVATED),
                unit=Unit.MONEY if what & Drawn.OF_MONEY else Service(record.service).unit,  # type: ignore[arg-type]
            )
            for bucket, quantity, what in explained.charge.draws
        ],
        rounded_quantity=explained.rounded,
        program_id=record.program_id,
        sentences=explained.sentences,
    )


def _sum_to_proto(row: Sum) -> charges_pb2.UsageSummary:
    return charges_pb2.UsageSummary(
        endpoint_id=row.endpoint_id,
        network_id=row.network_id,
        country_code=row.country,
        day=row.day,
        payer_id=row.path[-1],
        payee_id=row.path[-1] if row.step == 0 else row.path[-2],
        step=row.step,
        service=row.service,  # type: ignore[arg-type]
        record_count=row.records,
        data_bytes=row.data,
        messages=row.messages,
        benefit_quantity=row.benefit,
        uncovered_quantity=row.uncovered,
        amount_micros=row.amount,
        currency=row.currency,
    )


def _refusal_to_proto(row: RefusalSum) -> charges_pb2.RefusalCount:
    return charges_pb2.RefusalCount(
        reason=row.reason,  # type: ignore[arg-type]
        step=row.step,
        record_count=row.records,
        data_bytes=row.data,
        messages=row.messages,
    )


def summaries_to_proto(found: Found) -> charges_pb2.SummarizeUsageResponse:
    """Write a page of sums."""
    return charges_pb2.SummarizeUsageResponse(
        summaries=[_sum_to_proto(row) for row in found.rows],
        next_page_token=found.next_page_token,
        complete_until=timestamp(found.complete_until_ms),
        refusals=[_refusal_to_proto(row) for row in found.refusals],
    )
