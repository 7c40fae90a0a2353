"""RatingService."""
# ruff: noqa: N802 - methods are named as in the contract

from typing import Any

from meterline.rating.v1 import rating_pb2, rating_pb2_grpc
from services.common.clock import Clock
from services.rating.convert.corrections import preview_to_proto, use_from_proto
from services.rating.usecases.enquiring import Enquiries
from services.runtime.server import current_call


class RatingServicer(rating_pb2_grpc.RatingServiceServicer):
    """Answers what uses would cost."""

    def __init__(self, enquiries: Enquiries, clock: Clock) -> None:
        self._enquiries = enquiries
        self._clock = clock

    async def PreviewRating(self, request: rating_pb2.PreviewRatingRequest, _: Any) -> rating_pb2.PreviewRatingResponse:
        """Say what a use would cost."""
        use = use_from_proto(request, self._clock.now_ms())
        return preview_to_proto(await self._enquiries.preview(current_call().caller, use))
