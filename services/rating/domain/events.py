"""Events as they come in and answers as they go out."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from services.common.clock import DAY_MS, MINUTE_MS
from services.rating.domain.reasons import Mode, Outcome, Reason

FUTURE_MAX_MS = 5 * MINUTE_MS
AGE_MAX_MS = 400 * DAY_MS
QUANTITY_MAX = 1 << 43
COST_MAX = 1 << 50
BATCH_MAX = 1000
NOT_STATED = -1
_is_name = re.compile("[!-~]{1,64}").fullmatch  # printable ASCII characters without spaces


@dataclass(slots=True)  # not frozen: that costs a microsecond each, and there are tens of thousands a second
class UsageEvent:
    """One use of the network.

    Attributes:
        usage_ms: when, milliseconds since 1970.
        quantity: bytes or messages; 0 if it was a session or record without any, NOT_STATED if nothing says.
        mode: 1 asks first, 2 reports.
        record: the event as the journal keeps it.
        cost: what the visited network asks, micros.
        session_ref: the session that it belongs to; empty if none is said.
    """

    event_id: str
    endpoint_id: str
    service: int
    network_id: str
    access_type: int
    usage_ms: int
    quantity: int
    mode: int
    record: bytes
    cost: int
    session_ref: str


@dataclass(frozen=True, slots=True)
class Invalid:
    """An event that cannot be taken; `detail` says what to mend."""

    reason: Reason
    detail: str = ""


@dataclass(slots=True)  # as UsageEvent
class Answer:
    """The answer to one event.

    Attributes:
        refused_step: the step that refused.
        amounts: micros of each visible step, from the endpoint upwards.
        uncovered: units that nothing covered, at the visible step where it is most.
        replayed: whether an earlier call decided it.
        throttled: whether it is to be slowed down.
    """

    outcome: Outcome
    reason: Reason = Reason.NONE
    refused_step: int = 0
    amounts: Sequence[int] = ()
    uncovered: int = 0
    usage_record_id: str = ""
    replayed: bool = False
    detail: str = ""
    throttled: bool = False


def check(event: UsageEvent, now_ms: int) -> Invalid | None:
    """Say what is wrong with an event by itself; None if nothing is."""
    wrong = _wrong_field(event)
    if wrong:
        return Invalid(Reason.FIELD_INVALID, wrong)
    least = 0 if event.mode == Mode.OFFLINE else 1
    if not least <= event.quantity <= QUANTITY_MAX:
        return Invalid(
            Reason.QUANTITY_OUT_OF_RANGE,
            f"quantity must be 1 to {QUANTITY_MAX}, or a stated 0 where a use without volume is reported (OFFLINE)",
        )
    if event.usage_ms > now_ms + FUTURE_MAX_MS:
        return Invalid(Reason.USAGE_TIME_IN_FUTURE, "usage_time_ms is more than five minutes ahead; it is UTC")
    if event.usage_ms < now_ms - AGE_MAX_MS:
        return Invalid(Reason.USAGE_TIME_TOO_OLD, "usage_time_ms is more than 400 days ago; it is milliseconds")
    return None


def _wrong_field(event: UsageEvent) -> str:
    if not _is_name(event.event_id):
        return "event_id needs 1 to 64 printable ASCII characters without spaces"
    if not 1 <= event.service <= 4:
        return "service must be SERVICE_DATA, SERVICE_SMS_MO, SERVICE_SMS_MT or SERVICE_NB_IOT"
    if not 1 <= event.access_type <= 4:
        return "access_type must be ACCESS_TYPE_2G, ACCESS_TYPE_3G, ACCESS_TYPE_4G or ACCESS_TYPE_5G"
    if not 1 <= event.mode <= 2:
        return "mode must be USAGE_MODE_ONLINE or USAGE_MODE_OFFLINE"
    return _wrong_price_field(event)


def _wrong_price_field(event: UsageEvent) -> str:
    if event.session_ref and not _is_name(event.session_ref):
        return "session_ref may have up to 64 printable ASCII characters without spaces"
    if not 0 <= event.cost <= COST_MAX:
        return f"cost_micros must be 0 to {COST_MAX}"
    return ""
