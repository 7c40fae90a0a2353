"""Moments as milliseconds and as timestamps."""

from google.protobuf.timestamp_pb2 import Timestamp

from services.common.errors import invalid

_MS_MIN, _MS_MAX = -62_135_596_800_000, 253_402_300_799_999  # years 1 to 9999


def to_timestamp(ms: int) -> Timestamp:
    """Write milliseconds since 1970."""
    seconds, rest = divmod(ms, 1000)
    return Timestamp(seconds=seconds, nanos=rest * 1_000_000)


def from_timestamp(time: Timestamp, field: str) -> int:
    """Read milliseconds since 1970; a moment outside the years 1 to 9999 is INVALID_ARGUMENT."""
    ms = time.seconds * 1000 + time.nanos // 1_000_000
    if not (_MS_MIN <= ms <= _MS_MAX and 0 <= time.nanos < 1_000_000_000):
        raise invalid(field, "is not a moment in the years 1 to 9999")
    return ms
