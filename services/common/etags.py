"""Optimistic locking: who read an object may ask that its change holds only for what was read."""

from services.common.errors import AbortedError


def require_etag(version: int, etag: str) -> None:
    """Raise ABORTED ETAG_MISMATCH if the caller decided on an older version; an empty etag decides on any."""
    if etag and etag != str(version):
        raise AbortedError(
            "ETAG_MISMATCH",
            f"It has changed since etag {etag!r} was read; now it is {version}. Read it again, then decide.",
            metadata={"etag": str(version)},
        )
