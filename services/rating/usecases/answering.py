"""Ids that a segment answered: what must be remembered so that each is decided once."""

from collections.abc import Iterator

from services.rating.domain.decisions import Segment, SegmentContent
from services.rating.ports import AnsweredId


def answered_ids(segment: Segment, content: SegmentContent) -> Iterator[AnsweredId]:
    """Yield the ids of the events, and of the requests, that a segment answered."""
    at = segment.sequence, segment.decided_ms
    for used in content.used:
        yield AnsweredId(used.id_digest, used.body_digest, at[0], used.operation, at[1])
    for request in content.requests:
        yield AnsweredId(request.id_digest, request.body_digest, at[0], request.operation, at[1])
    for done in content.operations:
        asked = done.op.request
        yield AnsweredId(asked.id_digest, asked.body_digest, at[0], done.operation, at[1])
