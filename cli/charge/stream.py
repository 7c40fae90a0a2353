"""The stream to rating: batches go out, answers come back, and a broken stream loses nothing.

At most ``IN_FLIGHT_MAX`` batches are unanswered. When the stream breaks, they are sent again on a new one with the
same numbers and the same event ids, so that rating answers what it has already charged without charging it again.
"""

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import grpc
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from cli.client import Connection
from cli.output import Failure
from meterline.rating.v1.charging_pb2 import ChargeResult, ChargeUsageRequest, ChargeUsageResponse, UsageEvent
from meterline.rating.v1.charging_pb2_grpc import ChargingServiceStub
from services.common.errors import DeadlineExceededError, MeterlineError, UnavailableError
from services.runtime.statuses import from_rpc_error

BATCH_EVENTS = 500
IN_FLIGHT_MAX = 16
ANSWER_TIMEOUT_S = 60.0
BREAKS_MAX = 12
"""So many breaks in a row without an answer between them, and the charging gives up."""
PAUSE_S = 0.2
PAUSE_MAX_S = 10.0
_PASSING = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "ABORTED", "INTERNAL"})
"""Statuses after which the same batch may be answered."""

_OVERTAKEN = "Internal error from Core"
"""What gRPC says of a write on a stream that ended before its status arrived."""


@dataclass(slots=True)
class Batch:
    """Events that are sent together.

    Attributes:
        number: from 1, unique in a run.
        lines: the line of each event.
        events: up to 1000.
        sendings: how often it was sent.
    """

    number: int
    lines: list[int] = field(default_factory=list)
    events: list[UsageEvent] = field(default_factory=list)
    sendings: int = 0


class BrokenStreamError(Exception):
    """The stream ended though answers were missing.

    Attributes:
        code: name of the gRPC status.
        retry_after_s: how long the server asks to wait.
    """

    def __init__(self, code: str, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after_s = retry_after_s


Call: TypeAlias = "grpc.aio.StreamStreamCall[ChargeUsageRequest, ChargeUsageResponse]"
OnAnswer = Callable[[Batch, list[ChargeResult]], None]


class UsageStream:
    """Charges batches, each answered exactly once to ``on_answer`` however often the stream breaks.

    Args:
        connection: to rating.
        on_answer: gets a batch and one result for each of its events.
        tell: gets a sentence when the stream breaks.
    """

    def __init__(self, connection: Connection, on_answer: OnAnswer, tell: Callable[[str], None]) -> None:
        self._connection = connection
        self._stub = ChargingServiceStub(connection.channel)
        self._on_answer = on_answer
        self._tell = tell
        self._unanswered: dict[int, Batch] = {}
        self._breaks = 0

    async def charge(self, batches: AsyncIterator[Batch]) -> None:
        """Charge all batches.

        Raises:
            Failure: rating refuses the stream as such, or cannot be reached for long; nothing that was answered is
                lost, and to send the whole file again is safe.
        """
        retrying = AsyncRetrying(
            retry=retry_if_exception(lambda error: isinstance(error, BrokenStreamError) and error.code in _PASSING),
            stop=lambda _state: self._breaks >= BREAKS_MAX,
            wait=self._pause_s,
            before_sleep=self._tell_of_break,
            reraise=True,
        )
        try:
            async for attempt in retrying:
                with attempt:
                    await self._one_stream(batches)
        except BrokenStreamError as error:
            raise Failure(
                f"charging stopped: {error} ({error.code})."
                f" {len(self._unanswered)} batches have no answer. Send the same file again when it is mended:"
                " what has been charged is answered, not charged again."
            ) from error

    async def _one_stream(self, batches: AsyncIterator[Batch]) -> None:
        call = self._stub.StreamUsage(metadata=self._connection.metadata)
        try:
            await self._pump(call, batches)
        except grpc.aio.AioRpcError as error:
            raise self._broken(from_rpc_error(error)) from error
        except asyncio.InvalidStateError as error:  # a write on a call that has ended; its status says why
            ended = grpc.aio.AioRpcError(
                await call.code(), await call.initial_metadata(), await call.trailing_metadata(), await call.details()
            )
            raise self._broken(from_rpc_error(ended)) from error
        except TimeoutError as error:
            silence = DeadlineExceededError("NO_ANSWER", f"no answer in {ANSWER_TIMEOUT_S:.0f} s")
            raise self._broken(silence) from error
        finally:
            call.cancel()

    async def _pump(self, call: Call, batches: AsyncIterator[Batch]) -> None:
        again = deque(self._unanswered.values())
        on_the_way, window = 0, 1  # until the first answer, so that a refusal is read and not overtaken by a write
        while True:
            while on_the_way < window and (batch := again.popleft() if again else await self._fresh(batches)):
                await self._send(call, batch)
                on_the_way += 1
            if not on_the_way:
                await call.done_writing()
                return
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                response = await call.read()
            if not isinstance(response, ChargeUsageResponse):
                raise self._broken(UnavailableError("STREAM_ENDED", "rating ended the stream"))
            self._answer(response)
            on_the_way, window = on_the_way - 1, IN_FLIGHT_MAX

    async def _fresh(self, batches: AsyncIterator[Batch]) -> Batch | None:
        batch = await anext(batches, None)
        if batch is not None:
            self._unanswered[batch.number] = batch
        return batch

    async def _send(self, call: Call, batch: Batch) -> None:
        batch.sendings += 1
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            await call.write(ChargeUsageRequest(batch_id=batch.number, events=batch.events))

    def _answer(self, response: ChargeUsageResponse) -> None:
        batch = self._unanswered.pop(response.batch_id, None)
        if batch is None or len(response.results) != len(batch.events):
            raise Failure(
                f"rating answered batch {response.batch_id} with {len(response.results)} results: not the contract."
            )
        self._breaks = 0
        self._on_answer(batch, list(response.results))

    def _broken(self, error: MeterlineError) -> BrokenStreamError:
        self._breaks += 1
        message = "the connection broke" if error.message == _OVERTAKEN else error.message.partition(";")[0]
        return BrokenStreamError(error.code, message, (error.retry_after_ms or 0) / 1000)

    def _pause_s(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after_s if isinstance(error, BrokenStreamError) else 0.0
        doubled = min(PAUSE_S * 2.0 ** (self._breaks - 1), PAUSE_MAX_S)
        return max(asked, doubled * random.uniform(0.5, 1.0))  # noqa: S311 - clients that broke together come back apart

    def _tell_of_break(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        pause = state.next_action.sleep if state.next_action else 0.0
        self._tell(f"the stream broke ({error}); sending {len(self._unanswered)} batches again in {pause:.1f} s")
