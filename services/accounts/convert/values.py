"""Moments, money and update masks of the contract."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.money_pb2 import Money as MoneyMessage

from services.common.errors import invalid
from services.common.money import MAX_MICROS, MICROS, NANOS_A_MICRO, Money
from services.runtime.amounts import micros_of
from services.runtime.limits import is_output_only

M = TypeVar("M", bound=Message)

_SECONDS_MAX = 253_402_300_799
"""9999-12-31T23:59:59Z, the last second that a Timestamp may hold."""


def timestamp(milliseconds: int) -> Timestamp:
    """Write a moment."""
    message = Timestamp()
    message.FromMilliseconds(milliseconds)
    return message


def milliseconds(message: Timestamp, field: str) -> int:
    """Read a moment from 1970 on; one that no Timestamp may hold is INVALID_ARGUMENT."""
    if not (0 <= message.seconds <= _SECONDS_MAX and 0 <= message.nanos < 1_000_000_000):
        raise invalid(field, "is not a time between 1970 and 9999")
    return int(message.ToMilliseconds())


def money_to_proto(money: Money) -> MoneyMessage:
    """Write an amount that is not negative."""
    units, micros = divmod(money.micros, MICROS)
    return MoneyMessage(currency_code=money.currency, units=units, nanos=micros * NANOS_A_MICRO)


def money_from_proto(message: MoneyMessage, field: str) -> Money:
    """Read an amount that is not negative and a whole number of micros."""
    if message.units < 0 or message.nanos < 0:
        raise invalid(field, "is negative")
    if message.nanos >= MICROS * NANOS_A_MICRO or message.nanos % NANOS_A_MICRO:
        raise invalid(f"{field}.nanos", "must be below 1,000,000,000 and a multiple of 1,000: whole micros")
    micros = micros_of(message)
    if micros > MAX_MICROS:
        raise invalid(field, f"is more than {MAX_MICROS // MICROS:,} units of the currency")
    return Money(message.currency_code, micros)


def changes_of(
    message: M, mask: FieldMask, fields: Mapping[str, Callable[[M], Any]], immutable: Collection[str] = ()
) -> dict[str, Any]:
    """Return the new values of the fields that an update names, by path.

    Args:
        message: carries the values.
        mask: paths; empty means all fields that are set.
        fields: reads each field that may change, by path.
        immutable: of those, the ones that a change must leave as they are; unset says nothing about them.

    Raises:
        InvalidArgumentError: FIELD_UNKNOWN, a path that is no field. Output-only fields and `etag` are ignored.
    """
    set_fields = [field.name for field, _ in message.ListFields()]
    fields_of_message: Any = message.DESCRIPTOR.fields
    ignored = {field.name for field in fields_of_message if is_output_only(field)} | {"etag"}
    paths = [path for path in (mask.paths or set_fields) if path not in ignored]
    for path in paths:
        if path not in fields:
            raise invalid("update_mask", f"{path!r} is not a field that can be named here", "FIELD_UNKNOWN")
    return {path: fields[path](message) for path in paths if path not in immutable or path in set_fields}
