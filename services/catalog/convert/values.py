"""Values that all nouns share: times, money, services, access types."""

from collections.abc import Iterable
from enum import IntEnum
from typing import TypeVar

from babel.numbers import is_currency
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.money_pb2 import Money

from services.catalog.domain.services import AccessType, Service
from services.common.errors import invalid
from services.common.money import MICROS, NANOS_A_MICRO
from services.runtime.amounts import micros_of

E = TypeVar("E", bound=IntEnum)


def time_to_proto(milliseconds: int) -> Timestamp:
    """Write a moment, milliseconds since 1970."""
    time = Timestamp()
    time.FromMilliseconds(milliseconds)
    return time


def enum_from_proto(kind: type[E], number: int, field: str) -> E:
    """Read an enum value that has to be stated; INVALID_ARGUMENT FIELD_REQUIRED for UNSPECIFIED."""
    if number == 0:
        raise invalid(field, f"is required: one of {', '.join(value.name for value in kind)}", "FIELD_REQUIRED")
    return kind(number)


def optional_enum_from_proto(kind: type[E], number: int) -> E | None:
    """Read an enum value; None for UNSPECIFIED."""
    return kind(number) if number else None


def services_from_proto(numbers: Iterable[int], field: str) -> tuple[Service, ...]:
    """Read a list of services, sorted."""
    return tuple(sorted(enum_from_proto(Service, n, f"{field}[{i}]") for i, n in enumerate(numbers)))


def access_types_from_proto(numbers: Iterable[int], field: str) -> tuple[AccessType, ...]:
    """Read a list of access types, sorted."""
    return tuple(sorted(enum_from_proto(AccessType, n, f"{field}[{i}]") for i, n in enumerate(numbers)))


def currency_from_proto(code: str, field: str) -> str:
    """Read a currency of ISO 4217, also one that is no money anywhere now: price lists live on, and roaming has XDR."""
    if code and not is_currency(code):
        raise invalid(field, f"{code!r} is not a currency of ISO 4217", "CURRENCY_UNKNOWN")
    return code


def money_to_proto(currency: str, micros: int) -> Money:
    """Write an amount of micros that is not negative."""
    units, rest = divmod(micros, MICROS)
    return Money(currency_code=currency, units=units, nanos=rest * NANOS_A_MICRO)


def price_from_proto(money: Money, currency: str, field: str, max_micros: int) -> int:
    """Read a price or fee as micros.

    Args:
        money: the amount; an empty currency means `currency`.
        currency: the currency that it has to be in.
        field: its path in the request.
        max_micros: highest permitted amount.

    Raises:
        InvalidArgumentError: CURRENCY_MISMATCH, PRICE_NOT_WHOLE_MICROS, PRICE_OUT_OF_RANGE.
    """
    if money.currency_code not in {"", currency}:
        raise invalid(field, f"is in {money.currency_code}, not in {currency or 'any currency'}", "CURRENCY_MISMATCH")
    if money.nanos % NANOS_A_MICRO:
        raise invalid(field, "has parts of a micro; nanos must be a multiple of 1000", "PRICE_NOT_WHOLE_MICROS")
    if not (0 <= money.nanos < MICROS * NANOS_A_MICRO and 0 <= money.units <= max_micros // MICROS):
        raise invalid(field, f"must be 0 to {max_micros // MICROS} units, nanos 0 to 999999000", "PRICE_OUT_OF_RANGE")
    micros = micros_of(money)
    if micros > max_micros:
        raise invalid(field, f"must be at most {max_micros // MICROS} units", "PRICE_OUT_OF_RANGE")
    return micros
