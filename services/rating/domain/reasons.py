"""Outcomes and reasons of charging; numbers as in the contract (meterline.rating.v1.Outcome, Reason)."""

from enum import IntEnum


class Outcome(IntEnum):
    """What became of an event."""

    CHARGED = 1
    REFUSED = 2
    INVALID = 3


class Reason(IntEnum):
    """Why an event was refused or is invalid."""

    NONE = 0
    BALANCE_DEPLETED = 1
    NO_VALID_ADDON = 2
    USAGE_LIMIT = 3
    CREDIT_LIMIT = 4
    ACCOUNT_NOT_ACTIVE = 5
    SERVICE_BARRED = 6
    NETWORK_NOT_ALLOWED = 7
    NO_RATE = 8
    NO_BASE_PLAN = 9
    ENDPOINT_NOT_ACTIVE = 10
    ENDPOINT_BLOCKED = 11
    ENDPOINT_NOT_FOUND = 20
    NETWORK_NOT_FOUND = 21
    EVENT_ID_REUSED = 22
    USAGE_TIME_IN_FUTURE = 23
    USAGE_TIME_TOO_OLD = 24
    QUANTITY_OUT_OF_RANGE = 25
    FIELD_INVALID = 26
    AMOUNT_OUT_OF_RANGE = 27


class Mode(IntEnum):
    """Whether a charge asks first or reports."""

    ONLINE = 1
    OFFLINE = 2


class Service(IntEnum):
    """A network service; the closed set of [001]."""

    DATA = 1
    SMS_MO = 2
    SMS_MT = 3
    NB_IOT = 4

    @property
    def unit(self) -> "Unit":
        """The unit in which its volumes are counted."""
        return Unit.BYTES if self in {Service.DATA, Service.NB_IOT} else Unit.MESSAGES


class Unit(IntEnum):
    """The unit of a balance."""

    BYTES = 1
    MESSAGES = 2
    SECONDS = 3
    MONEY = 4


class MovementKind(IntEnum):
    """Why a balance moved."""

    GRANT = 1
    DRAW = 2
    TOP_UP = 3
    EXPIRY = 4
    REMOVAL = 5
    REFUND = 6
    ADJUSTMENT = 7
    TRANSFER = 8
    ROLL_OVER = 9
    REFILL = 10
    LEASE = 11


class BalanceState(IntEnum):
    """Whether a balance can be drawn on."""

    PENDING = 1
    ACTIVE = 2
    DEPLETED = 3
    EXPIRED = 4
    REMOVED = 5
