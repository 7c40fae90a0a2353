"""Events, answers and sessions of the contract."""

from collections.abc import Sequence

from meterline.rating.v1 import charging_pb2
from services.rating.domain.decisions import SessionAction
from services.rating.domain.events import NOT_STATED, Answer, UsageEvent
from services.rating.domain.reasons import Mode
from services.rating.domain.records import body_digest
from services.rating.usecases.sessions import Session, SessionCall, Units, session_id

_MODES = {0: Mode.OFFLINE, 1: Mode.ONLINE, 2: Mode.OFFLINE}
"""Modes of the contract; not stated means OFFLINE, which loses nothing."""


def event_from_proto(event: charging_pb2.UsageEvent) -> UsageEvent:
    """Read an event; one that is too malformed to be read is found out later."""
    return UsageEvent(
        event.event_id,
        event.endpoint_id,
        event.service,
        event.network_id,
        event.access_type,
        event.usage_time_ms,
        event.quantity or (0 if event.HasField("quantity") else NOT_STATED),
        _MODES.get(event.mode, 0),
        event.SerializeToString(deterministic=True),
        event.cost_micros,
        event.session_ref,
    )


def answer_to_proto(answer: Answer, into: charging_pb2.ChargeResult) -> None:
    """Write an answer into a result; fields that are 0 stay unset."""
    into.outcome = answer.outcome  # type: ignore[assignment]
    if answer.amounts:
        into.amounts_micros.extend(answer.amounts)
    into.usage_record_id = answer.usage_record_id
    if answer.reason:
        into.reason = answer.reason  # type: ignore[assignment]
        into.refused_step = answer.refused_step
        into.detail = answer.detail
    if answer.uncovered:
        into.uncovered_quantity = answer.uncovered
    if answer.replayed:
        into.replayed = True
    if answer.throttled:
        into.throttled = True


def answers_to_proto(batch_id: int, answers: Sequence[Answer]) -> charging_pb2.ChargeUsageResponse:
    """Write the answers to a batch."""
    response = charging_pb2.ChargeUsageResponse(batch_id=batch_id)
    add = response.results.add
    for answer in answers:
        answer_to_proto(answer, add())
    return response


def _units(units: Sequence[charging_pb2.UnitUsage]) -> list[Units]:
    return [Units(each.service, each.used_quantity, each.requested_quantity, each.usage_time_ms) for each in units]


def _content(
    request: charging_pb2.CreateChargingSessionRequest | charging_pb2.UpdateChargingSessionRequest,
) -> bytes:
    """What a repeat of a call has in common with it: a dry run of it is one."""
    if request.validate_only:
        asked = type(request)()
        asked.CopyFrom(request)  # type: ignore[arg-type] # of its own type
        asked.ClearField("validate_only")
        return asked.SerializeToString(deterministic=True)
    return request.SerializeToString(deterministic=True)


def create_from_proto(request: charging_pb2.CreateChargingSessionRequest) -> SessionCall:
    """Read the opening of a session."""
    return SessionCall(
        session_id=session_id(request.endpoint_id, request.session_ref),
        session_ref=request.session_ref,
        action=SessionAction.CREATE,
        sequence=0,
        endpoint_id=request.endpoint_id,
        network_id=request.network_id,
        access_type=request.access_type,
        units=_units(request.units),
        event_ms=request.event_time_ms,
        body_digest=body_digest(_content(request)),
        dry_run=request.validate_only,
    )


def update_from_proto(request: charging_pb2.UpdateChargingSessionRequest, action: SessionAction) -> SessionCall:
    """Read an update or release of a session."""
    return SessionCall(
        session_id=request.session_id,
        session_ref="",
        action=action,
        sequence=request.sequence_number,
        endpoint_id="",
        network_id=request.network_id,
        access_type=request.access_type,
        units=_units(request.units),
        event_ms=request.event_time_ms,
        body_digest=body_digest(bytes([action]) + _content(request)),
        dry_run=request.validate_only,
    )


def session_to_proto(session: Session) -> charging_pb2.ChargingSession:
    """Write a session."""
    message = charging_pb2.ChargingSession(
        id=session.id,
        session_ref=session.session_ref,
        endpoint_id=session.endpoint_id,
        state=session.state,  # type: ignore[arg-type]
        sequence_number=session.sequence,
        replayed=session.replayed,
    )
    message.valid_until.FromMilliseconds(session.valid_until_ms)
    message.expire_time.FromMilliseconds(session.ends_ms)
    message.late = session.late
    for grant in session.grants:
        added = message.grants.add(
            service=grant.service,
            granted_quantity=grant.granted,
            reason=grant.reason,
            limiting_step=grant.limiting_step,
            final_unit=grant.final,
            uncovered_quantity=grant.uncovered,
            amounts_micros=grant.amounts,
            throttled=grant.throttled,
        )
        if grant.switch_ms:
            added.tariff_switch_time.FromMilliseconds(grant.switch_ms)
    return message
