"""Reads a segment of the journal back into what was asked and what became of it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from meterline.rating.v1 import charging_pb2
from services.rating.domain.decisions import (
    Actor,
    AnsweredRequest,
    Notice,
    Outcome,
    Segment,
    SegmentContent,
    Status,
    Used,
)
from services.rating.domain.operations import DoneOperation
from services.rating.domain.reasons import Mode
from services.rating.domain.records import body_digest, id_digest
from services.rating.engine import operations
from services.rating.engine.wire import OpKind, read_decided, read_images
from services.runtime.packing import unpack


def read_segment(segment: Segment) -> SegmentContent:
    """Read a segment."""
    programs, records = unpack(segment.records)
    outcomes, movements, told = read_decided(segment.outcomes)
    used: list[Used] = []
    requests: list[AnsweredRequest] = []
    done: list[DoneOperation] = []
    for operation, (record, outcome) in enumerate(zip(records, outcomes, strict=True)):
        if record[0] == OpKind.CHARGE:
            if outcome[0] <= Status.REFUSED:
                used.append(_event(operation, programs[record[1]], record[2], outcome))
        elif record[0] == OpKind.SESSION and outcome[0] == Status.DONE:
            used += _session(operation, programs, record, outcome)
        elif record[0] == OpKind.TOP_UP and outcome[0] == Status.DONE:
            _, holder_id, micros, request_id, by, digest, body = record
            asked = (holder_id, micros, request_id, Actor(*by), digest, body)
            requests.append(AnsweredRequest(operation, *asked, outcome[1]))
        elif record[0] in operations.KINDS and outcome[0] == Status.DONE:
            done.append(operations.from_journal(operation, record, outcome))
        elif record[0] == OpKind.REFILL and outcome[0] == Status.DONE:
            _, holder_id, quantity, request_id, by, digest, body, bucket = record
            asked = (holder_id, quantity, request_id, Actor(*by), digest, body)
            requests.append(AnsweredRequest(operation, *asked, outcome[1], bucket, quantity - outcome[3]))
    notices = [_notice(notice, programs, records) for notice in told]
    return SegmentContent(programs, used, requests, movements, read_images(segment.images), notices, done)


def _notice(notice: Notice, programs: Sequence[str], records: Sequence[Any]) -> Notice:
    """Say of whose balance it speaks."""
    record = records[notice.operation]
    if record[0] == OpKind.CHARGE:
        endpoint_id = charging_pb2.UsageEvent.FromString(record[2]).endpoint_id
        return replace(notice, program_id=programs[record[1]], endpoint_id=endpoint_id)
    if record[0] == OpKind.SESSION:
        reported = record[2]
        return replace(notice, program_id=programs[reported[0][1]] if reported else "", endpoint_id=record[1][2])
    if record[0] in operations.KINDS:
        return replace(
            notice, path=operations.from_journal(notice.operation, record, [Status.DONE]).op.request.by.owner_path
        )
    return replace(notice, path=record[1] if record[0] == OpKind.CONFIGURE else record[4][2])


def _event(operation: int, program_id: str, packed: bytes, outcome: Outcome) -> Used:
    event = charging_pb2.UsageEvent.FromString(packed)
    endpoint_id, event_id = event.endpoint_id, event.event_id
    return Used(
        operation,
        0,
        program_id,
        outcome,
        event_id,
        endpoint_id,
        event.service,
        event.network_id,
        event.access_type,
        event.usage_time_ms,
        event.quantity,
        1 if event.mode == charging_pb2.USAGE_MODE_ONLINE else 2,
        id_digest(endpoint_id, event_id),
        body_digest(packed),
    )


def _session(operation: int, programs: Sequence[str], record: list[Any], outcome: Outcome) -> Iterator[Used]:
    _, (session_id, sequence, endpoint_id, network_id, access_type, _), lines = record
    for line, ((service, program, quantity, usage_ms), answer) in enumerate(zip(lines, outcome[1], strict=True)):
        if answer[4]:
            event_id = f"{session_id}.{sequence}.{line}"
            yield Used(
                operation,
                line,
                programs[program],
                answer[4],
                event_id,
                endpoint_id,
                service,
                network_id,
                access_type,
                usage_ms,
                quantity,
                Mode.OFFLINE,
                id_digest(endpoint_id, event_id),
                bytes(8),
            )
