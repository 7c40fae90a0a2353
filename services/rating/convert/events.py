"""Events of the contract."""

from meterline.rating.v1 import events_pb2
from services.rating.convert.balances import timestamp
from services.rating.domain.happenings import Happening


def event_to_proto(event: Happening) -> events_pb2.Event:
    """Write an event."""
    message = events_pb2.Event(
        id=event.id,
        type=event.type,
        create_time=timestamp(event.created_ms),
        account_id=event.account_id,
        resource_type=event.resource_type,
        resource_id=event.resource_id,
    )
    message.payload.update(event.payload)
    return message
