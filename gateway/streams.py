"""A stream of answers as lines of JSON (`application/x-ndjson`)."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import orjson
from google.protobuf.message import Message
from starlette.responses import Response, StreamingResponse

from gateway.problems import Problem
from gateway.transcode.bindings import Binding

MEDIA_TYPE = "application/x-ndjson"


async def lines(
    call: "grpc.aio.UnaryStreamCall[Any, Any]",
    binding: Binding,
    request_id: str,
    problem_of: Callable[[grpc.aio.AioRpcError], Problem],
) -> Response:
    """Answer with one line a message.

    A failure before the first message is raised, so that it has a status of its own; a later one can only be told in
    the stream: its last line is then `{"problem": ...}`. When the caller goes, the call is cancelled.
    """
    answers = call.__aiter__()
    first = await anext(answers, None)

    async def body() -> AsyncIterator[bytes]:
        try:
            if first is not None:
                yield _line(binding, first)
            async for answer in answers:
                yield _line(binding, answer)
        except grpc.aio.AioRpcError as error:
            yield orjson.dumps({"problem": problem_of(error).document(request_id)}, option=orjson.OPT_APPEND_NEWLINE)
        finally:
            call.cancel()

    return StreamingResponse(body(), media_type=MEDIA_TYPE, headers={"cache-control": "no-store"})


def _line(binding: Binding, answer: Message) -> bytes:
    return orjson.dumps(binding.answer_writer(answer), option=orjson.OPT_APPEND_NEWLINE)
